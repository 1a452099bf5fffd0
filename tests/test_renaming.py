"""Old names of recipe keys: a recipe may still use them, and what is stored under them is the same recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
from pydantic import Field

from d2v.config import Block, RunConfig, changed, current_names, first_names, parse, renaming
from d2v.errors import ConfigError
from d2v.modalities.registry import MODALITIES, recipe_type
from d2v.modalities.speech.config import SpeechFinetuneConfig
from d2v.model_folder import read_config
from d2v.training import resume
from pipelines.config_loader import ConfigLoader
from pipelines.watched import watched

OLD = {"hide": {"time_ratio": 0.2}, "float32_products": "blas", "task": {"name": "transcription", "letters": "fairseq"}}
NEW = {
    "mask": {"time_ratio": 0.2},
    "float32_matmul": "blas",
    "task": {"name": "transcription", "vocabulary": "fairseq"},
}
REST: dict[str, Any] = {"optimizer": {"lr": 1e-3}, "batch_size": 8, "max_updates": 10}


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_said", set())


def finetune(**values: Any) -> SpeechFinetuneConfig:
    return parse(SpeechFinetuneConfig, REST | values, at="speech.finetune")


def test_an_old_name_means_the_new_one_and_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune(**OLD) == finetune(**OLD) == finetune(**NEW)
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "recipe: speech.finetune.float32_products is now called float32_matmul; the old name still works",
        "recipe: speech.finetune.hide is now called mask; the old name still works",
        "recipe: speech.finetune.task.letters is now called vocabulary; the old name still works",
    ]


def test_blocks_made_in_python_know_old_names_too() -> None:
    assert SpeechFinetuneConfig.model_validate(REST | OLD) == SpeechFinetuneConfig(**REST, **NEW)


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"speech\.finetune: hide is the old name of mask, .* leave out hide"):
        finetune(**OLD, mask={"time_ratio": 0.3})


def test_a_wrong_value_is_reported_under_the_new_name() -> None:
    with pytest.raises(ConfigError, match=r"speech\.finetune\.mask\.time_ratio: 3 does not fit"):
        finetune(**OLD | {"hide": {"time_ratio": 3}})


def test_changes_may_use_old_names() -> None:
    config = changed(finetune(**NEW), {"hide": {"time_span": 3}}, {"task": {"letters": "data"}}, at="changes")
    assert (config.mask.time_ratio, config.mask.time_span, config.task.vocabulary) == (0.2, 3, "data")


def test_a_stored_recipe_with_old_names_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = finetune(**NEW)
    stored = json.loads(json.dumps(first_names(SpeechFinetuneConfig, resume.shaping(recipe))))
    assert {"hide", "task"} <= stored.keys()
    assert "letters" in stored["task"]
    assert "mask" not in stored
    assert not resume.differences("", SpeechFinetuneConfig, (stored, "data"), (resume.shaping(recipe), "data"))
    (tmp_path / resume.RESULT).write_text(json.dumps({"recipe": stored, "data_fingerprint": "data"}))
    assert resume.is_finished(recipe, "data", tmp_path)
    other = finetune(**NEW | {"mask": {"time_ratio": 0.3}})
    assert not resume.is_finished(other, "data", tmp_path)
    (line,) = resume.differences("speech.finetune", SpeechFinetuneConfig, (stored, ""), (resume.shaping(other), ""))
    assert line == "speech.finetune.mask.time_ratio: 0.2 -> 0.3"
    assert not capsys.readouterr().err


def test_a_model_folder_with_old_names_is_read_under_the_new_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = {"modality": "speech", "recipe": {"float32_products": "blas"}, "finetune": OLD, "class_names": []}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert read_config(tmp_path) == stored | {"recipe": {"float32_matmul": "blas"}, "finetune": NEW}
    assert not capsys.readouterr().err


@pytest.mark.parametrize("modality", MODALITIES)
def test_renaming_forth_and_back_changes_nothing(modality: str) -> None:
    """No new name is the old name of another key."""
    kind = recipe_type(modality)
    finetune = next(iter(get_args(kind.model_fields["finetune"].annotation)))
    values = {"finetune": {name: name for name in finetune.model_fields}}
    first = first_names(kind, values)
    assert first != values
    assert current_names(kind, first) == values


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A recipe with new names, and one with old names that derives from it."""
    recipes = {
        "base": "speech: {finetune: {mask: {time_ratio: 0.2, time_span: 5}, float32_matmul: blas}}",
        "older": "speech: {base: base, finetune: {hide: {time_ratio: 0.3}, float32_products: onednn}}",
    }
    for environment, text in recipes.items():
        folder = tmp_path / "conf" / environment
        folder.mkdir(parents=True)
        (folder / "parameters_speech.yml").write_text(text)
    return tmp_path / "conf"


@pytest.mark.parametrize("environment", ["base", "older"])
def test_params_with_old_names_reach_recipes_with_new_ones(conf: Path, environment: str) -> None:
    """`--params speech.finetune.hide.time_ratio=0.4`, which must not stand beside the recipe's own `mask`."""
    params = {"speech": {"finetune": {"hide": {"time_ratio": 0.4}}}}
    loader = ConfigLoader(str(conf), environment, params, base_env="base", default_run_env="base")
    assert loader["parameters"]["speech"]["finetune"]["mask"] == {"time_ratio": 0.4, "time_span": 5}


def test_a_recipe_with_old_names_derives_from_one_with_new_ones(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loader = ConfigLoader(str(conf), "older", base_env="base", default_run_env="base")
    new = {"mask": {"time_ratio": 0.3, "time_span": 5}, "float32_matmul": "onednn"}
    assert loader["parameters"]["speech"]["finetune"] == new
    assert "speech.finetune.hide is now called mask" in capsys.readouterr().err


def test_what_dvc_watches_keeps_the_first_names() -> None:
    """A new name must not make DVC train anew."""
    finetune = watched("speech")["finetune"]
    assert "hide" in finetune
    assert "mask" not in finetune


class Inner(Block):
    renamed: ClassVar = {"older": "new", "old": "new"}
    name: str = "inner"
    new: int = 0


class Outer(RunConfig):
    renamed: ClassVar = {"within": "inner"}
    inner: Inner | None = None
    settings: dict[str, Any] = Field(default_factory=dict)


def test_renames_are_inherited_and_reach_into_blocks() -> None:
    values = {"within": {"old": 1}, "float32_products": "blas", "settings": {"old": 2}, "unknown": 3}
    new = {"inner": {"new": 1}, "float32_matmul": "blas", "settings": {"old": 2}, "unknown": 3}
    assert current_names(Outer, values) == new
    assert first_names(Outer, new) == values | {"within": {"older": 1}}
