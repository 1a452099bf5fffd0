"""Names and sizes of the reference's vision checkpoints.

data2vec 2.0, and data2vec 1.0 in the BEiT repository's and in fairseq's layout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d2v.config import parse
from d2v.interchange.fairseq import Converted, Reference
from d2v.modalities.vision.config import VisionTrainConfig

V2_PREFIX = "modality_encoders.IMAGE."
V2_RENAMES = (
    (r"^modality_encoders\.IMAGE\.extra_tokens$", "extra_tokens"),
    (r"^modality_encoders\.IMAGE\.local_encoder\.proj\.", "stem.patches.proj."),
    (r"^modality_encoders\.IMAGE\.(?:fixed_)?positional_encoder\.(?:positions|pos_embed)$", "stem.positions"),
    (r"^modality_encoders\.IMAGE\.context_encoder\.norm\.", "context_norm."),
    (r"^modality_encoders\.IMAGE\.context_encoder\.blocks\.", "prenet."),
    (r"^blocks\.", "blocks."),
)
V2_DROPPED = re.compile(r"\.encoder_mask$|^shared_decoder\.|^recon_proj\.|^modality_encoders\.(?!IMAGE)")
V1_RENAMES = (
    (r"^encoder\.", ""),
    (r"^(?:cls_token|cls_emb)$", "extra_tokens"),
    (r"^patch_embed\.(?:proj|conv)\.", "stem.patches.proj."),
    (r"^rel_pos_bias\.relative_position_bias_table$", "stem.relative_bias"),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"^norm\.", "final_norm."),
)


def _rename(name: str, renames: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different indices `pattern`'s group takes among the names."""
    return len({match.group(1) for name in state if (match := re.search(pattern, name))})


def _side(squares: int) -> int:
    return math.isqrt(squares)


# ------------------------------------------------------------------------------------------ data2vec 2.0


def convert_v2(reference: Reference) -> Converted | None:
    """A data2vec 2.0 image checkpoint in our names, or None if it is something else."""
    if V2_PREFIX + "local_encoder.proj.weight" not in reference.model:
        return None
    student = {name: value for name, value in reference.model.items() if not V2_DROPPED.search(name)}
    state = {_v2_name(name): value for name, value in student.items()}
    recipe = parse(VisionTrainConfig, _v2_recipe(student, state["student.stem.positions"].shape[1], reference.config))
    averaged = reference.ema or {name: value for name, value in student.items() if ".decoder." not in name}
    teacher = {name: value for name, value in averaged.items() if not V2_DROPPED.search(name)}
    state |= {"teacher.encoder." + _rename(name, V2_RENAMES): value for name, value in teacher.items()}
    return Converted("vision", recipe, state)


def _v2_name(name: str) -> str:
    decoder = name.removeprefix(V2_PREFIX + "decoder.")
    if decoder == name:
        return "student." + _rename(name, V2_RENAMES)
    decoder = re.sub(r"^blocks\.(\d+)\.0\.", r"layers.\1.conv.", decoder)
    return "decoder." + re.sub(r"^proj\.(?=[a-z])", "projection.0.", re.sub(r"^proj\.(?=\d)", "projection.", decoder))


def _v2_recipe(state: Mapping[str, Tensor], patches: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the tensors, the rest from the stored configuration or the published defaults."""
    patch = state[V2_PREFIX + "local_encoder.proj.weight"]
    width, patch_px = patch.shape[0], patch.shape[-1]
    grid = _side(patches)
    image = (config.get("modalities") or {}).get("image") or {}
    depth = _count(state, r"^blocks\.(\d+)\.")
    return {
        "encoder": {
            "image_px": grid * patch_px,
            "patch_px": patch_px,
            "width": width,
            "depth": depth,
            "prenet_depth": _count(state, r"IMAGE\.context_encoder\.blocks\.(\d+)\."),
            "heads": config.get("num_heads") or width // 64,
            "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
            "norm_eps": config.get("norm_eps", 1e-6),
        },
        "mask": {
            "kind": "block",
            "ratio": image.get("mask_prob", 0.8),
            "adjust": image.get("mask_prob_adjust", 0.07),
            "block": image.get("mask_length", 3),
            "inverse": image.get("inverse_mask", True),
        },
        "objective": _v2_objective(state, config, image, depth),
        **_NOT_STORED,
    }


def _v2_objective(
    state: Mapping[str, Tensor], config: Mapping[str, Any], image: Mapping[str, Any], depth: int
) -> dict[str, Any]:
    stored = image.get("decoder") or {}
    prefix = V2_PREFIX + "decoder.blocks."
    convolution = state.get(prefix + "0.0.weight")
    decoder: dict[str, Any] = {}
    if convolution is not None:
        decoder = {
            "layers": _count(state, r"IMAGE\.decoder\.blocks\.(\d+)\."),
            "width": convolution.shape[0],
            "kernel": convolution.shape[-1],
            "groups": state[V2_PREFIX + "local_encoder.proj.weight"].shape[0] // convolution.shape[1],
            "residual": stored.get("decoder_residual", True),
            "input_dropout": stored.get("input_dropout", 0.0),
            "projection_layers": max(_count(state, r"IMAGE\.decoder\.proj\.(\d+)\."), 1),
            "projection_ratio": stored.get("projection_ratio", 2.0),
        }
    return {
        "name": "data2vec2",
        "masks_per_sample": config.get("clone_batch", 16),
        "mask_noise_std": image.get("mask_noise_std", 0.01),
        "decoder": decoder,
        "targets": _targets(config, default_top_k=depth),
        "ema": _ema(config),
        "loss": {"beta": config.get("loss_beta") or 0.0, "scale": config.get("loss_scale") or "rsqrt_width"},
        "cls_loss": 0.0,
    }


# ------------------------------------------------------------------------------------------ data2vec 1.0


def convert_v1(reference: Reference) -> Converted | None:
    """A data2vec 1.0 image checkpoint (BEiT repository or fairseq port) in our names, or None if it is neither."""
    ported = "patch_embed.conv.weight" in reference.model
    if not ported and "patch_embed.proj.weight" not in reference.model:
        return None
    names = {name: _v1_name(name, ported) for name in reference.model}
    state = {new: reference.model[name] for name, new in names.items() if new is not None}
    recipe = parse(VisionTrainConfig, _v1_recipe(state, reference.config, ported))
    teacher = {name: value for name, value in state.items() if name.startswith("student.")}
    averaged = {"student." + _rename(n, V1_RENAMES): v for n, v in reference.ema.items() if "position_index" not in n}
    teacher |= {name: value for name, value in averaged.items() if name in teacher}
    state |= {name.replace("student.", "teacher.encoder.", 1): value for name, value in teacher.items()}
    return Converted("vision", recipe, state)


def _v1_name(name: str, ported: bool) -> str | None:
    """Our name; None for what has no place here. The port never applies its `final_proj`."""
    if name in ("mask_token", "mask_emb"):
        return "mask_token"
    if name.startswith("lm_head."):
        return name.replace("lm_head.", "head.")
    if "relative_position_index" in name or (ported and name.startswith("final_proj.")):
        return None
    return "student." + _rename(name, V1_RENAMES)


def _v1_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any], ported: bool) -> dict[str, Any]:
    patch = state["student.stem.patches.proj.weight"]
    width, patch_px = patch.shape[0], patch.shape[-1]
    rows, heads = state["student.stem.relative_bias"].shape
    grid = (_side(rows - 3) + 1) // 2
    depth = _count(state, r"^student\.blocks\.(\d+)\.")
    hidden = config.get("num_mask_patches", 120)
    end_of_block = config.get("end_of_block_targets", True)
    targets = _targets(config, default_top_k=depth // 2)
    if not config:
        targets |= {"layer_norms": ["layer"], "average_norms": ["layer"]}
    return {
        "encoder": {
            "layout": "beit",
            "image_px": grid * patch_px,
            "patch_px": patch_px,
            "width": width,
            "depth": depth,
            "heads": heads,
            "mlp_ratio": state["student.blocks.0.mlp.fc1.weight"].shape[0] / width,
            "norm_eps": 1e-5 if ported else 1e-6,
            "layer_scale_init": config.get("layer_scale_init_value", 1e-4),
        },
        "mask": {"kind": "beit", "ratio": min(hidden / grid**2, 0.99)},
        "objective": {
            "name": "data2vec1",
            "head": "none" if ported else "linear",
            "targets": targets | {"activation": "end_of_block" if end_of_block else "ffn"},
            "ema": _ema(config) | {"copied": ["stem.patches.", "extra_tokens"] if ported else []},
            "loss": {"beta": config.get("loss_beta", 2.0), "scale": "rsqrt_width" if ported else "inverse_width"},
        },
        **_NOT_STORED,
    }


# ------------------------------------------------------------------------------------------ shared parts

_NOT_STORED = {"optimizer": {"lr": 1e-3}, "batch_size": 1, "max_updates": 1}
"""Required by a recipe, without meaning for a model that is only loaded."""


def _targets(config: Mapping[str, Any], default_top_k: int) -> dict[str, Any]:
    layer_norms = [n for n in ("batch", "instance", "layer") if config.get(f"{n}_norm_target_layer", n == "instance")]
    average_norms = [n for n in ("layer", "instance") if config.get(f"{n}_norm_targets", n == "layer")]
    return {
        "top_k_layers": config.get("average_top_k_layers", default_top_k),
        "activation": "end_of_block" if config.get("end_of_block_targets") else "ffn",
        "layer_norms": layer_norms,
        "average_norms": average_norms,
    }


def _ema(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "decay_start": config.get("ema_decay", 0.9998),
        "decay_end": config.get("ema_end_decay", 0.99999),
        "anneal_updates": config.get("ema_anneal_end_step", 100_000),
    }
