"""Metrics, figures and texts of a run for TensorBoard, by torch's own writer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from d2v.errors import ConfigError
from d2v.tracking.mlflow_tracker import flatten

FIGURES, TEXTS = (".png", ".jpg", ".jpeg"), (".md",)
"""Endings of files that TensorBoard can show; it keeps no others."""


class TensorBoardTracker:
    """Writes event files below a folder: `tensorboard --logdir <folder>` shows its runs.

    Args:
        run: name of the run, and of its folder.
        folder: of all runs.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    run_id: str | None = None

    def __init__(self, run: str, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "the tracker tensorboard needs the package tensorboard: install d2v[tensorboard], or take the tracker "
                "out of globals.yml"
            ) from None
        self._run, self._folder = run, folder
        self._writer = SummaryWriter(str(Path(folder) / run))
        self._update = 0

    def __reduce__(self) -> tuple[type[TensorBoardTracker], tuple[str, str]]:
        return TensorBoardTracker, (self._run, self._folder)

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        """A point of each curve; values that are not finite are left out."""
        self._update = update
        for name, value in metrics.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, update)
        self._writer.flush()

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Show a figure or a text; other files stay where they are."""
        name = f"{folder}/{path.stem}" if folder else path.stem
        if path.suffix in FIGURES:
            from matplotlib.image import imread  # imported late: few runs have figures to show here

            self._writer.add_image(name, imread(path)[..., :3], self._update, dataformats="HWC")
        elif path.suffix in TEXTS:
            self._writer.add_text(name, path.read_text(encoding="utf-8"), self._update)
        self._writer.flush()

    def log_params(self, values: Mapping[str, Any]) -> None:
        """A table of the run's settings."""
        self._table("settings", dict(flatten(values)))

    def set_tags(self, tags: dict[str, str]) -> None:
        """A table of the run's tags."""
        self._table("tags", tags)

    def _table(self, name: str, values: Mapping[str, str]) -> None:
        rows = [f"| {key} | {value} |".replace("\n", " ") for key, value in values.items()]
        self._writer.add_text(name, "\n".join(["| | |", "|---|---|", *rows]), self._update)
        self._writer.flush()

    @contextmanager
    def child(self, name: str, tags: dict[str, str]) -> Iterator[TensorBoardTracker]:
        """A run in a folder below this one's."""
        child = TensorBoardTracker(f"{self._run}/{name}", self._folder)
        child.set_tags(tags)
        try:
            yield child
        finally:
            child._writer.close()
