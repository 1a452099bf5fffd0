"""Models for programs that do not have d2v: a graph of torch.export, ONNX, timm's BEiT, plain safetensors.

Every export is a folder with a copy of `config.json`, which says how raw items become inputs.

Shape legend: B items, T tokens, D width.
"""

from __future__ import annotations

import contextlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from d2v.errors import ConfigError
from d2v.interchange.huggingface_export import Head, export_huggingface
from d2v.interchange.imported import load_head, plain
from d2v.modalities import registry
from d2v.modalities.base import GraphInputs
from d2v.model_folder import CONFIG, ENCODER, load_encoder
from d2v.models import blocks
from d2v.models.encoder import Encoder
from d2v.models.masking import is_padding

if TYPE_CHECKING:
    import onnx

GRAPH, ONNX, TIMM, ABOUT = "encoder.pt2", "encoder.onnx", "model.safetensors", "export.json"
OPSET = 18
LARGEST_FILE_BYTES = 1.5e9
"""ONNX files end at 2 GiB; larger weights lie beside them."""
LENGTHS = (
    'onnxruntime warns that the initializer "lengths" appears in the inputs: this is what lets you leave it out, and '
    "SessionOptions().log_severity_level = 3 silences it"
)
TIMM_EPS = 1e-6
"""Of timm's LayerNorm unless another is asked for."""
FC_NORM = ("fc_norm.weight", "fc_norm.bias")
"""The norm after averaging, which a fine-tuned model has instead of the norm of its tokens."""
CLASSIFIER = ("head.weight", "head.bias")
TIMM_RENAMES = (
    (r"^extra_tokens$", "cls_token"),
    (r"^stem\.local\.", "patch_embed."),
    (r"^stem\.relative_bias$", "rel_pos_bias.relative_position_bias_table"),
    (r"\.relative_bias$", ".attn.relative_position_bias_table"),
    (r"^final_norm\.", "norm."),
)


class Exported(nn.Module):
    """The outputs of a graph: tokens and their mean in one pass.

    Args:
        encoder: in eval mode.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """((B, T, D) tokens, (B, D) their mean over what is not padding): `Encoder.forward` and `Encoder.features`."""
        tokens_BTD = self.encoder(inputs, lengths)
        token_lengths = self.encoder.token_lengths(lengths)
        if token_lengths is None:
            return tokens_BTD, tokens_BTD.mean(dim=1)
        padding_BT1 = is_padding(token_lengths, tokens_BTD.shape[1]).unsqueeze(-1)
        return tokens_BTD, tokens_BTD.masked_fill(padding_BT1, 0.0).sum(dim=1) / token_lengths[:, None]


@dataclass(frozen=True)
class Graph:
    """A graph and its outputs.

    Attributes:
        module: (inputs, lengths or None) -> outputs, in eval mode on the CPU.
        outputs: what each of them is, by name; the names of `AXES` say which of its axes are free.
    """

    module: nn.Module
    outputs: Mapping[str, str]


FEATURES = {"tokens": "(items, tokens, width)", "features": "(items, width), mean of tokens that are not padding"}
AXES = {
    "inputs": ("items", "positions"),
    "tokens": ("items", "tokens"),
    "log_probs": ("items", "tokens"),
}
"""Free axes of inputs and outputs; of all others the first one is."""


@dataclass(frozen=True)
class HeadParts:
    """A fine-tuned model's head for programs that have such a head themselves.

    Attributes:
        graph: encoder and head.
        timm: the head under timm's names; empty if it has none such.
        transformers: the head as transformers has it; None if it has none such.
    """

    graph: Graph
    timm: Mapping[str, Tensor] = field(default_factory=dict)
    transformers: Head | None = None


def export(
    folder: Path, target: Path, form: str, teacher: bool = False, head: HeadParts | None = None
) -> tuple[str, ...]:
    """Write a model folder's encoder for another program; of a fine-tuned model too, whose head
    `d2v.interchange.exporting` adds.

    Args:
        folder: a model folder.
        target: a folder that is new or empty.
        form: one of `NAMES`.
        teacher: export the teacher's encoder, not the student's.
        head: of a fine-tuned model.

    Returns:
        Notes for the user, a sentence each.

    Raises:
        ConfigError: an unknown format, one that cannot hold this encoder or needs packages that are not installed, or
            a target that is not empty.
    """
    if form not in NAMES:
        raise ConfigError(f"there is no format {form!r}: give one of {', '.join(NAMES)}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} is not empty: give a new folder")
    if form == "hf":
        return export_huggingface(folder, target, teacher, head.transformers if head else None)
    encoder, config = load_encoder(folder, teacher)
    parts = head or HeadParts(Graph(Exported(encoder).eval(), FEATURES), load_head(folder))
    weights, about, notes = FORMATS[form](encoder, config, parts)
    target.mkdir(parents=True, exist_ok=True)
    weights(target)
    for name, content in ((CONFIG, config), (ABOUT, about)):
        (target / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return notes


# ----------------------------------------------------------------------------------------------- graphs


def export_graph(graph: Graph, config: Mapping[str, Any], plain_attention: bool = False) -> ExportedProgram:
    """A model as a graph of torch.export with free numbers of items and, where they vary, of positions.

    It takes `inputs` and, where the modality pads, `lengths` (B,) int64.

    Args:
        graph: what it computes.
        config: of its model folder.
        plain_attention: of matrix products, not of the fused operator.
    """
    inputs = _inputs_of(config)
    example = (inputs.values,) if inputs.lengths is None else (inputs.values, inputs.lengths)
    axes = {0: torch.export.Dim.DYNAMIC} | ({} if inputs.lengths is None else {1: torch.export.Dim.DYNAMIC})
    free = (axes, {0: torch.export.Dim.DYNAMIC})[: len(example)]
    with _one_attention(plain_attention), torch.no_grad():
        return torch.export.export(graph.module, example, dynamic_shapes=free, strict=False)


def _inputs_of(config: Mapping[str, Any]) -> GraphInputs:
    return registry.get(config["modality"]).graph_inputs(config)


@contextlib.contextmanager
def _one_attention(is_plain: bool) -> Iterator[None]:
    """Trace one kind of attention: the choice by the number of tokens would tie the graph to one side of it."""
    before, fused = blocks.PLAIN_ATTENTION_TOKENS, torch.backends.mha.get_fastpath_enabled()
    blocks.PLAIN_ATTENTION_TOKENS = 2**62 if is_plain else -1
    torch.backends.mha.set_fastpath_enabled(False)  # of attentive pooling: one operator that exporters do not know
    try:
        yield
    finally:
        blocks.PLAIN_ATTENTION_TOKENS = before
        torch.backends.mha.set_fastpath_enabled(fused)


def export_onnx(graph: Graph, config: Mapping[str, Any]) -> onnx.ModelProto:
    """A model as ONNX: `inputs` and, where the modality pads, `lengths` (int64) -> the graph's outputs.

    `lengths` may be left out: then nothing is padding.
    """
    names = ["inputs"] + ([] if _inputs_of(config).lengths is None else ["lengths"])
    # The exporter cannot take the fused operator apart where tokens are a number that follows from samples.
    traced = export_graph(graph, config, plain_attention=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`isinstance.treespec", FutureWarning)  # of torch to itself
        program = torch.onnx.export(
            traced,
            input_names=names,
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing back")
    model: onnx.ModelProto = program.model_proto
    _name_axes(model)
    if "lengths" in names:
        _make_lengths_optional(model)
    return model


def _name_axes(model: onnx.ModelProto) -> None:
    """Call free axes what they are; the exporter numbers them."""
    del model.graph.value_info[:]  # these hold the numbers too, and any runtime finds the shapes again
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        for axis, name in zip(axes, AXES.get(value.name, ("items",)), strict=False):
            if axis.dim_param:
                axis.dim_param = name


def _make_lengths_optional(model: onnx.ModelProto) -> None:
    """Give `lengths` a default, and cut it to the inputs: without it every item is as long as they are.

    ONNX has no optional inputs, but one that has an initializer of its own name may be left out.
    """
    import onnx

    graph, given, cut = model.graph, "lengths", "lengths_within"
    for node in graph.node:
        node.input[:] = [cut if name == given else name for name in node.input]
    constants = {given: [2**62], "axis_items": [0], "axis_positions": [1]}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in constants.items()
    )
    steps = (
        ("Shape", ["inputs"], "inputs_shape"),
        ("Gather", ["inputs_shape", "axis_items"], "number_items"),
        ("Gather", ["inputs_shape", "axis_positions"], "number_positions"),
        ("Expand", [given, "number_items"], "lengths_each"),
        ("Min", ["lengths_each", "number_positions"], cut),
    )
    nodes = [onnx.helper.make_node(kind, inputs, [output]) for kind, inputs, output in steps] + list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)
    value = next(value for value in graph.input if value.name == given)
    value.type.tensor_type.shape.dim[0].dim_param = "items_or_1"


# ---------------------------------------------------------------------------------------------- formats

Written = tuple[Callable[[Path], None], dict[str, Any], tuple[str, ...]]
"""(what writes the weights into a folder, what is to be known of them in plain values, the same for people)."""


def _torch_export(encoder: Encoder, config: Mapping[str, Any], head: HeadParts) -> Written:
    program = export_graph(head.graph, config)
    notes = filter(None, (_inputs_of(config).note,))
    return lambda target: torch.export.save(program, target / GRAPH), _interface(config, head.graph), tuple(notes)


def _onnx(encoder: Encoder, config: Mapping[str, Any], head: HeadParts) -> Written:
    missing = [package for package in ("onnx", "onnxscript") if find_spec(package) is None]
    if missing:
        raise ConfigError(f"ONNX needs {' and '.join(missing)}: install d2v[interchange]")
    import onnx

    model = export_onnx(head.graph, config)
    large = sum(p.numel() * p.element_size() for p in encoder.parameters()) > LARGEST_FILE_BYTES
    about = _interface(config, head.graph)
    notes = () if _inputs_of(config).lengths is None else (LENGTHS,)
    return lambda target: onnx.save(model, target / ONNX, save_as_external_data=large), about, notes


def _interface(config: Mapping[str, Any], graph: Graph) -> dict[str, Any]:
    inputs = _inputs_of(config)
    about = {"inputs": inputs.about}
    about |= {} if inputs.lengths is None else {"lengths": "(items,) int64, positions that are not padding"}
    return {"inputs": about, "outputs": dict(graph.outputs)}


def _safetensors(encoder: Encoder, config: Mapping[str, Any], head: HeadParts) -> Written:
    state = plain(encoder.state_dict())
    return lambda target: save_file(state, target / ENCODER), {}, ()


def _timm(encoder: Encoder, config: Mapping[str, Any], head: HeadParts) -> Written:
    """timm's Beit, which data2vec 1.0's image encoder is."""
    settings = config["recipe"]["encoder"]
    if not is_beit(settings):
        raise ConfigError(
            "timm has a model for data2vec 1.0's image encoders alone (Beit). The blocks of data2vec 2.0 are "
            "norm(x + branch(x)), and timm's are x + branch(norm(x)) or x + norm(branch(x)): export to hf or onnx"
        )
    state = {_timm_name(name): value for name, value in plain(encoder.state_dict()).items()}
    shared, normed = "stem.relative_bias" in encoder.state_dict(), "norm.weight" in state
    if not normed:
        given = head.timm
        end = {name: given.get(name, given.get(name.replace("fc_norm", "pooler.layernorm"))) for name in FC_NORM}
        state |= plain({name: value for name, value in end.items() if value is not None})
        if not set(FC_NORM) <= state.keys():
            raise ConfigError("timm's Beit has a norm at its end, and this encoder none: export to hf or onnx")
    classes = plain({name: value for name, value in head.timm.items() if name in CLASSIFIER})
    arguments = {
        "img_size": settings["image_px"],
        "patch_size": settings["patch_px"],
        "num_classes": len(classes["head.bias"]) if classes else 0,
        "global_pool": "token" if normed else "avg",
        "embed_dim": settings["width"],
        "depth": settings["depth"],
        "num_heads": settings["heads"],
        "mlp_ratio": settings["mlp_ratio"],
        "init_values": settings["layer_scale_init"],
        "use_abs_pos_emb": False,
        "use_rel_pos_bias": not shared,
        "use_shared_rel_pos_bias": shared,
    }
    about = {"class": "timm.models.beit.Beit", "arguments": arguments, "norm_eps": settings["norm_eps"]}
    notes: tuple[str, ...] = ()
    if settings["norm_eps"] != TIMM_EPS:
        notes = (f"give Beit norm_layer=functools.partial(timm.layers.LayerNorm, eps={settings['norm_eps']:g})",)
    return lambda target: save_file(state | classes, target / TIMM, {"format": "pt"}), about, notes


def is_beit(settings: Mapping[str, Any]) -> bool:
    """Whether an encoder's block is of BEiT, the architecture that timm has a class for."""
    return settings.get("layout") == "beit"


def _timm_name(name: str) -> str:
    for pattern, new in TIMM_RENAMES:
        name = re.sub(pattern, new, name)
    return name


FORMATS: dict[str, Callable[[Encoder, Mapping[str, Any], HeadParts], Written]] = {
    "onnx": _onnx,
    "torch-export": _torch_export,
    "timm": _timm,
    "safetensors": _safetensors,
}
NAMES = ("hf", *FORMATS)
