"""Names and sizes of the reference's speech checkpoints, data2vec 2.0 and 1.0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d2v.config import parse
from d2v.errors import CheckpointError
from d2v.interchange.fairseq_names import (
    NOT_STORED,
    ROBERTA_LAYERS,
    Converted,
    Published,
    Reference,
    Renames,
    alibi_heads,
    alibi_scale,
    check_v2,
    count,
    ema,
    fuse_attention,
    is_pre_norm,
    loss,
    refuse_options,
    rename,
    targets,
    trunk_sizes,
    v2_decoder_name,
    v2_objective,
    v2_part,
)
from d2v.modalities.speech.config import WAV2VEC_CONVS, SpeechTrainConfig


def _stem_names(module: str) -> Renames:
    """Of the convolutions over the waveform: each with a norm over channels, or the first alone with one over time."""
    layer = rf"^{module}\.conv_layers\.(\d+)\."
    return (
        (layer + r"0\.bias$", r"stem.local.layers.\1.bias"),
        (layer + r"0\.", r"stem.local.layers.\1.conv."),
        (layer + r"2\.(?:1\.)?", r"stem.local.layers.\1.norm."),
    )


V2_RENAMES: Renames = (
    (r"^modality_encoders\.AUDIO\.", ""),
    *_stem_names("local_encoder"),
    (r"^project_features\.1\.", "stem.local.norm."),
    (r"^project_features\.2\.", "stem.local.projection."),
    (r"^relative_positional_encoder\.(\d+)\.0\.", lambda match: f"stem.positions.convs.{int(match[1]) - 1}."),
    (r"^alibi_scale$", "stem.alibi_scale"),
    (r"^context_encoder\.norm\.", "context_norm."),
    (r"^context_encoder\.blocks\.", "prenet."),
    (r"^norm\.", "final_norm."),
)
V1_RENAMES: Renames = (
    *_stem_names("feature_extractor"),
    (r"^layer_norm\.", "stem.local.norm."),
    (r"^post_extract_proj\.", "stem.local.projection."),
    (r"^encoder\.pos_conv\.(\d+)\.0\.", r"stem.positions.convs.\1."),
    (r"^encoder\.pos_conv\.0\.", "stem.positions.convs.0."),
    (r"^encoder\.layer_norm\.", "context_norm."),
    (r"^encoder\.", ""),
    *ROBERTA_LAYERS,
)
V2 = Published(8, ("instance",), (), (0.999, 0.99999, 75_000))
V1 = Published(8, ("instance",), (), (0.999, 0.9999, 30_000))


def _convs(state: Mapping[str, Tensor], spec: str | None) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each convolution; strides are in no tensor, but in the stored `spec`, such as
    "[(512, 10, 5)] + [(512, 3, 2)] * 4", or wav2vec 2.0's."""
    strides = [stride for _, _, stride in WAV2VEC_CONVS]
    if spec:
        lists = re.findall(r"\[([^\]]*)\]\s*(?:\*\s*(\d+))?", spec)
        layers = [(re.findall(r"(\d+)\s*\)", layers), int(times or 1)) for layers, times in lists]
        strides = [int(stride) for found, times in layers for stride in found * times]
    number = count(state, r"^student\.stem\.local\.layers\.(\d+)\.")
    if len(strides) != number:
        raise CheckpointError(
            f"the file holds {number} convolutions and strides of {len(strides)} ({spec!r}): take the file "
            "as it was published, with its configuration"
        )
    weights = [state[f"student.stem.local.layers.{layer}.conv.weight"] for layer in range(number)]
    return [(weight.shape[0], weight.shape[2], stride) for weight, stride in zip(weights, strides, strict=True)]


def _sizes(state: Mapping[str, Tensor], spec: str | None) -> dict[str, Any]:
    """An encoder's settings from its tensors."""
    sizes = trunk_sizes(state)
    position = state["student.stem.positions.convs.0.weight"]
    return {
        **sizes,
        "convs": _convs(state, spec),
        "prenet_depth": count(state, r"^student\.prenet\.(\d+)\."),
        "position_layers": count(state, r"^student\.stem\.positions\.convs\.(\d+)\."),
        "position_kernel": position.shape[2],
        "position_groups": sizes["width"] // position.shape[1],
        "pre_norm": is_pre_norm(state),
        "stem_norm": "layer" if "student.stem.local.layers.1.norm.weight" in state else "group",
        "stem_bias": "student.stem.local.layers.0.bias" in state,
    }


# ------------------------------------------------------------------------------------------ data2vec 2.0


def convert_v2(reference: Reference) -> Converted | None:
    """A data2vec 2.0 speech checkpoint in our names, or None if it is something else."""
    if "modality_encoders.AUDIO.local_encoder.conv_layers.0.0.weight" not in reference.model:
        return None
    student = v2_part(reference.model, "AUDIO")
    state = {v2_name(name): value for name, value in student.items()}
    recipe = parse(SpeechTrainConfig, _v2_recipe(state, reference.config))
    teacher = v2_part(reference.ema, "AUDIO")
    own = {rename(name, V2_RENAMES): value for name, value in (teacher or student).items() if ".decoder." not in name}
    state |= {f"teacher.encoder.{name}": value for name, value in own.items() if not name.startswith("stem.local.")}
    for name in ("student.stem.alibi_scale", "teacher.encoder.stem.alibi_scale"):
        if name in state:
            state[name] = alibi_scale(state[name], recipe.encoder.heads)
        else:  # without ALiBi, which a scale of 0 is
            state[name] = torch.zeros(recipe.encoder.heads)
    return Converted("speech", recipe, state, tuple(sorted(reference.model.keys() - student.keys())))


def v2_name(name: str) -> str:
    """Our name of a parameter of the reference's model."""
    return v2_decoder_name(name, "AUDIO") or "student." + rename(name, V2_RENAMES)


def _v2_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the tensors, the rest from the stored configuration or the published defaults."""
    audio = (config.get("modalities") or {}).get("audio") or {}
    check_v2(state, config, audio, conv_pos_pre_ln=(False,))
    sizes = _sizes(state, audio.get("feature_encoder_spec"))
    extra = state.get("student.extra_tokens")
    objective = v2_objective(state, config, audio, V2)
    return {
        "encoder": {
            **sizes,
            "heads": config.get("num_heads") or alibi_heads(state, "student.stem.alibi_scale", sizes["width"]),
            "extra_tokens": 0 if extra is None else extra.shape[1],
            "norm_eps": config.get("norm_eps", 1e-5),
            "dropout": config.get("encoder_dropout", 0.1),
            "attention_dropout": config.get("attention_dropout", 0.1),
            "layer_drop": config.get("layerdrop", 0.05),
            "prenet_dropout": audio.get("prenet_dropout", 0.1),
            "prenet_layer_drop": audio.get("prenet_layerdrop", 0.05),
        },
        "mask": {
            "kind": "block",
            "ratio": audio.get("mask_prob", 0.5),
            "adjust": audio.get("mask_prob_adjust", 0.05),
            "block": audio.get("mask_length", 5),
            "inverse": audio.get("inverse_mask", False),
        },
        "objective": objective | {"ema": objective["ema"] | {"shared_local": True}},
        **NOT_STORED,
    }


# ------------------------------------------------------------------------------------------ data2vec 1.0


def convert_v1(reference: Reference) -> Converted | None:
    """A data2vec 1.0 speech checkpoint in our names, or None if it is something else."""
    model = reference.model
    has_positions = any(name.startswith("encoder.pos_conv.0.") for name in model)
    if "feature_extractor.conv_layers.0.0.weight" not in model or not has_positions:
        return None
    is_deep = "encoder.pos_conv.0.0.weight" in model
    model = model if is_deep else single_position(model, "encoder.pos_conv.0.")
    state = fuse_attention({v1_name(name): value for name, value in model.items()})
    pre_norm = bool(reference.config.get("layer_norm_first"))
    state = {_placed(name, pre_norm): value for name, value in state.items()}
    if "mask_token" in state:
        state["mask_token"] = state["mask_token"].view(1, 1, -1)
    recipe = parse(SpeechTrainConfig, v1_recipe(state, reference.config, is_deep))
    ema = reference.ema if is_deep else single_position(reference.ema, "pos_conv.0.")
    averaged = fuse_attention({v1_name(f"encoder.{name}"): value for name, value in ema.items()})
    averaged = {_placed(name, pre_norm): value for name, value in averaged.items()} or state
    own = {
        name: value for name, value in averaged.items() if name.startswith("student.") and ".stem.local." not in name
    }
    state |= {name.replace("student.", "teacher.encoder.", 1): value for name, value in own.items()}
    return Converted("speech", recipe, state)


def v1_name(name: str) -> str:
    """Our name of a parameter of the reference's model, with q, k and v apart."""
    if name == "mask_emb":
        return "mask_token"
    if name.startswith("final_proj."):
        return re.sub(r"^final_proj\.(?:0\.)?", "head.", name)
    return "student." + rename(name, V1_RENAMES)


def single_position(state: Mapping[str, Tensor], at: str) -> dict[str, Tensor]:
    """wav2vec 2.0's position convolution as one of ours: its weight from direction and length (weight norm of a tap),
    and an even kernel with a tap of zeros at its end, as the frame after the last is cut off there.

    Args:
        state: of the reference.
        at: what the names of the convolution begin with.
    """
    rest = {name: value for name, value in state.items() if not name.startswith(at)}
    own = {name.removeprefix(at): value for name, value in state.items() if name.startswith(at)}
    if not own:
        return rest
    weight = own.get("weight")
    if weight is None:
        old, new = ("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")
        length, direction = (own[name] for name in (old if old[0] in own else new))
        weight = length * direction / direction.norm(dim=(0, 1), keepdim=True)
    if weight.shape[-1] % 2 == 0:
        weight = torch.cat((weight, torch.zeros_like(weight[..., :1])), dim=-1)
    return rest | {f"{at}weight": weight, f"{at}bias": own["bias"]}


def _placed(name: str, pre_norm: bool) -> str:
    """Of pre-norm models `encoder.layer_norm` comes after the last block, not before the first."""
    return name.replace("student.context_norm.", "student.final_norm.") if pre_norm else name


V1_OPTIONS: dict[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu",),
    "layer_type": ("transformer",),
    "pos_enc_type": ("abs",),
    "attn_type": ("",),
    "adp_num": (-1, 0, None),
}


def v1_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any], position_norm: bool = True) -> dict[str, Any]:
    """A train recipe: sizes from the student's tensors, the rest from the stored configuration or the published one."""
    refuse_options(config, V1_OPTIONS)
    sizes = _sizes(state, config.get("conv_feature_layers"))
    copied = ["stem.positions."] if config.get("ema_layers_only", True) else []
    return {
        "encoder": {
            **sizes,
            "layout": "data2vec1",
            "position_norm": position_norm,
            "heads": config.get("encoder_attention_heads") or sizes["width"] // 64,
            "dropout": config.get("dropout", 0.1),
            "attention_dropout": config.get("attention_dropout", 0.1),
            "layer_drop": config.get("encoder_layerdrop", 0.05),
        },
        "mask": {"kind": "span", "ratio": config.get("mask_prob", 0.65), "span": config.get("mask_length", 10)},
        "objective": {
            "name": "data2vec1",
            "targets": targets(config, V1, sizes["depth"]),
            "ema": ema(config, V1) | {"shared_local": True, "copied": copied},
            "loss": loss(config, V1),
        },
        **NOT_STORED,
    }
