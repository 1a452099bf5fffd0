"""transformers' Data2VecVision: names, what is read and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from d2v.errors import CheckpointError
from d2v.interchange import fairseq_vision
from d2v.interchange.huggingface_names import (
    Architecture,
    Pairs,
    Read,
    Written,
    layers,
    our_names,
    recipe_of,
    refuse_other,
    sizes,
    their_names,
)

_TABLE = "relative_position_bias.relative_position_bias_table"
NAMES: Pairs = (
    ("extra_tokens", "embeddings.cls_token"),
    ("stem.local.proj.", "embeddings.patch_embeddings.projection."),
    ("stem.relative_bias", f"encoder.{_TABLE}"),
    ("final_norm.", "layernorm."),
    *layers(
        "encoder.layer",
        {
            "relative_bias": f"attention.attention.{_TABLE}",
            "attn.q.": "attention.attention.query.",
            "attn.k.": "attention.attention.key.",
            "attn.v.": "attention.attention.value.",
            "attn.proj.": "attention.output.dense.",
            "norm1.": "layernorm_before.",
            "norm2.": "layernorm_after.",
            "mlp.fc1.": "intermediate.dense.",
            "mlp.fc2.": "output.dense.",
            "gamma_1": "lambda_1",
            "gamma_2": "lambda_2",
        },
    ),
)


def read(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Read:
    """A Data2VecVision as our encoder. Raises CheckpointError for parts that have no counterpart here."""
    refuse_other(config, {"hidden_act": ("gelu",), "use_absolute_position_embeddings": (False,), "num_channels": (3,)})
    if config.get("use_relative_position_bias") == config.get("use_shared_relative_position_bias"):
        raise CheckpointError(
            "the model has no relative position bias, or both a shared one and one of each block: it cannot be read"
        )
    state = our_names(theirs, NAMES)
    encoder = {
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.0),
        "drop_path": config.get("drop_path_rate", 0.1),
    }
    settings = {"layer_scale_init_value": config.get("layer_scale_init_value", 0.1)}

    def make(student: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
        return fairseq_vision.v1_recipe(student, settings, ported=False)

    return state, recipe_of(make, state, settings, encoder), ()


def write(settings: Mapping[str, Any], state: dict[str, Tensor], head: Mapping[str, Tensor]) -> Written:
    """Our encoder as a Data2VecVision."""
    weights = their_names(state, NAMES)
    mask = head.get("embeddings.mask_token", head.get("mask_token"))
    if mask is not None:
        weights["embeddings.mask_token"] = mask
    shared = "stem.relative_bias" in state
    config = {
        **sizes(settings),
        "image_size": settings["image_px"],
        "patch_size": settings["patch_px"],
        "num_channels": 3,
        "use_mask_token": mask is not None,
        "use_absolute_position_embeddings": False,
        "use_relative_position_bias": not shared,
        "use_shared_relative_position_bias": shared,
        "layer_scale_init_value": settings["layer_scale_init"] or 0.0,
        "use_mean_pooling": "final_norm.weight" not in state,  # else the mean is normed
        "drop_path_rate": settings["drop_path"],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
    }
    side = settings["image_px"]
    note = (
        f"Data2VecVision takes images of any size, and cuts what is no whole patch: give it {side} x {side}, as the "
        "image processor of the folder makes them"
    )
    return config, weights, (note,)


VISION = Architecture("data2vec-vision", "Data2VecVision", "vision", NAMES, read, write)
