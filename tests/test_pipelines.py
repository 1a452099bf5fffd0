"""The Kedro project: registered pipelines, their wiring, and folders as data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.exceptions
import mlflow
import pytest
import yaml
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError

from d2v.config import Block, read_recipe
from d2v.errors import ConfigError, DataError, LaunchError, known_error
from d2v.modalities.registry import MODALITIES, recipe_type
from pipelines.cli import _take_own_pipeline
from pipelines.datasets import FolderDataset, OutputDirDataset
from pipelines.hooks import RecipeHook
from pipelines.pipeline_registry import CHAINS, STEPS, register_pipelines
from pipelines.recipes import parse_all
from pipelines.steps.retrain import retrain
from tests.conftest import ROOT, Command


def test_registry_lists_every_step_of_every_modality(kedro: Command) -> None:
    done = kedro("registry", "list")
    listed = {line.removeprefix("- ") for line in done.stdout.split("\n") if line}
    steps = {f"{name}_{modality}" for name in [*STEPS, *CHAINS] for modality in MODALITIES}
    assert listed == steps | {"__default__", "benchmark", "align", "promote_align", "retrain_align"}
    assert "Warning" not in done.stderr


def test_pretraining_starts_from_nothing() -> None:
    for modality in MODALITIES:
        pipeline = register_pipelines()[f"pretrain_{modality}"]
        free = {name for name in pipeline.inputs() if not name.startswith("params:")}
        assert all(name.endswith("_dir") for name in free)


def test_the_whole_chain_tunes_what_it_has_trained() -> None:
    for modality in MODALITIES:
        pipeline = register_pipelines()[f"whole_{modality}"]
        order = [node.name.removeprefix(f"{modality}.") for node in pipeline.nodes]
        assert order.index("train") < order.index("finetune")
        assert sorted(order) == sorted(
            "ingest prepare train evaluate register finetune evaluate_tuned register_tuned".split()  # noqa: SIM905
        )
        free = {name for name in pipeline.inputs() if not name.startswith("params:")}
        assert all(name.endswith("_dir") for name in free)


def test_an_environment_names_its_own_pipeline(session: KedroSession, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    (tmp_path / "birds" / "globals.yml").write_text("pipeline: whole_vision\n")
    given = {"env": "birds", "conf_source": str(tmp_path), "pipeline": None, "pipelines": None}
    _take_own_pipeline(given)
    assert given["pipelines"] == ["whole_vision"]
    asked = {**given, "pipelines": ["train_vision"]}
    _take_own_pipeline(asked)
    assert asked["pipelines"] == ["train_vision"]
    (tmp_path / "birds" / "globals.yml").write_text("pipeline: whole_visoin\n")
    with pytest.raises(ConfigError, match="did you mean whole_vision"):
        _take_own_pipeline({**given, "pipelines": None})


def test_no_step_asks_which_modality_it_has() -> None:
    for file in (ROOT / "pipelines").rglob("*.py"):
        assert not any(f'"{modality}"' in file.read_text() for modality in MODALITIES), file


def test_a_folder_is_there_once_its_proof_is(tmp_path: Path) -> None:
    folder = FolderDataset(str(tmp_path / "corpus"), proof="corpus.json", made_by="ingest_vision")
    out = OutputDirDataset(str(tmp_path / "corpus"))
    with pytest.raises(DatasetError) as caught:
        folder.load()
    assert isinstance(known_error(caught.value), DataError)
    assert "kedro run --pipeline=ingest_vision" in str(known_error(caught.value))
    (out.load() / "corpus.json").write_text("{}")
    folder.save(out.load())
    assert folder.load() == tmp_path / "corpus"


def test_a_node_cannot_write_elsewhere(tmp_path: Path) -> None:
    folder = FolderDataset(str(tmp_path / "corpus"), proof="corpus.json", made_by="ingest_vision")
    with pytest.raises(DatasetError, match="but the catalog says"):
        folder.save(tmp_path / "other")


def test_a_full_disk_is_explained() -> None:
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise DatasetError("Failed while saving") from error
    except DatasetError as error:
        known = known_error(error)
    assert "free some space" in str(known)
    assert known.exit_code == 3


def test_storage_that_does_not_answer_is_explained() -> None:
    known = known_error(botocore.exceptions.NoCredentialsError())
    assert isinstance(known, DataError)
    assert re.search(r"NoCredentialsError: Unable to locate credentials\).*ingest\.options\.anon=true", str(known))


def test_a_defect_keeps_its_traceback() -> None:
    assert known_error(ValueError("a defect")) is None


TINY = {
    "ingest": {"options": {"count": 60, "test_count": 20, "characters": "AB"}},
    "prepare": {"probe_train_images": 20, "probe_test_images": 10},
    "train": {
        "batch_size": 4,
        "max_updates": 2,
        "schedule": {"warmup_updates": 1},
        "encoder": {"width": 32, "depth": 2, "heads": 2},
        "objective": {"targets": {"top_k_layers": 2}},
        "checkpoint": {"every_updates": 2},
    },
}


@pytest.fixture
def session(scratch_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[KedroSession]:
    """A `kedro run` in this process, on a tiny recipe of vision."""
    for name in ("D2V_DATA", "D2V_ARTIFACTS", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, scratch_environment[name])
    before = mlflow.get_tracking_uri()
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, runtime_params={"vision": TINY}) as opened:
        yield opened
    mlflow.set_tracking_uri(before)


def test_a_command_parses_each_recipe_once(session: KedroSession, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[type[Block]] = []
    validate = Block.model_validate.__func__

    def counted(block: type[Block], *arguments: Any, **options: Any) -> Block:
        parsed.append(block)
        return validate(block, *arguments, **options)

    monkeypatch.setattr(Block, "model_validate", classmethod(counted))
    session.run(pipeline_names=["ingest_vision", "prepare_vision", "train_vision"])
    sources = {"GlyphOptions"}  # what a source's own options mean, only the source knows
    names = sorted(block.__name__ for block in parsed if block.__name__ not in sources)
    assert names == sorted(["AlignConfig", *(recipe_type(modality).__name__ for modality in MODALITIES)])
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.data.params["train.batch_size"] == "4"
    assert run.data.params["train.optimizer.weight_decay"], "a default"


def test_nodes_get_typed_blocks_with_their_defaults(session: KedroSession) -> None:
    catalog = session.load_context().catalog
    train = catalog.load("params:vision.train")
    assert isinstance(train, recipe_type("vision").model_fields["train"].annotation)
    assert train.batch_size == TINY["train"]["batch_size"]
    assert catalog.load("params:vision.promote") == catalog.load("parameters")["vision"].promote


def test_kedro_builds_its_catalog_without_the_hooks() -> None:
    """As Kedro-Viz does: blocks are plain values then."""
    bootstrap_project(ROOT)
    with KedroSession.create(ROOT) as session:
        session._hook_manager = _create_hook_manager()
        catalog = session.load_context().catalog
    assert isinstance(catalog.load("params:vision.train"), dict)


def test_a_step_without_its_block_is_reported(session: KedroSession) -> None:
    context = session.load_context()
    recipes = context.config_loader["parameters"]
    context.config_loader["parameters"] = {**recipes, "vision": recipes["vision"].model_copy(update={"finetune": None})}
    hook = RecipeHook()
    hook.conf = ROOT / "conf"
    with pytest.raises(ConfigError, match=r"the recipe lacks vision\.finetune: add that") as error:
        hook.before_pipeline_run({}, register_pipelines()["tune_vision"], context.catalog)
    shown = yaml.safe_load(str(error.value).split(":\n", 1)[1])
    assert {"task", "optimizer", "batch_size", "max_updates"} <= shown["vision"]["finetune"].keys()
    whole = read_recipe(ROOT / "conf", "own_data", "vision") | shown["vision"]
    assert parse_all({"vision": whole})["vision"].finetune.task.name == "classification"
    for key in shown["vision"]["finetune"]:
        less = {name: value for name, value in shown["vision"]["finetune"].items() if name != key}
        with pytest.raises(ConfigError):
            parse_all({"vision": whole | {"finetune": less}})


def test_a_retraining_starts_its_ranks_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=r"set vision\.train\.distributed\.ranks"):
        retrain("vision", {}, *[tmp_path] * 5)


@pytest.mark.slow
def test_kedro_viz_builds(scratch_environment: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "a copy"
    for folder in ("conf", "pipelines"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", ".telemetry"):
        shutil.copy(ROOT / file, copy)
    command = [sys.executable, "-m", "kedro", "viz", "build"]
    done = subprocess.run(
        command, cwd=copy, env=scratch_environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    graph = json.loads((copy / "build" / "api" / "main").read_text())
    assert {"ingest", "prepare", "train", "evaluate", "register"} <= {node["name"] for node in graph["nodes"]}
