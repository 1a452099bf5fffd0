"""Names and sizes of the reference's vision checkpoints.

data2vec 2.0, and data2vec 1.0 in the BEiT repository's and in fairseq's layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from d2v.config import parse
from d2v.errors import CheckpointError
from d2v.interchange.fairseq_names import (
    NOT_STORED,
    Converted,
    Published,
    Reference,
    Renames,
    alibi_heads,
    alibi_scale,
    check_v2,
    count,
    ema,
    is_pre_norm,
    rename,
    targets,
    trunk_sizes,
    v2_decoder_name,
    v2_objective,
    v2_part,
)
from d2v.modalities.vision.config import VisionTrainConfig

MEL_BANDS = 128
LOCAL = "modality_encoders.IMAGE.local_encoder."
V2_RENAMES: Renames = (
    (r"^modality_encoders\.IMAGE\.", ""),
    (r"^local_encoder\.proj\.", "stem.local.proj."),
    (r"^(?:fixed_)?positional_encoder\.(?:positions|pos_embed)$", "stem.positions"),
    (r"^alibi_scale$", "stem.alibi.scale"),
    (r"^context_encoder\.norm\.", "context_norm."),
    (r"^context_encoder\.blocks\.", "prenet."),
    (r"^norm\.", "final_norm."),
)
V1_RENAMES: Renames = (
    (r"^encoder\.", ""),
    (r"^(?:cls_token|cls_emb)$", "extra_tokens"),
    (r"^patch_embed\.(?:proj|conv)\.", "stem.local.proj."),
    (r"^rel_pos_bias\.relative_position_bias_table$", "stem.relative_bias"),
    (r"^(blocks\.\d+)\.attn\.relative_position_bias_table$", r"\1.relative_bias"),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
    (r"^norm\.", "final_norm."),
)
V2 = Published(None, ("instance",), ("layer",), (0.9998, 0.99999, 100_000), masks_per_sample=16, decoder_dropout=0.0)
V1 = Published(None, ("layer",), ("layer",), (0.9998, 0.99999, 100_000), beta=2.0)


def _side(squares: int) -> int:
    return math.isqrt(squares)


def _spectrogram(positions: Tensor | None, patch_px: int, image: Mapping[str, Any]) -> tuple[int, int]:
    """(frames, mel bands) of EAT and its kin, which have 128 bands. Raises CheckpointError if there are others."""
    columns = MEL_BANDS // patch_px
    if positions is None:
        return int(image.get("target_length", 1024)), columns * patch_px
    patches = positions.shape[1]
    if columns == 0 or patches % columns:
        raise CheckpointError(
            f"the file's images have one channel and {patches} patches of {patch_px} x {patch_px} values, which are no "
            f"spectrograms of {MEL_BANDS} bands: it cannot be read"
        )
    return patches // columns * patch_px, columns * patch_px


def _grid(positions: Tensor) -> int:
    """Patches along a side, from (1, patches, D). Raises CheckpointError if they make no square."""
    patches = positions.shape[1]
    if _side(patches) ** 2 != patches:
        raise CheckpointError(f"the file's images have {patches} patches, which make no square: it cannot be read")
    return _side(patches)


# ------------------------------------------------------------------------------------------ data2vec 2.0


def convert_v2(reference: Reference) -> Converted | None:
    """A data2vec 2.0 image checkpoint in our names, or None if it is something else."""
    if not any(f"{LOCAL}{part}proj.weight" in reference.model for part in ("", "0.")):
        return None
    student = _one_projection(v2_part(reference.model, "IMAGE"))
    state = {v2_name(name): value for name, value in student.items()}
    recipe = parse(VisionTrainConfig, _v2_recipe(state, reference.config))
    teacher = _one_projection(v2_part(reference.ema, "IMAGE")) or {
        n: v for n, v in student.items() if ".decoder." not in n
    }
    state |= {"teacher.encoder." + rename(name, V2_RENAMES): value for name, value in teacher.items()}
    for name in ("student.stem.alibi.scale", "teacher.encoder.stem.alibi.scale"):
        if name in state:
            state[name] = alibi_scale(state[name], recipe.encoder.heads)
    return Converted(
        "vision", recipe, state, tuple(sorted(reference.model.keys() - v2_part(reference.model, "IMAGE").keys()))
    )


def _one_projection(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A patch embedding of another width (embed_dim) with the linear layer behind it as one layer."""
    first, second = f"{LOCAL}0.proj.", f"{LOCAL}1."
    if f"{first}weight" not in state:
        return dict(state)
    rest = {name: value for name, value in state.items() if not name.startswith((first, second))}
    weight = torch.einsum("de,ecpq->dcpq", state[f"{second}weight"], state[f"{first}weight"])
    bias = state[f"{second}weight"] @ state[f"{first}bias"] + state[f"{second}bias"]
    return rest | {f"{LOCAL}proj.weight": weight, f"{LOCAL}proj.bias": bias}


def v2_name(name: str) -> str:
    """Our name of a parameter of the reference's model."""
    return v2_decoder_name(name, "IMAGE") or "student." + rename(name, V2_RENAMES)


def _v2_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """A train recipe: sizes from the tensors, the rest from the stored configuration or the published defaults."""
    image = (config.get("modalities") or {}).get("image") or {}
    patches, positions = state["student.stem.local.proj.weight"], state.get("student.stem.positions")
    patch_px, sizes, extra = patches.shape[-1], trunk_sizes(state), state.get("student.extra_tokens")
    has_alibi = "student.stem.alibi.scale" in state
    distance = image.get("alibi_distance", "manhattan") if has_alibi else None
    check_v2(state, config, image, **({"alibi_dims": (2,)} if has_alibi else {}))
    if patches.shape[1] == 1:
        side_px, width_px = _spectrogram(positions, patch_px, image)
    else:
        side_px = image.get("input_size", 224) if positions is None else _grid(positions) * patch_px
        width_px = None
    return {
        "encoder": {
            **sizes,
            "image_px": side_px,
            "image_width_px": width_px,
            "channels": patches.shape[1],
            "patch_px": patch_px,
            "pre_norm": is_pre_norm(state),
            "extra_tokens": 0 if extra is None else extra.shape[1],
            "fixed_positions": positions is not None,
            "alibi": distance,
            "prenet_depth": count(state, r"^student\.prenet\.(\d+)\."),
            "heads": config.get("num_heads") or alibi_heads(state, "student.stem.alibi.scale", sizes["width"]),
            "norm_eps": config.get("norm_eps", 1e-6),
        },
        "mask": {
            "kind": "block",
            "ratio": image.get("mask_prob", 0.8),
            "adjust": image.get("mask_prob_adjust", 0.07),
            "block": image.get("mask_length", 3),
            "inverse": image.get("inverse_mask", True),
        },
        "objective": v2_objective(state, config, image, V2),
        **NOT_STORED,
    }


# ------------------------------------------------------------------------------------------ data2vec 1.0


def convert_v1(reference: Reference) -> Converted | None:
    """A data2vec 1.0 image checkpoint (BEiT repository or fairseq port) in our names, or None if it is neither."""
    ported = "patch_embed.conv.weight" in reference.model
    if not ported and "patch_embed.proj.weight" not in reference.model:
        return None
    names = {name: v1_name(name, ported) for name in reference.model}
    state = {new: reference.model[name] for name, new in names.items() if new is not None}
    recipe = parse(VisionTrainConfig, v1_recipe(state, reference.config, ported))
    teacher = {name: value for name, value in state.items() if name.startswith("student.")}
    averaged = {"student." + rename(n, V1_RENAMES): v for n, v in reference.ema.items() if "position_index" not in n}
    teacher |= {name: value for name, value in averaged.items() if name in teacher}
    state |= {name.replace("student.", "teacher.encoder.", 1): value for name, value in teacher.items()}
    return Converted("vision", recipe, state, tuple(sorted(name for name, new in names.items() if new is None)))


def v1_name(name: str, ported: bool) -> str | None:
    """Our name; None for what has no place here. The port never applies its `final_proj`."""
    if name in ("mask_token", "mask_emb"):
        return "mask_token"
    if name.startswith("lm_head."):
        return name.replace("lm_head.", "head.")
    if "relative_position_index" in name or (ported and name.startswith("final_proj.")):
        return None
    return "student." + rename(name, V1_RENAMES)


def v1_recipe(state: Mapping[str, Tensor], config: Mapping[str, Any], ported: bool) -> dict[str, Any]:
    """A train recipe: sizes from the student's tensors, the rest from the stored configuration or the published one.

    Fine-tuned models have a relative position table in every block, and no norm after the last one."""
    patch_px = state["student.stem.local.proj.weight"].shape[-1]
    per_block = state.get("student.blocks.0.relative_bias")
    rows, heads = (state["student.stem.relative_bias"] if per_block is None else per_block).shape
    unlike: dict[str, Any] = {} if per_block is None else {"relative_bias": "per_block"}
    unlike |= {} if "student.final_norm.weight" in state else {"final_norm": False}
    scaled = "student.blocks.0.gamma_1" in state
    grid = (_side(rows - 3) + 1) // 2
    sizes = trunk_sizes(state)
    hidden = config.get("num_mask_patches", 120)
    end_of_block = config.get("end_of_block_targets", True)
    return {
        "encoder": {
            **sizes,
            "layout": "beit",
            "image_px": grid * patch_px,
            "patch_px": patch_px,
            "heads": heads,
            "norm_eps": 1e-5 if ported else 1e-6,
            "layer_scale_init": config.get("layer_scale_init_value", 1e-4) if scaled else None,
            **unlike,
        },
        "mask": {"kind": "beit", "ratio": min(hidden / grid**2, 0.99)},
        "objective": {
            "name": "data2vec1",
            "head": "none" if ported else "linear",
            "targets": targets(config, V1, sizes["depth"] // 2)
            | {"activation": "end_of_block" if end_of_block else "ffn"},
            "ema": ema(config, V1) | {"copied": ["stem.local.", "extra_tokens"] if ported else []},
            "loss": {"beta": config.get("loss_beta", V1.beta), "scale": "rsqrt_width" if ported else "inverse_width"},
        },
        **NOT_STORED,
    }
