"""Metrics, files and tags of one MLflow run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from d2v.progress import log

Item = TypeVar("Item")
BATCH = {"metrics": 1000, "params": 100, "tags": 100}
"""The most of each that MLflow takes in one request."""
PARAM_CHARACTERS = 6000


class MlflowTracker:
    """Logs into a run that someone else opened and will close.

    It speaks to the store by run id and not through MLflow's global "active run", so a worker process that is
    handed the id can log too, and its end does not end the run.

    Args:
        run_id: the open run.
        uri: the tracking store; None takes MLflow's current one.
    """

    def __init__(self, run_id: str, uri: str | None = None) -> None:
        self._run_id = run_id
        self._client = MlflowClient(uri)
        self._waiting: list[Metric] = []
        self._said = False

    def __reduce__(self) -> tuple[type[MlflowTracker], tuple[str, str]]:
        return MlflowTracker, (self._run_id, self._client.tracking_uri)

    @property
    def run_id(self) -> str | None:
        """The run's id."""
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """Metrics named `group/name` after `update` updates, in one request. Values that are not finite are left
        out: the store would keep them as 0 or as the largest number, and the curve would lie.

        A store that does not take them stops no training: they are sent again with the next ones.
        """
        now_ms = int(time.time() * 1000)
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._waiting += [Metric(name, value, now_ms, update) for name, value in finite.items()]
        try:
            while self._waiting:
                self._client.log_batch(self._run_id, metrics=self._waiting[: BATCH["metrics"]])
                del self._waiting[: BATCH["metrics"]]
        except MlflowException as error:
            if not self._said:
                log(
                    f"tracking: {self._client.tracking_uri} does not take metrics ({first_line(error)}); the work goes "
                    "on, and they are sent again with the next ones"
                )
            self._said = True

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file, or a folder with its contents, with the run."""
        if Path(path).is_dir():
            self._client.log_artifacts(self._run_id, str(path), folder)
        else:
            self._client.log_artifact(self._run_id, str(path), folder)

    def log_text(self, text: str, file: str) -> None:
        """Keep a text as an artifact called `file`."""
        self._client.log_text(self._run_id, text, file)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Nested values as flat parameters with dotted names. Raises MlflowException if one was logged before with
        another value."""
        rows = [Param(name, value[:PARAM_CHARACTERS]) for name, value in flatten(values)]
        for batch in _batches(rows, BATCH["params"]):
            self._client.log_batch(self._run_id, params=batch)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Short facts to filter runs by."""
        for batch in _batches([RunTag(name, value) for name, value in tags.items()], BATCH["tags"]):
            self._client.log_batch(self._run_id, tags=batch)

    @contextmanager
    def child(self, name: str, tags: dict[str, str]) -> Iterator[MlflowTracker]:
        """A run below this one. It is finished at the end of the `with` block, and failed if that raises."""
        child = MlflowTracker(self._child_id(name), self._client.tracking_uri)
        child.set_tags(tags)
        try:
            yield child
        except BaseException:
            self._client.set_terminated(child._run_id, "FAILED")
            raise
        self._client.set_terminated(child._run_id, "FINISHED")

    def _child_id(self, name: str) -> str:
        """The run of this name below this one, made if it is not there."""
        experiment = self._client.get_run(self._run_id).info.experiment_id
        wanted = f"tags.{MLFLOW_PARENT_RUN_ID} = '{self._run_id}' and attributes.run_name = '{name}'"
        if found := self._client.search_runs([experiment], wanted, max_results=1):
            return found[0].info.run_id
        run = self._client.create_run(experiment, tags={MLFLOW_PARENT_RUN_ID: self._run_id}, run_name=name)
        return run.info.run_id


def first_line(error: Exception) -> str:
    """What MLflow says of an error, without the traces that follow."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def flatten(values: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of every leaf.

    Example:
        >>> list(flatten({"train": {"optimizer": {"lr": 0.001}}}))
        [('train.optimizer.lr', '0.001')]
    """
    for name, value in values.items():
        dotted = f"{at}.{name}" if at else str(name)
        if isinstance(value, Mapping) and value:
            yield from flatten(value, dotted)
        else:
            yield dotted, str(value)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rows = list(items)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
