"""Names and sizes of the reference's speech checkpoints, data2vec 2.0 and 1.0."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    count,
    ema,
    fuse_attention,
    loss,
    refuse_pre_norm,
    rename,
    targets,
    trunk_sizes,
    v2_decoder_name,
    v2_objective,
    v2_part,
)
from d2v.modalities.speech.config import WAV2VEC_CONVS, SpeechTrainConfig

V2_RENAMES: Renames = (
    (r"^modality_encoders\.AUDIO\.", ""),
    (r"^local_encoder\.conv_layers\.(\d+)\.0\.", r"stem.local.layers.\1.conv."),
    (r"^local_encoder\.conv_layers\.(\d+)\.2\.1\.", r"stem.local.layers.\1.norm."),
    (r"^project_features\.1\.", "stem.local.norm."),
    (r"^project_features\.2\.", "stem.local.projection."),
    (r"^relative_positional_encoder\.(\d+)\.0\.", lambda match: f"stem.positions.convs.{int(match[1]) - 1}."),
    (r"^alibi_scale$", "stem.alibi_scale"),
    (r"^context_encoder\.norm\.", "context_norm."),
    (r"^context_encoder\.blocks\.", "prenet."),
)
V1_RENAMES: Renames = (
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"stem.local.layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2\.1\.", r"stem.local.layers.\1.norm."),
    (r"^layer_norm\.", "stem.local.norm."),
    (r"^post_extract_proj\.", "stem.local.projection."),
    (r"^encoder\.pos_conv\.(\d+)\.0\.", r"stem.positions.convs.\1."),
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
            state[name] = _per_head(state[name], recipe.encoder.heads)
    return Converted("speech", recipe, state, tuple(sorted(reference.model.keys() - student.keys())))


def v2_name(name: str) -> str:
    """Our name of a parameter of the reference's model."""
    return v2_decoder_name(name, "AUDIO") or "student." + rename(name, V2_RENAMES)


def _per_head(scale: Tensor, heads: int) -> Tensor:
    """(heads,) from (1, 1, heads, 1, 1), from (1, heads, 1, 1) of old files, or from one scale for all heads."""
    return scale.flatten().repeat(heads) if scale.numel() == 1 else scale.flatten()


def _heads(state: Mapping[str, Tensor], width: int) -> int:
    """As many as there are ALiBi scales; if they share one, as in the published models."""
    scales = state["student.stem.alibi_scale"].numel()
    return scales if scales > 1 else width // 64


def _v2_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the tensors, the rest from the stored configuration or the published defaults."""
    refuse_pre_norm(config.get("layer_norm_first"))
    audio = (config.get("modalities") or {}).get("audio") or {}
    sizes = _sizes(state, audio.get("feature_encoder_spec"))
    objective = v2_objective(state, config, audio, V2)
    return {
        "encoder": {
            **sizes,
            "heads": config.get("num_heads") or _heads(state, sizes["width"]),
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
    if "feature_extractor.conv_layers.0.0.weight" not in model or "encoder.pos_conv.0.0.weight" not in model:
        return None
    state = fuse_attention({v1_name(name): value for name, value in model.items()})
    if "mask_token" in state:
        state["mask_token"] = state["mask_token"].view(1, 1, -1)
    recipe = parse(SpeechTrainConfig, v1_recipe(state, reference.config))
    averaged = fuse_attention({v1_name(f"encoder.{name}"): value for name, value in reference.ema.items()}) or state
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


def v1_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the student's tensors, the rest from the stored configuration or the published one."""
    refuse_pre_norm(config.get("layer_norm_first"))
    sizes = _sizes(state, config.get("conv_feature_layers"))
    copied = ["stem.positions."] if config.get("ema_layers_only", True) else []
    return {
        "encoder": {
            **sizes,
            "layout": "data2vec1",
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
