"""Where metrics go. Training knows only this protocol; `d2v.tracking` implements it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


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

    def set_tags(self, tags: dict[str, str]) -> None:
        """Short facts to filter runs by."""
        ...


class NullTracker:
    """Tracks nothing."""

    run_id: str | None = None

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """Drop the metrics."""

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Drop the file."""

    def set_tags(self, tags: dict[str, str]) -> None:
        """Drop the tags."""
