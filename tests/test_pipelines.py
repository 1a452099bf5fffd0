"""The Kedro project: registered pipelines, their wiring, and folders as data."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.io import DatasetError

from d2v.errors import DataError
from d2v.modalities.registry import MODALITIES
from pipelines import console
from pipelines.datasets import FolderDataset, OutputDirDataset
from pipelines.pipeline_registry import CHAINS, STEPS, register_pipelines
from tests.conftest import ROOT, Command


def test_registry_lists_every_step_of_every_modality(kedro: Command) -> None:
    done = kedro("registry", "list")
    listed = {line.removeprefix("- ") for line in done.stdout.split("\n") if line}
    steps = {f"{name}_{modality}" for name in [*STEPS, *CHAINS] for modality in MODALITIES}
    assert listed == steps | {"__default__", "benchmark"}
    assert "Warning" not in done.stderr


def test_pretraining_starts_from_nothing() -> None:
    for modality in MODALITIES:
        pipeline = register_pipelines()[f"pretrain_{modality}"]
        free = {name for name in pipeline.inputs() if not name.startswith("params:")}
        assert all(name.endswith("_dir") for name in free)


def test_no_step_asks_which_modality_it_has() -> None:
    for file in (ROOT / "pipelines").rglob("*.py"):
        assert not any(f'"{modality}"' in file.read_text() for modality in MODALITIES), file


def test_a_folder_is_there_once_its_proof_is(tmp_path: Path) -> None:
    folder = FolderDataset(str(tmp_path / "corpus"), proof="corpus.json", made_by="ingest_vision")
    out = OutputDirDataset(str(tmp_path / "corpus"))
    with pytest.raises(DatasetError) as caught:
        folder.load()
    assert isinstance(console.known_error(caught.value), DataError)
    assert "kedro run --pipeline=ingest_vision" in str(console.known_error(caught.value))
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
        known = console.known_error(error)
    assert "free some space" in str(known)
    assert known.exit_code == 3


def test_a_defect_keeps_its_traceback() -> None:
    assert console.known_error(ValueError("a defect")) is None


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
