"""Every recipe in conf/ parses as Kedro resolves it and builds on the meta device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.framework.startup import bootstrap_project

from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from pipelines.recipes import parse_all

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(
    (path.parent.name, path.stem.removeprefix("parameters_"))
    for path in (ROOT / "conf").glob("*/parameters_*.yml")
    if path.parent.name != "local" and path.stem.removeprefix("parameters_") in registry.MODALITIES
)
# With and without decoder: the parameters of the reference's models, counted by running it.
PUBLISHED = {
    ("imagenet", "vision"): (88_383_744, 85_797_888),
    ("imagenet_large", "vision"): (309_268_480, 303_300_608),
    ("imagenet_huge", "vision"): (637_403_392, 630_763_520),
    ("librispeech", "speech"): (93_783_308, 93_163_532),
    ("librilight", "speech"): (315_184_144, 313_275_408),
    ("bookwiki", "text"): (152_961_792, 124_054_272),
    ("bookwiki_large", "text"): (385_379_584, 354_309_120),
}
CLS_POSITION, WEIGHT_NORM, TOKEN_TYPE, POSITIONS_OF_PADDING = 768, 128, 768, 2 * 768
OPPONENTS = {
    ("imagenet_maskfeat", "vision"): 85_882_476 - CLS_POSITION,
    ("imagenet_beit", "vision"): 91_965_776,
    ("librispeech_hubert", "speech"): 94_371_712 + 196_864 + 100 * 256 - WEIGHT_NORM,
    ("librispeech_hubert_2", "speech"): 94_696_576 - WEIGHT_NORM,
    ("bookwiki_roberta", "text"): 124_697_433 - TOKEN_TYPE,
    ("bookwiki_bert", "text"): 110_106_428 - 2 * TOKEN_TYPE + POSITIONS_OF_PADDING,
}
"""All that is trained, as the authors' models have it, but for what the recipes name: a position of CLS, which is added
to CLS alone, the weight norm of convolutional positions, token types, and positions that stand for padding."""


@pytest.mark.parametrize(("name", "count"), [("Roberta", 124_697_433), ("Bert", 110_106_428)])
def test_transformers_has_models_of_these_sizes(name: str, count: int) -> None:
    import transformers

    sizes = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1} if name == "Roberta" else {}
    kind = "ForMaskedLM" if name == "Roberta" else "ForPreTraining"
    with torch.device("meta"):
        model = getattr(transformers, f"{name}{kind}")(getattr(transformers, f"{name}Config")(**sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def load(environment: str, **runtime_params: Any) -> dict[str, Any]:
    bootstrap_project(ROOT)
    from kedro.framework.project import settings

    loader = settings.CONFIG_LOADER_CLASS(
        str(ROOT / "conf"), env=environment, runtime_params=runtime_params, **settings.CONFIG_LOADER_ARGS
    )
    return {name: loader[name] for name in ("parameters", "globals", "catalog")}


@pytest.mark.parametrize(("environment", "modality"), RECIPES)
def test_recipe_parses_and_builds(environment: str, modality: str) -> None:
    recipe = parse_all(load(environment)["parameters"])[modality].train
    with torch.device("meta"):
        objective = build_objective(registry.get(modality), recipe)
    assert next(objective.student.parameters()).device.type == "meta"


@pytest.mark.parametrize(("environment", "modality"), PUBLISHED)
def test_parameter_counts_are_the_references(environment: str, modality: str) -> None:
    recipe = parse_all(load(environment)["parameters"])[modality].train
    with torch.device("meta"):
        objective = build_objective(registry.get(modality), recipe)
    decoder = sum(parameter.numel() for parameter in objective.decoder.parameters())
    student = sum(parameter.numel() for parameter in objective.student.parameters())
    assert (student + decoder, student) == PUBLISHED[environment, modality]


@pytest.mark.parametrize(("environment", "modality"), OPPONENTS)
def test_parameter_counts_of_opponents_are_their_authors(environment: str, modality: str) -> None:
    recipe = parse_all(load(environment)["parameters"])[modality].train
    with torch.device("meta"):
        objective = build_objective(registry.get(modality), recipe)
    trained = sum(parameter.numel() for parameter in objective.parameters() if parameter.requires_grad)
    assert trained == OPPONENTS[environment, modality]


@pytest.mark.parametrize(("environment", "modality"), [one for one in RECIPES if one[0] != "base"])
def test_a_recipe_says_what_to_expect(environment: str, modality: str) -> None:
    text = (ROOT / "conf" / environment / f"parameters_{modality}.yml").read_text()
    header = text.split(f"{modality}:")[0]
    for word in ("Hardware", "Data", "Expect", "Deviations"):
        assert f"# {word}" in header
    if environment.startswith(("imagenet", "libri", "bookwiki")) and not environment.endswith("_mini"):
        assert "# Time" in header


def test_every_modality_has_a_recipe_in_the_base() -> None:
    assert {modality for environment, modality in RECIPES if environment == "base"} == set(registry.MODALITIES)


def test_nothing_of_the_base_shines_through() -> None:
    assert load("imagenet")["parameters"]["vision"]["train"]["augment"]["crop_scale"] == [0.2, 1.0]
    assert "decoder" not in load("cifar10_v1")["parameters"]["vision"]["train"]["objective"]


def test_a_runtime_value_changes_only_itself() -> None:
    for environment in ("base", "cifar10"):
        plain = load(environment)["parameters"]["vision"]
        changed = load(environment, vision={"train": {"max_updates": 7}})["parameters"]["vision"]
        assert changed["train"].pop("max_updates") == 7
        plain["train"].pop("max_updates")
        assert changed == plain


@pytest.mark.parametrize("modality", registry.MODALITIES)
def test_recipes_of_one_corpus_have_their_own_runs(modality: str) -> None:
    environments = [environment for environment, name in RECIPES if name == modality]
    folders = [load(environment)["catalog"][f"{modality}.run_folder"]["path"] for environment in environments]
    assert len(set(folders)) == len(folders)


def test_errors_of_one_step_carry_its_dotted_name() -> None:
    with pytest.raises(ConfigError, match=r"vision\.ingest\.sorce: unknown key .* did you mean source\?"):
        parse_all({"vision": {"ingest": {"sorce": "glyphs"}}})
