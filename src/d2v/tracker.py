"""The protocol of a tracker, the destination of metrics. Training knows only the protocol; `d2v.tracking` implements
it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """A sink for one run's metrics and files."""

    @property
    def run_id(self) -> str | None:
        """Name of the tracked run, kept in checkpoints; None if there is none."""
        ...

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """Metrics named `group/name` after `update` updates."""
        ...

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Keep a file with the run."""
        ...

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Nested settings of the run."""
        ...

    def set_tags(self, tags: dict[str, str]) -> None:
        """Short facts to filter runs by."""
        ...

    def child(self, name: str, tags: dict[str, str]) -> AbstractContextManager[Tracker]:
        """A run below this one, open inside the `with` block; the same name gives the same run again."""
        ...


class NullTracker:
    """Tracks nothing."""

    run_id: str | None = None

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """Drop the metrics."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Drop the file."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Drop the settings."""

    def set_tags(self, tags: dict[str, str]) -> None:
        """Drop the tags."""

    @contextmanager
    def child(self, name: str, tags: dict[str, str]) -> Iterator[Tracker]:
        """A tracker that drops everything too."""
        yield self


class SeveralTrackers:
    """Hands everything to several trackers, in their order.

    Args:
        trackers: at least one; the first one's run is the run that checkpoints name.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = tuple(trackers)

    @property
    def run_id(self) -> str | None:
        """The first one's."""
        return self._trackers[0].run_id

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """To each."""
        for tracker in self._trackers:
            tracker.log_metrics(metrics, update)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """To each."""
        for tracker in self._trackers:
            tracker.log_artifact(path, folder)

    def log_params(self, values: Mapping[str, Any]) -> None:
        """To each."""
        for tracker in self._trackers:
            tracker.log_params(values)

    def set_tags(self, tags: dict[str, str]) -> None:
        """To each."""
        for tracker in self._trackers:
            tracker.set_tags(tags)

    @contextmanager
    def child(self, name: str, tags: dict[str, str]) -> Iterator[Tracker]:
        """A run below each one's."""
        with ExitStack() as stack:
            yield SeveralTrackers([stack.enter_context(tracker.child(name, tags)) for tracker in self._trackers])
