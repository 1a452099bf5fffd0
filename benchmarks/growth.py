"""`python -m benchmarks growth`: the cost of an update as one setting grows, each value in a fresh process.

Spreads are over updates, memory and FLOPs those of rank 0.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure

from benchmarks.document import Document, Row, machine
from benchmarks.sizes import HERTZ, read_size
from benchmarks.step import Timed, time_size
from d2v.config import DistributedConfig
from d2v.distributed.supervisor import Supervisor
from d2v.progress import log
from d2v.reporting.figures import BLUE, DPI, GREY, STYLE, WIDTH_IN
from d2v.reporting.tables import Table

COST, MEMORY, FLOPS = "ms", "MB", "GFLOP"
RANKS = "ranks, one thread each"
_PANELS = 3


@dataclass(frozen=True)
class Axis:
    """One thing that grows.

    Attributes:
        size: the training it grows in.
        values: of what grows.
        change: value -> changes of the train block.
    """

    size: str
    values: tuple[int, ...]
    change: Callable[[int], Mapping[str, Any]]


def _seconds(seconds: int) -> dict[str, Any]:
    return {
        "augment": {"max_seconds": float(seconds)},
        "batch_budget": {"positions": 4 * seconds * HERTZ, "multiple_of": 4},
    }


AXES = {
    "image side, pixels": Axis("v2_image_32", (16, 32, 48, 64, 96), lambda side: {"encoder": {"image_px": side}}),
    "recording, seconds": Axis("v2_audio_4s", (1, 2, 4, 8), _seconds),
    "text, tokens": Axis("v2_text_128", (32, 64, 128, 256, 512), lambda n: {"encoder": {"max_tokens": n}}),
    "masks of a sample": Axis("v2_image_32", (1, 2, 4, 8, 16), lambda m: {"objective": {"masks_per_sample": m}}),
    "samples of an update": Axis("v2_image_32", (4, 8, 16, 32, 64), lambda n: {"batch_size": n}),
    RANKS: Axis("v2_image_32", (1, 2), lambda ranks: {"distributed": {"ranks": ranks}}),
}


def measure_growth(axes: Sequence[str], precision: str, seconds: float, conf: Path) -> Document:
    """Time an update at every value of every axis.

    Args:
        axes: names in AXES.
        precision: of the products.
        seconds: of updates in each process.
        conf: folder of the recipes.

    Raises:
        ConfigError: the recipes are missing.
        LaunchError: a process died.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        for name in axes:
            for value in AXES[name].values:
                timed = _time(AXES[name], value, precision, seconds, conf, Path(scratch))
                at = f"{name}/{value}"
                rows += [
                    Row.of(f"{at}/{COST}", "ms an update", [1e3 * step_s for step_s in timed.steps_s]),
                    Row.of(f"{at}/{MEMORY}", "MB", [timed.peak_bytes / 1e6]),
                    Row.of(f"{at}/{FLOPS}", "GFLOP an update", [timed.flops / 1e9]),
                ]
                log(f"bench-growth: {name} {value}: {rows[-3].shown} ms")
    return Document("growth", machine(), rows)


def _time(axis: Axis, value: int, precision: str, seconds: float, conf: Path, logs: Path) -> Timed:
    changes = axis.change(value)
    distributed = read_size(axis.size, conf, precision, changes).recipe.distributed
    arguments = {
        "name": axis.size,
        "conf": conf.resolve(),
        "precision": precision,
        "seconds": seconds,
        "changes": changes,
        "threads": 1 if "distributed" in changes else None,
    }
    timed: Timed = Supervisor(DistributedConfig(ranks=distributed.ranks), logs).run(time_size, arguments)
    return timed


def growth_table(document: Document) -> Table:
    """Costs, and how much faster than in proportion they grow from one value to the next."""
    figures = {row.name: row for row in document.rows}
    cells = []
    for name, values in _axes(document).items():
        for before, value in zip([None, *values], values, strict=False):
            at = f"{name}/{value}"
            one = [figures[f"{at}/{what}"] for what in (COST, MEMORY, FLOPS)]
            ratio = "" if before is None else f"{one[0].median / figures[f'{name}/{before}/{COST}'].median:.2f}"
            step = "" if before is None else f"{value / before:.2f}"
            cells.append((name, str(value), one[0].shown, f"{one[1].median:.0f}", f"{one[2].median:.1f}", step, ratio))
    columns = ("what grows", "value", "ms an update", "peak memory, MB", "GFLOP", "times the value", "times the ms")
    return Table("growth", columns, tuple(cells))


def growth_picture(document: Document, file: Path) -> None:
    """A panel for each axis: time over value, both in logarithms, beside a line in proportion and the FLOPs."""
    axes, figures = _axes(document), {row.name: row.median for row in document.rows}
    rows = -(-len(axes) // _PANELS)
    with matplotlib.rc_context({**STYLE, "savefig.dpi": DPI}):
        figure = Figure(figsize=(WIDTH_IN, 2.4 * rows), layout="constrained")
        panels = figure.subplots(rows, _PANELS, squeeze=False).flatten()
        for panel, (name, values) in zip(panels, axes.items(), strict=False):
            ms, flops = ([figures[f"{name}/{value}/{what}"] for value in values] for what in (COST, FLOPS))
            shares = [1.0 / value for value in values] if name == RANKS else values
            _draw(panel, values, ms, {"as the FLOPs": flops, "as the value": shares})
            panel.set_title(name)
        for panel in panels[len(axes) :]:
            panel.set_visible(False)
        panels[0].legend()
        figure.savefig(file)


def _draw(panel: Panel, values: Sequence[int], ms: Sequence[float], like: Mapping[str, Sequence[float]]) -> None:
    """Measured times, and what the others would be if they were to the last one as other figures are."""
    panel.loglog(values, ms, color=BLUE, marker="o", markersize=3, label="ms an update")
    for (label, figures), (colour, style) in zip(like.items(), ((BLUE, ":"), (GREY, "--")), strict=True):
        ideal_ms = [ms[-1] * figure / figures[-1] for figure in figures]
        panel.loglog(values, ideal_ms, color=colour, linestyle=style, label=label)
    panel.set_xticks(values, [str(value) for value in values])
    panel.minorticks_off()


def _axes(document: Document) -> dict[str, list[int]]:
    """Name -> values, as measured."""
    found: dict[str, list[int]] = {}
    for row in document.rows:
        name, value, what = row.name.rsplit("/", 2)
        if what == COST:
            found.setdefault(name, []).append(int(value))
    return found
