"""Combinations that cannot work are refused when a recipe is read, with what to set instead."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from d2v.config import ObjectiveConfig, parse
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.modalities.registry import recipe_type
from d2v.objectives.build import build_objective

LAYOUT_OF = {"speech": "data2vec1", "text": "data2vec1", "vision": "beit"}
MASK_OF = {"speech": ("block", "span"), "text": ("random", "span"), "vision": ("block", "beit")}
"""Kinds of masks for data2vec 2.0 and for 1.0."""
BASELINES_OF = {"speech": ("maskfeat", "wav2vec2", "hubert"), "text": ("mlm",), "vision": ("mae", "maskfeat", "beit")}
NEEDED = {"hubert": {"codes": 5}}
"""What an objective must be told."""
PREPARED = {"hubert": {"codebook": {"codes": 5}}, "beit": {"codebook": {}}}
"""What it asks of the prepare block."""


def recipe(modality: str, objective: str = "data2vec2", top_k_layers: int = 4, **train: Any) -> dict[str, Any]:
    """A recipe that fits, unless `train` or another block of it says otherwise."""
    second = objective == "data2vec2"
    blocks = {
        "objective": {"name": objective, "targets": {"top_k_layers": top_k_layers}, "ema": {"decay_start": 0.9}},
        "encoder": {"layout": "data2vec2" if second else LAYOUT_OF[modality], "depth": 4},
        "mask": {"kind": MASK_OF[modality][0 if second else 1]},
        "optimizer": {"lr": 1e-3},
        "batch_size": 8,
        "max_updates": 10,
    }
    blocks["objective"]["ema"]["decay_end"] = 0.9
    store = {"prepare": {"store_px": 224}} if modality == "vision" else {}
    return {"ingest": {"source": "anything"}, "train": blocks | train, **store}


def refusal(modality: str, values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        parse(recipe_type(modality), values, at=modality)
    return str(error.value)


@pytest.mark.parametrize("modality", LAYOUT_OF)
@pytest.mark.parametrize("objective", ["data2vec2", "data2vec1"])
def test_what_fits_is_accepted_and_the_rest_names_the_fix(modality: str, objective: str) -> None:
    parse(recipe_type(modality), recipe(modality, objective))
    assert "set it to at most 4" in refusal(modality, recipe(modality, objective, top_k_layers=5))
    assert "does not split into 5 heads" in refusal(modality, recipe(modality, objective, encoder={"heads": 5}))
    other = "data2vec1" if objective == "data2vec2" else "data2vec2"
    layouts = {"data2vec2": "data2vec2", "data2vec1": LAYOUT_OF[modality]}
    wrong = recipe(modality, objective, encoder={"layout": layouts[other], "depth": 4})
    assert f"set encoder.layout={layouts[objective]}" in refusal(modality, wrong)


@pytest.mark.parametrize("modality", LAYOUT_OF)
def test_masks_of_data2vec1_do_not_fit_2(modality: str) -> None:
    second, first = MASK_OF[modality]
    assert f"set mask.kind={second}" in refusal(modality, recipe(modality, mask={"kind": first}))


@pytest.mark.parametrize("modality", LAYOUT_OF)
@pytest.mark.parametrize("objective", ["mae", "maskfeat", "beit", "wav2vec2", "hubert", "mlm"])
def test_a_baseline_fits_some_modalities_and_the_rest_name_what_fits(modality: str, objective: str) -> None:
    values = recipe(modality)
    layout = "data2vec2" if modality == "vision" else "data2vec1"
    kind = {"vision": "block", "speech": "span", "text": "random"}[modality]
    values["train"] |= {
        "objective": {"name": objective, **NEEDED.get(objective, {})},
        "encoder": {"layout": layout},
        "mask": {"kind": kind},
    }
    if objective in BASELINES_OF[modality]:
        values["prepare"] = values.get("prepare", {}) | PREPARED.get(objective, {})
        parse(recipe_type(modality), values, at=modality)
        return
    fitting = ["data2vec2", "data2vec1", *BASELINES_OF[modality]]
    assert f"set objective.name={' or '.join(fitting)}" in refusal(modality, values)
    unchecked = parse(recipe_type(modality), recipe(modality)).train  # as a modality whose config does not check
    unchecked = unchecked.model_copy(update={"objective": parse_objective(objective)})
    with pytest.raises(
        ConfigError, match=rf"does not fit {modality}.*set train\.objective\.name={' or '.join(fitting)}"
    ):
        build_objective(registry.get(modality), unchecked)


def parse_objective(name: str) -> Any:
    """The block of an objective, without a recipe."""
    return TypeAdapter(ObjectiveConfig).validate_python({"name": name, **NEEDED.get(name, {})})


@pytest.mark.parametrize(
    ("key", "block"),
    [
        ("augment.max_seconds", {"train": {"augment": {"max_seconds": 0.03}}}),
        ("ingest.min_seconds", {"ingest": {"min_seconds": 0.02}}),
        ("prepare.min_seconds", {"prepare": {"min_seconds": 0.03}}),
        ("prepare.probe_max_seconds", {"prepare": {"probe_max_seconds": 0.02}}),
    ],
)
def test_recordings_too_short_for_the_encoders_frames(key: str, block: dict[str, Any]) -> None:
    """One frame takes 25 ms, and two take 45."""
    values = recipe("speech")
    for name, part in block.items():
        values[name] = values.get(name, {}) | part
    assert f"raise {key}" in refusal("speech", values)
