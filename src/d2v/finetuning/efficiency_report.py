"""Tables and the curve of a study of label efficiency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from d2v.evaluation.statistics import Interval
from d2v.reporting.pictures import BLUE, DPI, GREY, ORANGE, STYLE, WIDTH_IN
from d2v.reporting.report import Part, Picture, write_report
from d2v.reporting.tables import Table

CURVE = "efficiency.png"
LOOKS = {
    "pretrained": ("pretrained, all trained", BLUE, "-"),
    "scratch": ("from random weights, all trained", ORANGE, "-"),
    "frozen": ("pretrained, only the head trained", BLUE, ":"),
    "random_frozen": ("random weights, only the head trained", GREY, ":"),
}
"""Name, colour and line of each way."""


@dataclass(frozen=True)
class Measured:
    """One way at one amount of labels.

    Attributes:
        way: how it was trained.
        amount: key of the amount of labels.
        interval: mean over seeds, with its interval over test items.
        by_seed: the figure of each seed.
    """

    way: str
    amount: str
    interval: Interval
    by_seed: np.ndarray

    @property
    def seed_std(self) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return float(self.by_seed.std(ddof=1)) if len(self.by_seed) > 1 else 0.0


@dataclass(frozen=True)
class Gain:
    """How much the pretrained encoder is better than another way, at one amount of labels."""

    over: str
    amount: str
    interval: Interval


def write_efficiency_report(
    out: Path,
    modality: str,
    metric: str,
    in_minutes: bool,
    measured: Sequence[Measured],
    gains: Sequence[Gain],
    items: Mapping[str, int],
) -> None:
    """Write `report.md`, `report.html` and the curve.

    Args:
        out: folder of the study.
        modality: registry name.
        metric: what is measured.
        in_minutes: amounts are minutes, else shares.
        measured: all ways at all amounts.
        gains: of the pretrained encoder.
        items: training items of each amount, ascending.
    """
    seeds = len(measured[0].by_seed)
    curve = draw_efficiency(out / CURVE, metric, in_minutes, measured, items)
    parts: list[Part] = [
        Picture(curve, f"Mean over {seeds} seed(s); bars reach from the worst to the best seed."),
        _figures_table(modality, metric, measured, items),
        f"A cell is the mean over {seeds} seed(s) ± their standard deviation; in brackets its 95% bootstrap interval "
        "over the test items. Gains are differences on the same items and seeds, positive where the pretrained encoder "
        "is better; their intervals speak of the choice of test items only.",
    ]
    if gains:
        parts.insert(2, _gains_table(metric, gains, items))
    write_report(out, "What pretraining is worth in labels", parts)


def _figures_table(modality: str, metric: str, measured: Sequence[Measured], items: Mapping[str, int]) -> Table:
    cells = {(one.way, one.amount): f"{one.interval.value:.3f} ± {one.seed_std:.3f} {_ends(one)}" for one in measured}
    ways = list(dict.fromkeys(one.way for one in measured))
    rows = tuple((amount_name(key, count), *(cells[way, key] for way in ways)) for key, count in items.items())
    return Table(f"{modality}: {metric}", ("labels", *(LOOKS[way][0] for way in ways)), rows)


def _gains_table(metric: str, gains: Sequence[Gain], items: Mapping[str, int]) -> Table:
    cells = {(one.over, one.amount): f"{one.interval.value:+.3f} {_ends(one, '+')}" for one in gains}
    ways = list(dict.fromkeys(one.over for one in gains))
    rows = tuple((amount_name(key, count), *(cells[way, key] for way in ways)) for key, count in items.items())
    return Table(f"Gain in {metric} by pretraining", ("labels", *(f"over: {LOOKS[way][0]}" for way in ways)), rows)


def _ends(one: Measured | Gain, sign: str = "") -> str:
    return f"({one.interval.low:{sign}.3f} to {one.interval.high:{sign}.3f})"


def amount_name(key: str, count: int) -> str:
    """An amount of labels for people, such as `1% (500 items)`."""
    kind, _, amount = key.partition("-")
    shown = f"{100 * float(amount):g}%" if kind == "share" else f"{float(amount):g} min"
    return f"{shown} ({count:,} items)"


def draw_efficiency(
    path: Path, metric: str, in_minutes: bool, measured: Sequence[Measured], items: Mapping[str, int]
) -> Path:
    """A metric over the amount of labels, one line a way.

    Args:
        path: the PNG to write; returned.
        metric: what is measured.
        in_minutes: amounts are minutes, else shares.
        measured: all ways at all amounts.
        items: training items of each amount, ascending.
    """
    places = {key: float(key.partition("-")[2]) for key in items}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.2), dpi=DPI, layout="constrained")
        ax = figure.subplots()
        for way in dict.fromkeys(one.way for one in measured):
            _draw_way(ax, way, [one for one in measured if one.way == way], places)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(FixedLocator(list(places.values())))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticklabels([amount_name(key, count).replace(" (", "\n(") for key, count in items.items()])
        ax.set_xlabel("labelled recordings used" if in_minutes else "labels used")
        ax.set_title(f"{metric} on the test items")
        ax.legend(loc="best", handlelength=2.0)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw_way(ax: Axes, way: str, measured: Sequence[Measured], places: Mapping[str, float]) -> None:
    name, colour, line = LOOKS[way]
    means = np.array([one.interval.value for one in measured])
    below = means - [one.by_seed.min() for one in measured]
    above = [one.by_seed.max() for one in measured] - means
    x = [places[one.amount] for one in measured]
    ax.errorbar(x, means, np.stack((below, above)), fmt=line, color=colour, label=name, marker="o", ms=3.5, capsize=3)
