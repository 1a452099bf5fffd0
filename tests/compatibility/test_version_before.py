"""What the version before wrote goes on working: runs, encoders, fine-tuned and registered models.

`version_before/` is what that version left, and what it found out with it; `make_fixtures` says how. Recipes there have
the keys of that version, and registered models import its modules.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import d2v
from d2v.config import parse
from d2v.evaluation.search_space import SEARCH, SearchSpace
from d2v.finetuning.finetune import finetune
from d2v.modalities import registry
from d2v.pretraining.pretrain import pretrain
from d2v.training.history import History
from tests.compatibility.items import ITEMS, MANIFEST, STORED, manifest_of, table_of

MODALITIES = pytest.mark.parametrize("name", ["vision", "speech", "text"])
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""For features and weights: another processor adds in another order."""

Copy = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copies a stored folder to where it may be written to."""

    def copied(part: str) -> Path:
        return Path(shutil.copytree(STORED / part, tmp_path / part))

    return copied


def expected(name: str) -> dict[str, Any]:
    """What the version before found."""
    return json.loads((STORED / name / "expected.json").read_text())


def recipe_of(name: str, **train: Any) -> Any:
    """The stored recipe, read by this version."""
    values = json.loads((STORED / name / "recipe.json").read_text())
    return parse(registry.get(name).recipe, values | {"train": values["train"] | train}, at=name)


def losses(run: Path) -> list[float]:
    return [row["train/loss"] for row in History.read(run / "history.csv").rows]


def assert_same_weights(ours: Path, theirs: Path) -> None:
    """Of all weights in two model folders; a space to search in is new."""
    files = sorted(file.name for file in theirs.glob("*.safetensors"))
    assert sorted(file.name for file in ours.glob("*.safetensors") if file.name != SEARCH) == files
    for file in files:
        new, old = load_file(ours / file), load_file(theirs / file)
        assert new.keys() == old.keys(), file
        for weight in old:
            np.testing.assert_allclose(new[weight], old[weight], **CLOSE, err_msg=f"{file}: {weight}")


def test_the_fixtures_are_as_they_were_written() -> None:
    """A rename in the whole tree, or an editor that ends lines otherwise, must not reach them."""
    assert manifest_of(STORED) == json.loads((STORED / MANIFEST).read_text())


# ------------------------------------------------------------------------------------------ pretraining


@MODALITIES
def test_an_unfinished_run_ends_where_the_version_before_ended(name: str, copy: Copy) -> None:
    run, recipe = copy(f"{name}/unfinished"), recipe_of(name)
    result = pretrain(registry.get(name), recipe.train, STORED / name / "prepared", run, recipe.evaluate)
    assert (result.resumed_from, result.updates) == (5, 8)
    assert losses(run) == pytest.approx(expected(name)["losses"], rel=1e-6)
    assert_same_weights(run / "encoder", STORED / name / "finished/encoder")
    assert SearchSpace.read(run / "encoder") is not None, "pretraining learns a space to search in"


@MODALITIES
def test_a_finished_run_says_so(name: str, copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    run, recipe = copy(f"{name}/finished"), recipe_of(name)
    before = manifest_of(run)
    result = pretrain(registry.get(name), recipe.train, STORED / name / "prepared", run, recipe.evaluate)
    assert (result.resumed_from, result.updates) == (8, 8)
    assert result.metrics["train/loss"] == expected(name)["losses"][-1]
    assert f"{run} is finished (8 updates)" in capsys.readouterr().err
    assert manifest_of(run) == before


@MODALITIES
def test_pretraining_starts_from_an_encoder_of_the_version_before(name: str, tmp_path: Path) -> None:
    start = STORED / name / "finished/encoder"
    recipe = recipe_of(name, max_updates=2, start=str(start))
    prepared = STORED / name / "prepared"
    pretrain(registry.get(name), recipe.train, prepared, tmp_path / "run", recipe.evaluate, start=start)
    assert losses(tmp_path / "run") == pytest.approx(expected(name)["losses_onwards"], rel=1e-6)


@MODALITIES
def test_an_encoder_gives_the_same_features(name: str) -> None:
    folder, stored = STORED / name / "finished/encoder", expected(name)
    model = d2v.load(folder)
    np.testing.assert_allclose(model.encode(ITEMS[name]), stored["features"], **CLOSE)
    np.testing.assert_allclose(model.encode(ITEMS[name], layers="all"), stored["features_of_layers"], **CLOSE)
    teacher = d2v.load(folder, teacher=True)
    np.testing.assert_allclose(teacher.encode(ITEMS[name]), stored["features_of_teacher"], **CLOSE)


# ------------------------------------------------------------------------------------------- fine-tuning


def tune(run: Path) -> Any:
    """The stored fine-tuning, from the stored encoder."""
    recipe, stored = recipe_of("vision"), STORED / "vision"
    start = stored / "finished/encoder"
    return finetune(registry.get("vision"), recipe.finetune, recipe.train, stored / "prepared", start, run)


def test_an_unfinished_tuning_ends_where_the_version_before_ended(copy: Copy) -> None:
    run = copy("vision/tuned_unfinished")
    assert (tune(run).resumed_from, losses(run)) == (3, pytest.approx(expected("vision")["tuned_losses"], rel=1e-6))
    assert_same_weights(run / "model", STORED / "vision/tuned/model")


def test_a_finished_tuning_says_so(copy: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    run = copy("vision/tuned")
    assert tune(run).resumed_from == 6
    assert f"{run} is finished (6 updates)" in capsys.readouterr().err


def test_tuning_starts_from_an_encoder_of_the_version_before(tmp_path: Path) -> None:
    tune(tmp_path / "run")
    assert losses(tmp_path / "run") == pytest.approx(expected("vision")["tuned_losses"], rel=1e-6)
    assert_same_weights(tmp_path / "run/model", STORED / "vision/tuned/model")


def test_a_tuned_model_predicts_the_same() -> None:
    model, stored = d2v.load(STORED / "vision/tuned/model"), expected("vision")
    np.testing.assert_allclose(model.outputs(ITEMS["vision"]), stored["outputs"], **CLOSE)
    assert model.predict(ITEMS["vision"]) == stored["predictions"]


# ----------------------------------------------------------------------------------- registered models


def test_a_registered_encoder_gives_the_same_features() -> None:
    """Its code, which MLflow executes, is that of the version before."""
    model = mlflow.pyfunc.load_model(str(STORED / "vision/registered/encoder"))
    np.testing.assert_allclose(model.predict(table_of("vision")), expected("vision")["registered_encoder"], **CLOSE)


def test_a_registered_tuned_model_predicts_the_same() -> None:
    model = mlflow.pyfunc.load_model(str(STORED / "vision/registered/tuned"))
    assert model.predict(table_of("vision")) == expected("vision")["registered_tuned"]
