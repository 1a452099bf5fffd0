"""dvc.yaml and the Kedro catalog name the same paths and parameters, and a stage watches the code that it runs."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from kedro.framework.startup import bootstrap_project

from d2v.config import RESULT_NEUTRAL
from d2v.evaluation.evaluate import WRITTEN
from d2v.evaluation.metrics_file import METRICS
from d2v.modalities.registry import MODALITIES, recipe_type
from pipelines.pipeline_registry import register_pipelines
from pipelines.watched import watched
from tests.import_closure import COMPUTED, closure_of_module, closure_of_step, file_of

ROOT = Path(__file__).resolve().parents[1]


def stages() -> dict[str, Any]:
    with Repo(str(ROOT)) as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


STAGES = stages()
KEDRO = [name for name in STAGES if not name.startswith("recipe@")]
TRAINING = [name for name in STAGES if name.startswith(("train@", "finetune@"))]
EVERY = ("recipe", "ingest", "prepare", "train", "finetune", "evaluate")
UNWATCHED_CODE = {
    "pipelines/datasets": (EVERY, "paths of folders, and whether they are complete; steps fill them"),
    "pipelines/recipes.py": (EVERY, "it names nodes and parses; what it parses is watched itself"),
    "pipelines/tracking.py": (EVERY, "MLflow gets copies; no file of a stage comes from it"),
    "src/d2v/__init__.py": (EVERY, "settings of threads and names for users"),
    "src/d2v/config": (EVERY[1:], "a stage watches the values: in recipe/ with defaults, or as parameters"),
    "src/d2v/distributed": (EVERY, "it starts and joins ranks, whose number does not change a result"),
    "src/d2v/errors.py": (EVERY, "messages"),
    "src/d2v/imports.py": (EVERY, "how fast other modules are imported"),
    "src/d2v/modalities/checks.py": (EVERY, "a recipe passes or stops the stage"),
    "src/d2v/modalities/probes.py": (EVERY[:-1], "what `evaluate` measures; other steps import the types alone"),
    "src/d2v/modalities/registry.py": (EVERY, "a new modality changes no other"),
    "src/d2v/modalities/requests.py": (EVERY, "what served models are sent; no stage serves"),
    "src/d2v/modalities/suggestion.py": (EVERY, "what `d2v train` writes into a new recipe; a stage has one"),
    "src/d2v/models": (("ingest", "prepare"), "these steps are methods of a class that also builds encoders"),
    "src/d2v/moved.py": (EVERY, "old names for other programs"),
    "src/d2v/processes.py": (EVERY, "how processes end"),
    "src/d2v/progress.py": (EVERY, "lines on the terminal"),
    "src/d2v/tracker.py": (EVERY, "MLflow gets copies"),
    "src/d2v/tracking": (EVERY, "MLflow gets copies; registered models are versioned there, not by DVC"),
}
"""File or folder that steps import and that cannot change what they leave: (steps, reason)."""
NOT_WATCHED = {"train": {"evaluate"}, "finetune": {"train"}}
"""Blocks that a step reads, but that do not shape what it leaves: settings of the online probe, and sizes of an encoder
with random weights where a pretrained one is among the deps."""


def modality_of(name: str) -> str:
    return name.partition("@")[2]


@functools.cache
def catalog() -> dict[str, Any]:
    bootstrap_project(ROOT)
    from kedro.framework.project import settings

    return settings.CONFIG_LOADER_CLASS(str(ROOT / "conf"), env="base", **settings.CONFIG_LOADER_ARGS)["catalog"]


def paths(items: list[Any]) -> set[PurePosixPath]:
    return {PurePosixPath(Path(item.fs_path).relative_to(ROOT)) for item in items}


def inside(path: str, folders: set[PurePosixPath]) -> bool:
    """`path` is one of the folders, lies in one, or holds one (a metrics file that DVC tracks alone)."""
    given = PurePosixPath(path)
    return any(given == folder or folder in given.parents or given in folder.parents for folder in folders)


def commands_of(stage: Any) -> list[str]:
    return stage.cmd if isinstance(stage.cmd, list) else [stage.cmd]


registered = functools.cache(register_pipelines)


def pipeline_of(stage: Any) -> Any:
    (name,) = [word.partition("=")[2] for word in commands_of(stage)[0].split() if word.startswith("--pipelines=")]
    return registered()[name]


def outs(stage: Any, **having: bool) -> list[Any]:
    """Outs of a stage with these attributes, such as metric=True."""
    return [out for out in stage.outs if all(bool(getattr(out, key)) == value for key, value in having.items())]


def test_every_step_of_every_modality_is_a_stage() -> None:
    steps = ("recipe", "ingest", "prepare", "train", "evaluate")
    wanted = {f"{step}@{modality}" for step in steps for modality in MODALITIES}
    assert set(STAGES) == wanted | {
        f"finetune@{modality}" for modality in MODALITIES if "finetune" in watched(modality)
    }


@pytest.mark.parametrize("name", KEDRO)
def test_paths_agree(name: str) -> None:
    stage, entries = STAGES[name], catalog()
    pipeline = pipeline_of(stage)
    free = [item for item in pipeline.inputs() if not item.startswith("params:") and not item.endswith("_dir")]
    for item in free:
        assert inside(entries[item]["path"], paths(stage.deps)), f"{item} is not among the deps of {name}"
    for item in pipeline.all_outputs():
        proof = f"{entries[item]['path']}/{entries[item]['proof']}"
        assert inside(proof, paths(stage.outs)), f"{item} is not among the outs of {name}"
    written = {entries[item]["path"] for item in pipeline.all_outputs()}
    read = {entries[item]["path"] for item in free}
    for item in (item for item in pipeline.inputs() if item.endswith("_dir")):
        path = entries[item]["path"]  # `finetune` takes the folder of the encoder's run, which it only reads
        assert path in written | read or inside(path, paths(stage.deps)), f"{item} is neither out nor dep of {name}"


@pytest.mark.parametrize("name", KEDRO)
def test_parameters_agree(name: str) -> None:
    stage, modality = STAGES[name], modality_of(name)
    read = {item.removeprefix(f"params:{modality}.") for item in pipeline_of(stage).inputs() if "params:" in item}
    watched = watched_parameters(stage)
    shaping = {path.stem for path in paths(stage.deps) if path.parent.name == "recipe"}
    assert read - NOT_WATCHED.get(step_of(name), set()) == watched | shaping
    assert not watched & {"train", "finetune"}, "a whole block holds keys that change nothing: depend on recipe/"


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_neutral_key_is_not_watched(modality: str) -> None:
    for block, values in watched(modality).items():
        assert not set(RESULT_NEUTRAL) - {"bootstrap_resamples"} & values.keys()
        assert {"optimizer", "seed", "max_updates", "precision"} <= values.keys(), f"{block}: defaults count too"


@pytest.mark.parametrize("name", KEDRO)
def test_stages_run_what_is_committed(name: str) -> None:
    words = commands_of(STAGES[name])[0].split()
    assert words[:3] == ["kedro", "run", "--env=base"]
    assert not any(word.startswith("--params") for word in words), "DVC would not see a change of it"


def step_of(name: str) -> str:
    return name.partition("@")[0]


def code_of(stage: Any) -> set[PurePosixPath]:
    """Files and folders of code among a stage's deps."""
    return {path for path in paths(stage.deps) if path.parts[0] in ("pipelines", "src")}


def watched_parameters(stage: Any) -> set[str]:
    """Blocks of the recipe that a stage watches as they are written."""
    keys = [key for dep in stage.deps for key in getattr(dep, "params", None) or []]
    return {key.partition(".")[2] for key in keys} - {""}


@functools.cache
def closure(name: str) -> set[PurePosixPath]:
    """Files that a stage's command imports."""
    if step_of(name) == "recipe":
        return closure_of_module("pipelines.watched", modality_of(name))
    return closure_of_step(pipeline_of(STAGES[name]), modality_of(name))


def shaping_code(name: str) -> set[PurePosixPath]:
    """Files that can change what a stage leaves: of those that it imports, and those with the defaults of what it
    watches as it is written."""
    unwatched = {PurePosixPath(path) for path, (steps, _) in UNWATCHED_CODE.items() if step_of(name) in steps}
    blocks = recipe_type(modality_of(name)).model_fields
    defaults = {file_of(blocks[block].annotation.__module__) for block in watched_parameters(STAGES[name])}
    return {file for file in closure(name) if not unwatched & {file, *file.parents}} | defaults


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_watches_the_code_that_shapes_its_outputs(name: str) -> None:
    code = code_of(STAGES[name])
    missing = sorted(str(file) for file in shaping_code(name) if not code & {file, *file.parents})
    assert not missing, f"add to {name}'s deps in dvc.yaml, or with a reason to UNWATCHED_CODE: {missing}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_watches_no_code_that_it_does_not_run(name: str) -> None:
    run = {path for file in shaping_code(name) for path in (file, *file.parents)}
    needless = sorted(str(path) for path in code_of(STAGES[name]) - run)
    assert not needless, f"remove from {name}'s deps in dvc.yaml: {needless}"


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_does_not_watch_other_modalities(name: str) -> None:
    others = [f"src/d2v/modalities/{modality}" for modality in MODALITIES if modality != modality_of(name)]
    assert not [other for other in others if inside(other, code_of(STAGES[name]))]


def test_every_exception_is_needed() -> None:
    for path, (steps, _) in UNWATCHED_CODE.items():
        files = {file for name in STAGES if step_of(name) in steps for file in closure(name)}
        assert any(PurePosixPath(path) in {file, *file.parents} for file in files), f"no stage imports {path}"


def test_no_other_module_imports_by_a_computed_name() -> None:
    files = {file for name in STAGES for file in closure(name)}
    computing = {file for file in files if "import_module(" in (ROOT / file).read_text()}
    assert computing == {file_of(module) for module in COMPUTED}


def test_code_that_stages_watch_exists() -> None:
    for name, stage in STAGES.items():
        for path in paths(stage.deps):
            assert path.parts[0] == "data" or (ROOT / path).exists(), f"{name} watches {path}"


def test_tracked_parameters_are_literal() -> None:
    for file in (ROOT / "conf" / "base").glob("parameters_*.yml"):
        assert "${" not in file.read_text(), f"DVC cannot resolve an interpolation in {file.name}"


@pytest.mark.parametrize("name", TRAINING)
def test_a_killed_training_keeps_its_checkpoints_and_a_finished_one_leaves_none(name: str) -> None:
    stage = STAGES[name]
    (run,) = {PurePosixPath(entry["path"]) for entry in run_folders(stage)}
    assert not inside(f"{run}/checkpoints", paths(stage.outs)), "DVC would delete them before it runs the stage again"
    assert commands_of(stage)[1:] == [f"rm -rf {run}/checkpoints"]
    assert not any(out.persist for out in stage.outs), "DVC's run cache leaves such stages out"


def run_folders(stage: Any) -> list[dict[str, Any]]:
    """Catalog entries of what training itself leaves."""
    entries = catalog()
    outputs = [entries[item] for item in pipeline_of(stage).all_outputs()]
    return [entry for entry in outputs if entry["proof"] == "result.json"]


@pytest.mark.parametrize("name", [name for name in STAGES if name.startswith(("evaluate@", "finetune@"))])
def test_metrics_go_to_git(name: str) -> None:
    (metrics,) = outs(STAGES[name], metric=True)
    assert PurePosixPath(metrics.fs_path).name == METRICS
    assert not metrics.use_cache


@pytest.mark.parametrize("modality", MODALITIES)
def test_pictures_and_report_are_outs(modality: str) -> None:
    stage = STAGES[f"evaluate@{modality}"]
    assert {path.name for path in paths(stage.outs)} == {*WRITTEN, METRICS}
    assert {path.name for path in paths(outs(stage, plot=True))} == {name for name in WRITTEN if name.endswith(".png")}


def test_curves_are_plots_of_trainings() -> None:
    plots = {
        name: plot for entry in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for name, plot in entry.items()
    }
    histories = {path for name in TRAINING for path in paths(STAGES[name].outs) if path.name == "history.csv"}
    pretraining = {path for path in histories if "_tuned" not in path.parts[2]}
    drawn = {name: {PurePosixPath(path) for path in plot["y"]} for name, plot in plots.items()}
    assert drawn["pretraining loss"] == drawn["online linear probe"]
    assert drawn["pretraining loss"] <= pretraining
    assert drawn["fine-tuning loss"] <= histories - pretraining
    assert all(plot["x"] == "update" for plot in plots.values())


def test_dvc_reads_the_whole_graph() -> None:
    command = [sys.executable, "-m", "dvc", "dag", "--mermaid"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
