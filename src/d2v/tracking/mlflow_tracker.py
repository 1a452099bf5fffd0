"""Metrics, files and tags of one MLflow run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

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

    def __reduce__(self) -> tuple[type[MlflowTracker], tuple[str, str]]:
        return MlflowTracker, (self._run_id, self._client.tracking_uri)

    @property
    def run_id(self) -> str | None:
        """The run's id."""
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """Metrics named `group/name` after `update` updates, in one request. Values that are not finite are left
        out: the store would keep them as 0 or as the largest number, and the curve would lie."""
        now_ms = int(time.time() * 1000)
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        rows = [Metric(name, value, now_ms, update) for name, value in finite.items()]
        for part in _parts(rows, BATCH["metrics"]):
            self._client.log_batch(self._run_id, metrics=part)

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
        for part in _parts(rows, BATCH["params"]):
            self._client.log_batch(self._run_id, params=part)

    def set_tags(self, tags: dict[str, str]) -> None:
        """Short facts to filter runs by."""
        for part in _parts([RunTag(name, value) for name, value in tags.items()], BATCH["tags"]):
            self._client.log_batch(self._run_id, tags=part)


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


def _parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rows = list(items)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
