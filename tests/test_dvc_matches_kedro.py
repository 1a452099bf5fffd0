"""dvc.yaml and the Kedro catalog name the same paths and parameters."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from kedro.config import OmegaConfigLoader
from kedro.framework.startup import bootstrap_project

from pipelines.pipeline_registry import register_pipelines

ROOT = Path(__file__).resolve().parents[1]


def stages() -> dict[str, Any]:
    with Repo(str(ROOT)) as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


STAGES = stages()


def catalog() -> dict[str, Any]:
    bootstrap_project(ROOT)
    from kedro.framework.project import settings

    return OmegaConfigLoader(str(ROOT / "conf"), env="base", **settings.CONFIG_LOADER_ARGS)["catalog"]


def paths(items: list[Any]) -> set[PurePosixPath]:
    return {PurePosixPath(Path(item.fs_path).relative_to(ROOT)) for item in items}


def inside(path: str, folders: set[PurePosixPath]) -> bool:
    """`path` is one of the folders, lies in one, or holds one (a metrics file that DVC tracks alone)."""
    given = PurePosixPath(path)
    return any(given == folder or folder in given.parents or given in folder.parents for folder in folders)


def pipeline_of(stage: Any) -> Any:
    (name,) = [word.partition("=")[2] for word in stage.cmd.split() if word.startswith("--pipelines=")]
    return register_pipelines()[name]


@pytest.mark.parametrize("name", STAGES)
def test_paths_agree(name: str) -> None:
    stage, entries = STAGES[name], catalog()
    pipeline = pipeline_of(stage)
    free = [item for item in pipeline.inputs() if not item.startswith("params:") and not item.endswith("_place")]
    for item in free:
        assert inside(entries[item]["path"], paths(stage.deps)), f"{item} is not among the deps of {name}"
    for item in pipeline.all_outputs():
        assert inside(entries[item]["path"], paths(stage.outs)), f"{item} is not among the outs of {name}"
    for item in (item for item in pipeline.inputs() if item.endswith("_place")):
        assert inside(entries[item]["path"], paths(stage.outs)), f"{item} is written to, but not an out of {name}"


@pytest.mark.parametrize("name", STAGES)
def test_parameters_agree(name: str) -> None:
    stage = STAGES[name]
    wanted = {item.removeprefix("params:") for item in pipeline_of(stage).inputs() if item.startswith("params:")}
    watched = {key for dependency in stage.deps for key in getattr(dependency, "params", None) or []}
    assert wanted == watched


@pytest.mark.parametrize("name", STAGES)
def test_stages_run_what_is_committed(name: str) -> None:
    words = STAGES[name].cmd.split()
    assert words[:3] == ["kedro", "run", "--env=base"]
    assert not any(word.startswith("--params") for word in words), "DVC would not see a change of it"


def test_code_that_stages_watch_exists() -> None:
    for name, stage in STAGES.items():
        for path in paths(stage.deps):
            assert path.parts[0] == "data" or (ROOT / path).exists(), f"{name} watches {path}"


def test_tracked_parameters_are_literal() -> None:
    for file in (ROOT / "conf" / "base").glob("parameters_*.yml"):
        assert "${" not in file.read_text(), f"DVC cannot resolve an interpolation in {file.name}"


def test_a_killed_training_keeps_its_checkpoints() -> None:
    definition = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["train"]["do"]["outs"]
    assert all(options == {"persist": True} for out in definition for options in out.values())


def test_dvc_reads_the_whole_graph() -> None:
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
