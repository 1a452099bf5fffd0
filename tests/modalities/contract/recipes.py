"""Recipes refuse unknown keys, and building is a function of the seed."""

from __future__ import annotations

import pytest
import torch

from d2v.config import parse
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from tests.modalities.contract.subject import Subject, differing


def recipe_builds_and_refuses_unknown_keys(subject: Subject) -> None:
    name, modality = subject.modality.name, subject.modality
    assert registry.recipe_type(name) is modality.recipe
    assert registry.get(name) is modality
    assert modality.recipe.model_fields.keys() >= {"ingest", "prepare", "train", "evaluate"}
    for block in ("ingest", "prepare", "train"):
        wrong = subject.values | {block: {**subject.values[block], "no_such_key": 1}}
        with pytest.raises(ConfigError, match=rf"{name}\.{block}\.no_such_key: unknown key"):
            parse(modality.recipe, wrong, at=name)
    with torch.device("meta"):
        objective = build_objective(modality, subject.recipe)
    assert {parameter.device.type for parameter in objective.parameters()} == {"meta"}


def building_is_a_function_of_the_seed(subject: Subject) -> None:
    generator = torch.random.get_rng_state()
    one, same = (subject.build().state_dict() for _ in range(2))
    other = build_objective(subject.modality, subject.recipe.model_copy(update={"seed": 4})).state_dict()
    assert torch.equal(generator, torch.random.get_rng_state())
    assert differing(one, same) == set()
    assert differing(one, other)


CHECKS = (
    recipe_builds_and_refuses_unknown_keys,
    building_is_a_function_of_the_seed,
)
