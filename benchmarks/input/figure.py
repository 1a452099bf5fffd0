"""Cost and memory of the input path against the size of the data, as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.document import Document
from benchmarks.input.tables import by_items
from d2v.reporting.figures import BLUE, DPI, GREEN, GREY, ORANGE, STYLE, WIDTH_IN

_STORING = {"ingest": BLUE, "prepare": ORANGE}
_LABELS = ("seconds", "peak memory, MB", "loading, µs an item")


def growth_picture(document: Document, file: Path) -> None:
    """Write the figure as a PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    growth_figure(document).savefig(file)


def growth_figure(document: Document) -> Figure:
    """A column of panels for each case, over its items: seconds to ingest and to prepare them, in logarithms, beside
    lines in proportion; peak memory of both; and what an item costs to load, which is flat if data of any size load
    alike."""
    ms, peaks = by_items(document, "growth"), by_items(document, "peak")
    cases = list(dict.fromkeys(case for case, _ in ms))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 5.6), dpi=DPI, layout="constrained")
        columns = figure.subplots(len(_LABELS), len(cases), squeeze=False).T
        for case, (seconds, memory, loading) in zip(cases, columns, strict=True):
            seconds.set_title(case)
            for step, colour in _STORING.items():
                _draw_seconds(seconds, ms[case, step], step, colour)
                _draw_from_zero(memory, peaks[case, step], colour)
            _draw_from_zero(loading, {items: 1e3 * one for items, one in ms[case, "load"].items()}, GREEN)
            loading.set_xlabel("items")
        for panel, label in zip(columns[0], _LABELS, strict=True):
            panel.set_ylabel(label)
        figure.align_ylabels()
        _add_legend(figure, columns[0][0])
    return figure


def _draw_seconds(panel: Panel, ms: Mapping[int, float], step: str, colour: str) -> None:
    """Seconds for all items, and what they would be if each of them cost what it does in the most data."""
    *_, last_ms = ms.values()
    _draw(panel, {items: items * last_ms / 1e3 for items in ms}, color=GREY, linestyle="--", label="in proportion")
    _draw(panel, {items: items * one / 1e3 for items, one in ms.items()}, color=colour, marker="o", label=step)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.minorticks_off()


def _draw_from_zero(panel: Panel, figures: Mapping[int, float], colour: str) -> None:
    """So that what does not grow looks flat."""
    _draw(panel, figures, color=colour, marker="o")
    panel.set_ylim(0.0, 1.15 * panel.dataLim.ymax)


def _draw(panel: Panel, figures: Mapping[int, float], **look: Any) -> None:
    panel.plot(list(figures), list(figures.values()), markersize=3, **look)
    panel.set_xscale("log")
    panel.set_xticks(list(figures), [f"{items:,}" for items in figures])
    panel.minorticks_off()


def _add_legend(figure: Figure, panel: Panel) -> None:
    lines = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
