"""Errors of recipes: every wrong entry, where the recipe writes it, with the nearest key."""

from __future__ import annotations

from typing import Any

import pytest

from d2v.config import parse
from d2v.errors import ConfigError
from d2v.modalities.vision.config import VisionTrainConfig


def recipe(**changes: Any) -> dict[str, Any]:
    return {
        "objective": {
            "name": "data2vec2",
            "targets": {"top_k_layers": 2},
            "ema": {"decay_start": 0.99, "decay_end": 0.999},
        },
        "optimizer": {"lr": 1e-3},
        "encoder": {"image_px": 32, "patch_px": 4, "width": 32, "depth": 2, "heads": 2},
        "mask": {"kind": "block"},
        "batch_size": 8,
        "max_updates": 10,
    } | changes


def message(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(VisionTrainConfig, recipe(**changes), at="vision.train")
    return str(caught.value)


def test_a_right_recipe_is_typed_and_frozen() -> None:
    config = parse(VisionTrainConfig, recipe())
    assert config.encoder.grid == 8
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_keys_are_written_without_the_tags_of_unions() -> None:
    # `block` is the tag of the mask, and one of its keys.
    text = message(mask={"kind": "block", "block": 0, "blck": 3}, batchsize=3)
    assert "3 wrong entries" in text
    assert "vision.train.mask.block: 0 does not fit" in text
    assert "vision.train.mask.blck: unknown key (value 3); did you mean block?" in text
    assert "vision.train.batchsize: unknown key (value 3); did you mean batch_size?" in text


def test_a_missing_key_is_named() -> None:
    objective = {"name": "data2vec2", "targets": {}, "ema": {"decay_start": 0.99, "decay_end": 0.999}}
    assert "vision.train.objective.targets.top_k_layers: required" in message(objective=objective)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"encoder": {"image_px": 30, "patch_px": 4, "width": 32, "depth": 2, "heads": 2}}, "set image_px to 28"),
        ({"encoder": {"image_px": 32, "patch_px": 4, "width": 32, "depth": 1, "heads": 2}}, "set it to at most 1"),
        ({"mask": {"kind": "beit"}}, "set mask.kind=block"),
        ({"accumulation_steps": 3}, "set batch_size to a multiple of 3"),
        ({"mask": {"kind": "block", "ratio": 1.0}}, "change mask.ratio"),
        ({"mask": {"kind": "block", "ratio": 0.99, "inverse": True}}, "change mask.ratio"),
    ],
)
def test_impossible_combinations_name_the_fix(changes: dict[str, Any], fix: str) -> None:
    assert fix in message(**changes)
