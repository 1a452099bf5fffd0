"""One MLflow run per Kedro run; below it one per modality where a Kedro run has several."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import warnings
from pathlib import Path
from typing import Any

import mlflow
import psutil
import yaml
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from d2v.config.credentials import without_credentials
from d2v.data.prepared import PREPARED
from d2v.errors import Interrupted, known_error
from d2v.progress import log
from d2v.tracker import NullTracker, SeveralTrackers, Tracker
from d2v.tracking.further import open_tracker
from d2v.tracking.mlflow_tracker import MlflowTracker
from d2v.tracking.store import SQLITE, follow_project, opening
from pipelines.datasets import FolderDataset

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Otherwise MLflow's UI opens the experiment as one of language-model calls, with none of its curves in sight."""
NOTE, NOTE_CHARACTERS = "mlflow.note.content", 5000
"""The description of a run in MLflow's pages, and the most that is written there."""
DIGEST_CHARACTERS = 36
"""The most that MLflow keeps of a data set's digest."""
PLUGIN_KEYS = ("env", "tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "load_versions", "pipeline_names")


_further: dict[str, dict[str, Any]] = {}
"""Trackers beside MLflow by name, with their settings."""


def active_tracker() -> Tracker:
    """A tracker on the run that the hook opened, with those beside it that globals.yml names; one that drops everything
    where there is no run."""
    run = mlflow.active_run()
    if run is None:
        return NullTracker()
    tracker = MlflowTracker(run.info.run_id, mlflow.get_tracking_uri())
    name = f"{run.info.run_name}-{run.info.run_id[:8]}"
    further = [open_tracker(kind, name, settings or {}) for kind, settings in _further.items()]
    return SeveralTrackers([tracker, *further]) if further else tracker


class TrackingHook(MlflowHook):
    """kedro-mlflow's hook with a database anchored at the project, the parsed recipe as flat parameters, tags to
    filter by, and runs that end as KILLED when they were stopped."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Choose the store and open the experiment."""
        self._project = Path(context.project_path)
        _further.clear()
        _further.update(context.config_loader["globals"].get("trackers") or {})
        own = f"{SQLITE}{self._project / 'mlflow.db'}"
        os.environ.setdefault("MLFLOW_TRACKING_URI", own)
        self._recipes = context.config_loader["parameters"]  # parsed: RecipeHook comes first
        uri = os.environ["MLFLOW_TRACKING_URI"]
        with opening(uri):
            experiment = context.config_loader["mlflow"]["tracking"]["experiment"]
            artifacts = experiment["create_experiment_kwargs"]["artifact_location"]
            if uri.startswith(SQLITE) and ":" not in artifacts:  # a bucket or a server stays where it is
                follow_project(Path(uri.removeprefix(SQLITE)), experiment["name"], self._project / artifacts)
            super().after_context_created(context)
        if self._is_mlflow_enabled:
            experiment = self.mlflow_config.tracking.experiment._experiment
            for key in KIND.keys() - experiment.tags.keys():
                MlflowClient().set_experiment_tag(experiment.experiment_id, key, KIND[key])

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open the run with its tags, the resolved recipes, and the blocks that its nodes take as flat parameters:
        `train.optimizer.lr`, whatever the modality. Where there are several, each has a run of its own below it."""
        kept = {key: run_params.get(key) for key in PLUGIN_KEYS}
        kept["pipeline_names"] = sorted(kept["pipeline_names"] or [])  # Kedro's order, and so the run's name, is random
        super().before_pipeline_run(run_params=kept, pipeline=pipeline, catalog=catalog)
        atexit.register(self._close_interrupted)
        if not self._is_mlflow_enabled:
            return
        close_dead_runs(self.mlflow_config.tracking.experiment._experiment.experiment_id)
        self._children: dict[str, str] = {}
        modalities = sorted({node.namespace for node in pipeline.nodes if node.namespace})
        self._describe(MlflowTracker(self.run_id), pipeline, modalities)
        self._several = len(modalities) > 1
        self._pipeline = pipeline
        self._before = proofs(pipeline, catalog)

    def _describe(self, tracker: MlflowTracker, pipeline: Pipeline, modalities: list[str]) -> None:
        """Tags, recipes, and the parameters of a run with one modality."""
        nodes = [node for node in pipeline.nodes if node.namespace in modalities]
        tags = {
            "modality": ",".join(modalities),
            "stage": ",".join(dict.fromkeys(node.short_name for node in nodes)),
            "git_commit": git_commit(self._project),
            "process": process_name(),
        }
        tracker.set_tags(tags)
        for modality in modalities:
            recipe = without_credentials(self._recipes[modality].model_dump(mode="json"))
            tracker.log_text(yaml.safe_dump({modality: recipe}, sort_keys=False), f"recipe/{modality}.yml")
            if len(modalities) == 1:
                tracker.log_params({step: recipe[step] for step in _steps(pipeline, modality)})

    def _enter_child(self, modality: str) -> None:
        """Make a modality's run below the Kedro run's the active one, so that modalities share names of metrics and
        parameters but no curves."""
        if modality in self._children:
            mlflow.start_run(run_id=self._children[modality], nested=True)
            return
        run = mlflow.start_run(run_name=modality, nested=True)
        self._children[modality] = run.info.run_id
        self._describe(MlflowTracker(run.info.run_id), self._pipeline, [modality])

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Let the plugin log no parameters: all are there since the run began, defaults included."""
        super().before_node_run(node=node, catalog=catalog, inputs={}, is_async=is_async)
        if not self._is_mlflow_enabled:
            return
        if self._several and node.namespace:
            self._enter_child(node.namespace)
        for name, folder in inputs.items():
            if name.endswith(".prepared"):
                log_data(Path(folder), context=node.short_name)

    @hook_impl
    def after_node_run(self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool) -> None:
        """Back to the Kedro run's own run."""
        if self._is_mlflow_enabled and self._several and node.namespace:
            mlflow.end_run()

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Close the run. One that found everything as an earlier run had left it is not kept."""
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        if not self._is_mlflow_enabled or self._already_active_mlflow or proofs(pipeline, catalog) != self._before:
            return
        client = MlflowClient()
        run = client.get_run(self.run_id)
        if self._before and had_before(client, run):
            for run_id in (*self._children.values(), run.info.run_id):
                client.delete_run(run_id)
            log("nothing has changed: MLflow keeps the earlier run, and not this one")

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Close the run: KILLED when someone stopped it, FAILED otherwise."""
        if isinstance(error, Interrupted):
            self._close_interrupted()
            return
        if self._is_mlflow_enabled:
            note = f"**{type(known_error(error) or error).__name__}**: {known_error(error) or error}"
            MlflowClient().set_tag(self.run_id, NOTE, note[:NOTE_CHARACTERS])
        super().on_pipeline_error(error=error, run_params=run_params, pipeline=pipeline, catalog=catalog)

    def _close_interrupted(self) -> None:
        """End what is still open. Kedro reports only exceptions to its hooks, so after Ctrl-C or SIGTERM this runs at
        exit, before MLflow's own handler would mark the run as finished."""
        while mlflow.active_run() and not self._already_active_mlflow:
            mlflow.end_run("KILLED")


def proofs(pipeline: Pipeline, catalog: CatalogProtocol) -> dict[str, tuple[float, int] | None]:
    """The state of every folder that a pipeline leaves: time and size of the file that proves it, None without one. A
    step that finds its work done does not write it again."""
    found: dict[str, tuple[float, int] | None] = {}
    for name in sorted(pipeline.all_outputs()):
        dataset = catalog.get(name)
        if isinstance(dataset, FolderDataset):
            status = dataset.proof.stat() if dataset.proof.is_file() else None
            found[name] = (status.st_mtime, status.st_size) if status else None
    return found


def had_before(client: MlflowClient, run: Run) -> bool:
    """Whether an earlier run of the same steps and modalities finished."""
    same = " and ".join(f"tags.{key} = '{run.data.tags[key]}'" for key in ("modality", "stage"))
    found = client.search_runs([run.info.experiment_id], f"attributes.status = 'FINISHED' and {same}", max_results=2)
    return any(one.info.run_id != run.info.run_id for one in found)


def log_data(prepared: Path, context: str) -> None:
    """Name a prepared folder as a data set of the active run, by its fingerprint."""
    about = json.loads((prepared / PREPARED).read_text())
    with warnings.catch_warnings():  # MLflow registers its local source twice, and says so
        warnings.simplefilter("ignore", UserWarning)
        source = resolve_dataset_source(str(prepared))
    data = MetaDataset(source, name=prepared.name, digest=about["fingerprint"][:DIGEST_CHARACTERS])
    mlflow.log_input(data, context=context)


def _steps(pipeline: Pipeline, modality: str) -> list[str]:
    """The `<step>` of each `params:<modality>.<step>` that a pipeline reads."""
    start = f"params:{modality}."
    return sorted(name.removeprefix(start) for name in pipeline.inputs() if name.startswith(start))


def process_name() -> str:
    """`host:pid`, which tells the next run whether this one is still alive."""
    return f"{socket.gethostname()}:{os.getpid()}"


def close_dead_runs(experiment_id: str) -> None:
    """Mark as KILLED the runs of this host whose process is gone: a SIGKILL or a power cut leaves them RUNNING."""
    client = MlflowClient()
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'"):
        host, _, pid = run.data.tags.get("process", "").rpartition(":")
        if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid), run.info.start_time / 1000):
            client.set_terminated(run.info.run_id, "KILLED")


def _is_alive(pid: int, started_s: float) -> bool:
    """False for a free process id, and for one given anew to a process that is younger than the run."""
    try:
        return psutil.Process(pid).create_time() <= started_s
    except psutil.NoSuchProcess:
        return False


def git_commit(project: Path) -> str:
    """The checked-out revision, with `+changes` when tracked files differ from it; `unknown` outside git."""
    try:
        commit = _git(project, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(project, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(project: Path, *arguments: str) -> str:
    answer = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, timeout=10, check=True)
    return answer.stdout.strip()
