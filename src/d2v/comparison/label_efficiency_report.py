"""The report of a study of label efficiency: metrics, tables and a curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from pydantic import AliasChoices, Field

from d2v.finetuning.metrics import metric as metric_of
from d2v.reporting.figures import BLUE, DPI, GREEN, GREY, ORANGE, RED, STYLE, WIDTH_IN
from d2v.reporting.report import Part, Plot, write_report
from d2v.reporting.tables import Table
from d2v.statistics import Interval

CURVE = "efficiency.png"
OBJECTIVE_COLOURS = (BLUE, GREEN, "#7755aa", RED, "#117788")
"""In the order of the objectives."""
_LOOKS = {
    "pretrained": ("{objective}, all trained", None, "-"),
    "scratch": ("random weights, all trained", ORANGE, "-"),
    "frozen": ("{objective}, only the head trained", None, ":"),
    "random_frozen": ("random weights, only the head trained", GREY, ":"),
}
"""Name, colour and line of each init; without a colour it has the objective's."""


@dataclass(frozen=True)
class Measured:
    """One contender at one amount of labels.

    Attributes:
        init: how it was initialised, and what was trained.
        objective: what its encoders were pretrained with; empty for random weights.
        key: name in metrics.
        amount: key of the amount of labels.
        interval: mean over seeds, with its interval over seeds and test items.
        by_seed: the metric of each seed.
    """

    init: Annotated[str, Field(validation_alias=AliasChoices("init", "way"))]  # "way" in older files
    objective: str
    key: str
    amount: str
    interval: Interval
    by_seed: list[float]

    @property
    def seed_std(self) -> float:
        """Standard deviation over seeds; 0 for one seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else 0.0

    @property
    def name(self) -> str:
        """For people."""
        return _LOOKS[self.init][0].format(objective=self.objective)


@dataclass(frozen=True)
class Gain:
    """How much better the first contender is than another, at one amount of labels."""

    over: str
    amount: str
    interval: Interval


@dataclass(frozen=True)
class Findings:
    """The findings of a study.

    Attributes:
        metric: what was measured.
        in_minutes: amounts of labels are minutes, else shares.
        items: training items of each amount, ascending.
        measured: every contender at every amount; of each amount the first is what the others are compared with.
        gains: of that one over the others.
    """

    metric: str
    in_minutes: bool
    items: dict[str, int]
    measured: list[Measured]
    gains: list[Gain]

    @property
    def names(self) -> dict[str, str]:
        """Key -> name of each contender."""
        return {one.key: one.name for one in self.measured}

    def metrics(self) -> dict[str, float]:
        """For each contender and amount of labels: `efficiency/<metric>_<contender>_<amount>`, the mean over seeds,
        with `_low` and `_high` (a 95 % bootstrap interval over seeds and test items) and `_seed_std`; how much better
        the first contender is, `efficiency/<metric>_gain_over_<contender>_<amount>`, with the paired interval; and
        `efficiency/items_<amount>`, the training items."""
        metrics: dict[str, float] = {f"efficiency/items_{key}": float(count) for key, count in self.items.items()}
        for one in self.measured:
            key = f"efficiency/{self.metric}_{one.key}_{one.amount}"
            metrics |= _spelled(key, one.interval) | {f"{key}_seed_std": one.seed_std}
        for gain in self.gains:
            metrics |= _spelled(f"efficiency/{self.metric}_gain_over_{gain.over}_{gain.amount}", gain.interval)
        return metrics


def _spelled(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}


def verdict(interval: Interval) -> str:
    """The verdict that an interval of a difference allows."""
    if not interval.excludes_zero:
        return "not told apart"
    return "better" if interval.above_zero else "worse"


def write_efficiency_report(out: Path, modality: str, findings: Findings) -> None:
    """Write `report.md`, `report.html` and the curve into the folder of the study."""
    curve = draw_efficiency(out / CURVE, {modality: findings})
    parts: list[Part] = [Plot(curve, CURVE_CAPTION), *efficiency_parts(modality, findings)]
    write_report(out, "What pretraining is worth in labels", parts)


CURVE_CAPTION = "Mean over seeds; bars are 95% bootstrap intervals over seeds and test items."


def efficiency_parts(modality: str, findings: Findings) -> list[Part]:
    """The tables of a study and how to read them."""
    first, seeds = findings.measured[0], len(findings.measured[0].by_seed)
    note = (
        f"A cell is the mean over {seeds} seed(s) ± their standard deviation; in brackets its 95% bootstrap interval "
        "over seeds and test items. Gains are differences on the same items and seeds, positive where the first is "
        "better. Where an interval holds 0, the two are not told apart."
    )
    measured = {(one.key, one.amount): _cell(one) for one in findings.measured}
    parts: list[Part] = [_table(f"{modality}: {_metric_name(findings.metric)}", findings, measured)]
    if findings.gains:
        gains = {(gain.over, gain.amount): _gain_cell(gain) for gain in findings.gains}
        title = f"{modality}: gain in {findings.metric} of {first.name}"
        parts.append(_table(title, findings, gains, over="over: "))
    return [*parts, note]


def _cell(one: Measured) -> str:
    return f"{one.interval.value:.3f} ± {one.seed_std:.3f} ({_ends(one.interval)})"


def _gain_cell(gain: Gain) -> str:
    return f"{gain.interval.value:+.3f} ({_ends(gain.interval, '+')}) {verdict(gain.interval)}"


def _ends(interval: Interval, sign: str = "") -> str:
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}"


def _table(title: str, findings: Findings, cells: Mapping[tuple[str, str], str], over: str = "") -> Table:
    """One row a contender, one column an amount of labels."""
    keys = list(dict.fromkeys(key for key, _ in cells))
    rows = tuple((over + findings.names[key], *(cells[key, amount] for amount in findings.items)) for key in keys)
    amounts = (amount_name(key, count) for key, count in findings.items.items())
    return Table(title, ("encoder", *amounts), rows)


def _metric_name(name: str) -> str:
    return name if metric_of(name).higher_is_better else f"{name} (lower is better)"


def amount_name(key: str, count: int) -> str:
    """An amount of labels for people, such as `1% (500 items)`."""
    kind, _, amount = key.partition("-")
    shown = f"{100 * float(amount):g}%" if kind == "share" else f"{float(amount):g} min"
    return f"{shown} ({count:,} items)"


def draw_efficiency(path: Path, studies: Mapping[str, Findings]) -> Path:
    """A metric over the amount of labels: one panel a study, one line a contender.

    Args:
        path: the PNG to write; returned.
        studies: name of the modality -> what its study found.
    """
    return draw_panels(path, [(name, partial(_draw, one)) for name, one in studies.items()], height_in=4)


Panel = tuple[str, Callable[[Axes], None]]
"""Title, and what draws it."""


def draw_panels(path: Path, panels: Sequence[Panel], height_in: float, columns: int = 3) -> Path:
    """Panels row by row, each with its legend below it.

    Args:
        path: the PNG to write; returned.
        panels: at least one.
        height_in: of a row.
        columns: the most in a row.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(STYLE):
        width_in = WIDTH_IN if columns < 3 else 1.4 * WIDTH_IN
        figure = Figure(figsize=(width_in, height_in * rows), dpi=DPI, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax, (title, draw) in zip(axes, panels, strict=False):
            draw(ax)
            ax.set_title(f"{title}: {ax.get_title(loc='left')}")
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), handlelength=2.4)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw(findings: Findings, ax: Axes) -> None:
    amounts = {key: float(key.partition("-")[2]) for key in findings.items}
    objectives = list(dict.fromkeys(one.objective for one in findings.measured if one.objective))
    keys = list(findings.names)
    for number, key in enumerate(keys):
        ours = [one for one in findings.measured if one.key == key]
        aside = 1.0 + 0.03 * (number - (len(keys) - 1) / 2)  # bars of one amount stand side by side
        _draw_contender(ax, ours, [amounts[one.amount] * aside for one in ours], objectives)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(amounts.values())))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticklabels([amount_name(key, count).replace(" (", "\n(") for key, count in findings.items.items()])
    ax.set_title(f"{_metric_name(findings.metric)} over {'recordings' if findings.in_minutes else 'labels'} used")


def _draw_contender(ax: Axes, measured: Sequence[Measured], x: Sequence[float], objectives: Sequence[str]) -> None:
    one = measured[0]
    _, own, line = _LOOKS[one.init]
    colour = own or objective_colour(one.objective, objectives)
    means = np.array([one.interval.value for one in measured])
    below, above = means - [one.interval.low for one in measured], [one.interval.high for one in measured] - means
    bars = np.stack((below, above)).clip(0.0)
    ax.errorbar(x, means, bars, fmt=line, color=colour, label=one.name, marker="o", ms=3.5, capsize=2, elinewidth=0.9)


def objective_colour(objective: str, objectives: Sequence[str]) -> str:
    """The same in all plots of a comparison."""
    return OBJECTIVE_COLOURS[objectives.index(objective) % len(OBJECTIVE_COLOURS)]
