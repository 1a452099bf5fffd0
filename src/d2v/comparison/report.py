"""The report of a benchmark, of one modality or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from d2v.comparison.label_efficiency_report import (
    CURVE_CAPTION,
    amount_name,
    draw_efficiency,
    draw_panels,
    efficiency_parts,
    objective_colour,
    verdict,
)
from d2v.comparison.outcome import Outcome
from d2v.comparison.pretraining import Cost, Curve
from d2v.comparison.probing import PLAIN, PROBES, RANDOM
from d2v.comparison.published import amount_of, comparable, why_not_comparable
from d2v.comparison.time_to_accuracy import Axis
from d2v.evaluation.codebook import codebook_parts
from d2v.reporting.report import Heading, Part, Plot, write_report
from d2v.reporting.tables import Table
from d2v.statistics import Interval

LABELS, TIME = "labels.png", "time_to_accuracy.png"


def write_benchmark_report(out: Path, outcomes: Sequence[Outcome]) -> None:
    """Write `report.md`, `report.html`, `labels.png` and, where probes ran during pretraining, `time_to_accuracy.png`.

    Args:
        out: folder, made if it is absent.
        outcomes: one a modality.
    """
    (out / TIME).unlink(missing_ok=True)
    labels = draw_efficiency(out / LABELS, {one.facts.modality: one.findings for one in outcomes})
    parts: list[Part] = [*(_summary(one) for one in outcomes), Plot(labels, f"The task. {CURVE_CAPTION}")]
    if timed := [one for one in outcomes if any(curve.accuracy for curve in one.curves)]:
        caption = (
            "The online probe during pretraining, on items held out for it: mean over seeds, and the range "
            "from the worst to the best one. Time is that of the updates, without probes and checkpoints."
        )
        parts.append(Plot(_draw_times(out / TIME, timed), caption))
    for one in outcomes:
        parts += [*_section(one), *_codebook(one, out)]
    write_report(out, "Benchmark: objectives side by side", parts)


def _summary(one: Outcome) -> str:
    """A summary of a modality's task at its largest amount of labels."""
    amount, count = list(one.findings.items.items())[-1]
    gains = [gain for gain in one.findings.gains if gain.amount == amount]
    said = [f"{verdict(gain.interval)} than {one.findings.names[gain.over]}" for gain in gains]
    said = [text.replace("not told apart than", "not told apart from") for text in said]
    first = one.findings.measured[0].name
    about = f"{one.facts.modality}, {one.facts.data}, with {amount_name(amount, count)}"
    in_time = [speed.sentence() for speed in one.speeds() if (speed.objective, speed.axis) == (one.first, "seconds")]
    return " ".join([f"{about}: by {one.findings.metric}, {first} is {'; '.join(said)}.", *in_time, *_untaught(one)])


def _untaught(one: Outcome) -> list[str]:
    """A warning for each objective that is not a fair opponent: its probe is not above random weights. Where there are
    no labels of the items' own, the choice counts."""
    probe = next((probed.probe for probed in one.probed if probed.probe not in PROBES), "linear")
    found = {probed.features: probed.interval for probed in one.probed if probed.probe == probe}
    return [
        f"Beware: the {_words(probe)} probe of {objective} is not above random weights ({found[objective].value:.3f} "
        f"against {found[RANDOM].value:.3f}), so look at its settings before you compare with it."
        for objective in one.objectives
        if objective in found and found[objective].low <= found[RANDOM].value
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _section(one: Outcome) -> list[Part]:
    name = one.facts.modality
    seeds = max(cost.seed for cost in one.costs) + 1
    about = (
        f"Data {one.facts.data}, an encoder of {one.facts.parameters / 1e6:,.2f} million parameters, {seeds} "
        f"pretraining seed(s), task {one.task}, on {one.device}. The objectives share code, encoder and data; their "
        f"budgets are in the table of costs. {_tuned(one)} {_seeds(seeds)}"
    )
    parts: list[Part] = [Heading(f"{name}: the task"), about, *efficiency_parts(name, one.findings)]
    parts += [Heading(f"{name}: settings"), _trials(one)] if one.trials else []
    parts += [Heading(f"{name}: published results"), *_published(one)]
    parts += [Heading(f"{name}: frozen features"), *_probes(one)]
    return [*parts, Heading(f"{name}: what pretraining costs"), _costs(one), *_speeds(one)]


def _codebook(one: Outcome, out: Path) -> list[Part]:
    picture = out / f"codebook_{one.facts.modality}.png"
    picture.unlink(missing_ok=True)
    return (
        [] if one.codes is None else [Heading(f"{one.facts.modality}: codebook"), *codebook_parts(one.codes, picture)]
    )


# ------------------------------------------------------------------------------------------ tables


def _tuned(one: Outcome) -> str:
    tried = dict.fromkeys(trial.objective for trial in one.trials)
    if not tried:
        return "What a baseline does not change is the recipe's, and not tuned for it."
    rest = [name for name in one.objectives if name not in tried]
    untuned = f"; those of {', '.join(rest)} are not tuned" if rest else ""
    return f"As many trials each chose settings of {', '.join(tried)}{untuned}."


def _seeds(pretrainings: int) -> str:
    if pretrainings == 1:
        return "With one pretraining of each, intervals say nothing of how another one would end."
    return "Intervals are over pretrainings, seeds of the task and test items."


def _trials(one: Outcome) -> Table:
    rows = [
        (
            trial.objective,
            trial.settings,
            f"{trial.updates:,}",
            "collapsed" if trial.accuracy is None else f"{trial.accuracy:.3f}",
            "yes" if trial.chosen else "",
        )
        for trial in one.trials
    ]
    columns = ("objective", "trial", "updates", "last online probe", "chosen")
    return Table(f"{one.facts.modality}: trials on held-out training items", columns, tuple(rows))


def _published(one: Outcome) -> list[Part]:
    found = comparable(one.facts)
    if not found:
        return [f"Published results are {why_not_comparable(one.facts)}."]
    ours = {(measured.name, amount_of(measured.amount)): measured.interval for measured in one.findings.measured}
    rows = [
        (f"ours: {name}", labels, _interval(interval), "")
        for (name, labels), interval in ours.items()
        if labels in {theirs.labels for theirs in found}
    ]
    rows += [
        (f"{theirs.model}, {theirs.size}", theirs.labels, f"{theirs.value:.3f}", theirs.source) for theirs in found
    ]
    return [Table(f"{one.facts.data}: {one.facts.metric}", ("model", "labels", "metric", "source"), tuple(rows))]


def _probes(one: Outcome) -> list[Part]:
    if one.why_not_probed:
        return [f"Not probed: {one.why_not_probed}."]
    names = {RANDOM: "random weights", PLAIN: "plain features"}
    probes = list(dict.fromkeys(probed.probe for probed in one.probed))
    rows = [
        (names.get(features, features), *(cell for probe in probes for cell in _probe_cells(one, features, probe)))
        for features in dict.fromkeys(probed.features for probed in one.probed)
    ]
    columns = ("features", *(column for probe in probes for column in (_words(probe), f"{one.first} ahead")))
    note = (
        "Accuracy of probes of frozen features on the test items, 95% intervals over these and the seeds; differences "
        "are paired."
    )
    if set(probes) - set(PROBES):
        note += (
            " The choice is of the whole objective, between an item and the same with parts exchanged; plain is counts."
        )
    return [Table(f"{one.facts.modality}: probes", columns, tuple(rows)), note]


def _probe_cells(one: Outcome, features: str, probe: str) -> tuple[str, str]:
    probed = next((p for p in one.probed if (p.features, p.probe) == (features, probe)), None)
    if probed is None:
        return "", ""
    gain = probed.gain
    return _interval(probed.interval), "" if gain is None else f"{_interval(gain, '+')} {verdict(gain)}"


def _interval(interval: Interval, sign: str = "") -> str:
    return f"{interval.value:{sign}.3f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def _costs(one: Outcome) -> Table:
    def row(objective: str) -> tuple[str, ...]:
        costs = [cost for cost in one.costs if cost.objective == objective]

        def over_seeds(of: Callable[[Cost], float], shape: str) -> str:
            low, high = (f"{end(map(of, costs)):{shape}}" for end in (min, max))
            return low if low == high else f"{low} to {high}"

        return (
            objective,
            over_seeds(lambda cost: cost.updates, ",.0f"),
            over_seeds(lambda cost: cost.seconds, ",.1f"),
            over_seeds(lambda cost: cost.samples, ",.0f"),
            over_seeds(lambda cost: cost.flops, ".3g"),
            over_seeds(lambda cost: cost.peak_memory_mb, ",.0f"),
        )

    columns = ("objective", "updates", "seconds", "samples", "FLOPs", "peak memory, MB")
    rows = (*map(row, one.objectives), ("from scratch, random frozen", "0", "0", "0", "0", ""))
    return Table(f"{one.facts.modality}: each pretraining, from the least to the most of the seeds", columns, rows)


def _speeds(one: Outcome) -> list[Part]:
    if not all(curve.accuracy for curve in one.curves):
        return ["Time to accuracy is not known: no labels were there to probe with while pretraining went on."]
    sentences = dict.fromkeys(speed.sentence() for speed in one.speeds())  # what is not reached is not, on any axis
    return [" ".join(sentences)] if sentences else []


# ------------------------------------------------------------------------------------------- plots


def _draw_times(path: Path, outcomes: Sequence[Outcome]) -> Path:
    """One row of panels a modality: over time, operations and samples."""
    axes: tuple[Axis, ...] = ("seconds", "flops", "samples")
    panels = [
        (one.facts.modality, partial(_draw_time, one, axis))
        for one in outcomes
        for axis in axes
        if all(getattr(curve, axis) for curve in one.curves if curve.accuracy)
    ]
    return draw_panels(path, panels, height_in=3.4, columns=3)


def _draw_time(one: Outcome, axis: Axis, ax: Axes) -> None:
    for objective in one.objectives:
        curves = [curve for curve in one.curves if curve.objective == objective and curve.accuracy]
        if curves:
            _draw_curves(ax, curves, axis, objective_colour(objective, one.objectives))
    ax.set_title(f"probe over {axis if axis != 'flops' else 'FLOPs'}")
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(4))


def _draw_curves(ax: Axes, curves: Sequence[Curve], axis: Axis, colour: str) -> None:
    """Seeds were probed after the same updates."""
    x = np.mean([getattr(curve, axis) for curve in curves], axis=0)
    accuracies = np.array([curve.accuracy for curve in curves])
    ax.plot(x, accuracies.mean(axis=0), color=colour, label=curves[0].objective, marker="o", markersize=3)
    ax.fill_between(x, accuracies.min(axis=0), accuracies.max(axis=0), color=colour, alpha=0.2, linewidth=0)
