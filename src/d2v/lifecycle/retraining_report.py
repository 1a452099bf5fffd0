"""The report of a retraining run: new items, drift, trainings with their cost, and decisions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2v.data.disk import write_json
from d2v.lifecycle.corpus_items import Items
from d2v.lifecycle.drift import Drift, draw_drift
from d2v.lifecycle.gate import Decision
from d2v.lifecycle.new_items import NewItems
from d2v.lifecycle.promotion import parts_of
from d2v.reporting.report import Heading, Part, Plot, write_report
from d2v.reporting.tables import Table
from d2v.tracker import Tracker

RETRAINING = "retraining.json"
NOTHING_NEW, TOO_FEW, NO_DRIFT, UNKNOWN_DRIFT, TRAINED = (
    "nothing new",
    "too few",
    "no drift",
    "drift unknown",
    "trained",
)


@dataclass
class RetrainingRun:
    """A retraining run so far.

    Attributes:
        counts: rows of the first table.
        drift: of the new items, or why it is not known; None if there was nothing to compare.
        costs: (what, updates, samples, seconds) of each training.
        decisions: of the gate.
        outcome: `trained`, or why not: `nothing new`, `too few` new items, `no drift` or `drift unknown` where training
            waits for one.
    """

    counts: dict[str, int] = field(default_factory=dict)
    drift: Drift | str | None = None
    costs: list[tuple[str, ...]] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    outcome: str = NOTHING_NEW

    def count(self, items: Items, encoder: NewItems, finetuned: NewItems | None) -> None:
        """Take down how much is new."""
        self.counts = {"training items": int(items.is_train.sum()), "held-out items": int(items.is_test.sum())}
        self.counts["training items new to the encoder"] = encoder.count
        if finetuned is not None:
            self.counts["training items new to the fine-tuned model, or with new labels"] = finetuned.count

    def note_cost(self, what: str, result: Mapping[str, Any] | None) -> None:
        """Take down what a training cost."""
        if result:
            seconds = float(result.get("seconds", 0.0))
            self.costs.append((what, f"{result['updates']:,}", f"{result['samples']:,}", f"{seconds:,.0f}"))


def write_retraining_report(run: RetrainingRun, modality: str, out: Path, tracker: Tracker) -> None:
    """Write `report.md`, `report.html`, the plot and, last, `retraining.json`, and log all of it."""
    out.mkdir(parents=True, exist_ok=True)
    written = list(write_report(out, f"Retraining: {modality}, {run.outcome}", list(_parts(run, out))))
    if isinstance(run.drift, Drift):
        written.append(out / "drift.png")
        tracker.log_metrics({"drift/mmd": run.drift.statistic, "drift/p_value": run.drift.p_value}, 0)
    drift: Any = run.drift
    if isinstance(run.drift, Drift):
        drift = {"mmd": run.drift.statistic, "p_value": run.drift.p_value, "drifted": run.drift.drifted}
    content = {"outcome": run.outcome, "counts": run.counts, "drift": drift}
    write_json(out / RETRAINING, content | {"decisions": [one.as_values() for one in run.decisions]})
    tracker.set_tags({"retraining": run.outcome})
    for path in (*written, out / RETRAINING):
        tracker.log_artifact(path, "retraining")


def _parts(run: RetrainingRun, out: Path) -> Iterator[Part]:
    yield Heading("Data")
    rows = tuple((name, f"{count:,}") for name, count in run.counts.items())
    yield Table("The corpus beside what models were trained on", ("", "items"), rows)
    yield from _drift_parts(run.drift, out)
    yield Heading("Training")
    if run.costs:
        yield Table("Cost of this run", ("training", "updates", "samples", "seconds"), tuple(run.costs))
    else:
        yield NOTES[run.outcome]
    yield from parts_of(run.decisions)


def _drift_parts(drift: Drift | str | None, out: Path) -> Iterator[Part]:
    if drift is None:
        return
    yield Heading("Drift")
    if isinstance(drift, str):
        yield f"Not known: {drift}."
        return
    finding = "The new items do not lie where the champion's do" if drift.drifted else "No drift was found"
    yield f"{finding}: squared maximum mean discrepancy {drift.statistic:.4g}, p = {drift.p_value:.3g}."
    yield Plot(draw_drift(drift, out / "drift.png"), "New items in the champion's space, beside its own")


NOTES = {
    NOTHING_NEW: "No training item is new to the models: nothing was trained or registered.",
    TOO_FEW: "Fewer items are new than retrain.min_new_items: nothing was trained or registered; they count next time.",
    UNKNOWN_DRIFT: "Drift is not known and retrain.on is drift: nothing was trained; the items count next time.",
    NO_DRIFT: "The new items look like the old ones and retrain.on is drift: nothing was trained or registered.",
    TRAINED: "A challenger that waited for its decision was judged; nothing more was trained.",
}
