"""Shared by the converters of all modalities: a reference checkpoint in plain values, its conversion, and the names and
settings that all models of the reference have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from d2v.config import TrainConfig
from d2v.errors import CheckpointError


@dataclass(frozen=True)
class Reference:
    """A reference checkpoint in plain values.

    Attributes:
        model: flat parameter names -> tensors, nested dictionaries taken out.
        ema: the teacher's, with the names the reference gives them; empty if the file has none.
        config: the model part of the stored configuration; empty if the file has none.
        task: the task's part, which says how raw items became inputs; empty if the file has none.
        symbols: of the task's dictionary by id: letters of a CTC model, tokens of a text model; empty if there is none.
    """

    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    config: dict[str, Any]
    task: dict[str, Any] = field(default_factory=dict)
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Converted:
    """A reference checkpoint in our names: the train recipe it implies and the objective's full state.

    `unused` are the keys that have no place here: tables that are rebuilt, and parts that old files carry unused."""

    modality: str
    recipe: TrainConfig
    state: dict[str, Tensor]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """Settings of a published recipe, for what a file does not say.

    Attributes:
        top_k_layers, layer_norms, average_norms: how targets are made; None averages all blocks.
        decay: the teacher's first and last decay and the updates between them.
        beta, scale: of the loss.
        masks_per_sample, decoder_residual, decoder_dropout: data2vec 2.0's.
    """

    top_k_layers: int | None
    layer_norms: tuple[str, ...]
    average_norms: tuple[str, ...]
    decay: tuple[float, float, int]
    beta: float = 0.0
    scale: float | str = "rsqrt_width"
    masks_per_sample: int = 8
    decoder_residual: bool = True
    decoder_dropout: float = 0.1


Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""(pattern, replacement) in the order in which they are applied."""

ROBERTA_LAYERS: Renames = (
    (r"^layers\.", "blocks."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.self_attn\.out_proj\.", ".attn.proj."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.fc([12])\.", r".mlp.fc\1."),
    (r"\.final_layer_norm\.", ".norm2."),
)
"""fairseq's transformer layers, which data2vec 1.0 has for speech and text; `fuse_attention` joins q, k and v."""

NOT_STORED = {"optimizer": {"lr": 1e-3}, "batch_size": 1, "max_updates": 1}
"""Required by a recipe, without meaning for a model that is only loaded."""


def rename(name: str, renames: Renames) -> str:
    """Apply all substitutions in turn."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different indices `pattern`'s group takes among the names."""
    return len({match.group(1) for name in state if (match := re.search(pattern, name))})


def fuse_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join `.attn.q.`, `.attn.k.` and `.attn.v.` to `.attn.qkv.`, rows in this order."""
    fused = {name: value for name, value in state.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name in (name for name in state if ".attn.q." in name):
        parts = [state[name.replace(".attn.q.", f".attn.{part}.")] for part in "qkv"]
        fused[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return fused


def refuse_options(config: Mapping[str, Any], read: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise CheckpointError that names every option with a value that no encoder here has.

    Args:
        config: stored options.
        read: option -> the values that can be read; one that is not stored has the first.
    """
    other = [
        f"{name}={config[name]!r} (read is {' or '.join(repr(value) for value in values)})"
        for name, values in read.items()
        if config.get(name, values[0]) not in values
    ]
    if other:
        raise CheckpointError(
            f"the file's model was made with {', '.join(other)}, which no encoder here has: it cannot be read"
        )


def is_pre_norm(state: Mapping[str, Tensor]) -> bool:
    """Whether an encoder in our names is pre-norm: the norm after its last block stands in its file."""
    return "student.final_norm.weight" in state


def trunk_sizes(state: Mapping[str, Tensor], prefix: str = "student.") -> dict[str, Any]:
    """Width, depth and MLP ratio of an encoder in our names."""
    width = state[f"{prefix}blocks.0.norm1.weight"].numel()
    return {
        "width": width,
        "depth": count(state, rf"^{re.escape(prefix)}blocks\.(\d+)\."),
        "mlp_ratio": state[f"{prefix}blocks.0.mlp.fc1.weight"].shape[0] / width,
    }


def targets(config: Mapping[str, Any], published: Published, depth: int) -> dict[str, Any]:
    """The `targets` block of a recipe."""
    norms = {name: name in published.layer_norms for name in ("batch", "instance", "layer")}
    average_norms = {name: name in published.average_norms for name in ("layer", "instance")}
    return {
        "top_k_layers": config.get("average_top_k_layers", min(published.top_k_layers or depth, depth)),
        "activation": "end_of_block" if config.get("end_of_block_targets") else "ffn",
        "layer_norms": [name for name, used in norms.items() if config.get(f"{name}_norm_target_layer", used)],
        "average_norms": [name for name, used in average_norms.items() if config.get(f"{name}_norm_targets", used)],
    }


def ema(config: Mapping[str, Any], published: Published) -> dict[str, Any]:
    """The `ema` block of a recipe."""
    start, end, updates = published.decay
    return {
        "decay_start": config.get("ema_decay", start),
        "decay_end": config.get("ema_end_decay", end),
        "anneal_updates": config.get("ema_anneal_end_step", updates),
    }


def loss(config: Mapping[str, Any], published: Published) -> dict[str, Any]:
    """The `loss` block of a recipe."""
    return {
        "beta": config.get("loss_beta", published.beta) or 0.0,
        "scale": config.get("loss_scale", published.scale) or "rsqrt_width",
    }


def check_norm_first(option: str, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if the option for pre-norm blocks is not what the weights show."""
    if option in config and bool(config[option]) != is_pre_norm(state):
        raise CheckpointError(
            f"the file says {option}={config[option]!r}, and its weights {'hold' if is_pre_norm(state) else 'lack'} "
            "the norm that pre-norm models have after the last block: take the file with the settings of its training"
        )


# ------------------------------------------------------------------------------------------ data2vec 2.0


def check_v2(state: Mapping[str, Tensor], config: Mapping[str, Any], settings: Mapping[str, Any], **read: Any) -> None:
    """Raise CheckpointError that names options which no encoder here has.

    Args:
        state: in our names.
        config: the stored configuration.
        settings: its part about the modality.
        read: options of the modality -> the values that can be read.
    """
    refuse_options(config, {"norm_affine": (True,)})
    check_norm_first("layer_norm_first", config, state)
    heads, given = config.get("num_heads"), {name: value for name, value in settings.items() if "${" not in str(value)}
    if given.get("use_alibi_encoder"):
        refuse_options(given, {"learned_alibi": (False,), **({"num_alibi_heads": (heads,)} if heads else {})})
    refuse_options(given, read)


def alibi_scale(scale: Tensor, heads: int) -> Tensor:
    """(heads,) from (1, 1, heads, 1, 1), from (1, heads, 1, 1) of old files, or from one scale for all heads.

    Raises:
        CheckpointError: blocks have different scales.
    """
    if scale.dim() == 5 and scale.shape[0] > 1:
        if not bool((scale == scale[:1]).all()):
            raise CheckpointError(
                "the file's model was made with learned_alibi_scale_per_layer=True, and here all blocks share their "
                "ALiBi scales: it cannot be read"
            )
        scale = scale[:1]
    return scale.flatten().repeat(heads) if scale.numel() == 1 else scale.flatten()


def alibi_heads(state: Mapping[str, Tensor], name: str, width: int) -> int:
    """As many as there are ALiBi scales; if they share one, as in the published models, heads are 64 wide."""
    scales = int(state[name].shape[-3]) if name in state else 1
    return scales if scales > 1 else width // 64


def v2_part(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The weights of one modality's model (IMAGE, AUDIO, TEXT), without unused ones that old files carry."""
    dropped = re.compile(rf"\.encoder_mask$|^shared_decoder\.|^recon_proj\.|^modality_encoders\.(?!{kind}\.)")
    return {name: value for name, value in state.items() if not dropped.search(name)}


def v2_decoder_name(name: str, kind: str) -> str | None:
    """Our name of a decoder's parameter; None for another's."""
    decoder = name.removeprefix(f"modality_encoders.{kind}.decoder.")
    if decoder == name:
        return None
    if re.match(r"input_proj\.|encoder\.|blocks\.\d+\.(norm|attn|mlp)", decoder):
        return "decoder." + decoder  # a transformer, kept as it is
    decoder = re.sub(r"^blocks\.(\d+)\.0\.", r"layers.\1.conv.", decoder)
    return "decoder." + re.sub(r"^proj\.(?=[a-z])", "projection.0.", re.sub(r"^proj\.(?=\d)", "projection.", decoder))


def v2_objective(
    state: Mapping[str, Tensor], config: Mapping[str, Any], settings: Mapping[str, Any], published: Published
) -> dict[str, Any]:
    """The `objective` block of a data2vec 2.0 recipe.

    Args:
        state: in our names; sizes are read from it.
        config: the stored configuration.
        settings: its part about the modality.
        published: what takes the place of settings that are not stored.
    """
    return {
        "name": "data2vec2",
        "masks_per_sample": config.get("clone_batch", published.masks_per_sample),
        "mask_noise_std": settings.get("mask_noise_std", 0.01),
        "decoder": _decoder(state, settings.get("decoder") or {}, published),
        "targets": targets(config, published, trunk_sizes(state)["depth"]),
        "ema": ema(config, published),
        "loss": loss(config, published),
        "cls_loss": 0.0,
    }


def _decoder(state: Mapping[str, Tensor], stored: Mapping[str, Any], published: Published) -> dict[str, Any]:
    convolution = state.get("decoder.layers.0.conv.weight")
    if convolution is None:
        return {}
    return {
        "layers": count(state, r"^decoder\.layers\.(\d+)\."),
        "width": convolution.shape[0],
        "kernel": convolution.shape[-1],
        "groups": trunk_sizes(state)["width"] // convolution.shape[1],
        "residual": stored.get("decoder_residual", published.decoder_residual),
        "input_dropout": stored.get("input_dropout", published.decoder_dropout),
        "projection_layers": count(state, r"^decoder\.projection\.(\d+)\."),
        "projection_ratio": stored.get("projection_ratio", 2.0),
    }
