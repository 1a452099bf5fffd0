"""A benchmark in a tracker: one run below its own for every pretraining and task run, from the files they left."""

from __future__ import annotations

import json
from pathlib import Path

from d2v.comparison.comparison import Comparison, Pretraining
from d2v.comparison.label_efficiency import CHANGES, TaskRun
from d2v.comparison.outcome import Outcome
from d2v.comparison.pretraining import read_cost
from d2v.evaluation.metrics_file import BELONGS_TO, METRICS
from d2v.tracker import Tracker
from d2v.training import resume
from d2v.training.history import History

_COSTS = ("seconds", "samples", "flops", "peak_memory_mb")


def log_pretraining(tracker: Tracker, comparison: Comparison, one: Pretraining) -> None:
    """The curves, probes and cost of a finished pretraining."""
    name = comparison.modality.name
    tags = {"modality": name, "stage": "pretraining", "objective": one.objective, "seed": str(one.seed)}
    with tracker.child(f"{name}-{one.key}", tags) as child:
        changes = comparison.config.pretraining | comparison.config.objectives[one.objective]
        child.log_params({"objective": one.objective, "seed": one.recipe.seed, "changes": changes})
        for row in History.read(one.folder / "history.csv").rows:
            child.log_metrics({key: value for key, value in row.items() if key != "update"}, int(row["update"]))
        child.log_metrics(_figures(one.folder / "probe") | _cost(one.folder), read_cost(one).updates)


def log_task(tracker: Tracker, comparison: Comparison, run: TaskRun) -> None:
    """The figures and cost of a finished task run."""
    name, contender = comparison.modality.name, run.contender
    tags = {
        "modality": name,
        "stage": "task",
        "objective": contender.objective or "none",
        "way": contender.way,
        "labels": run.point.key,
        "seed": str(run.seed),
    }
    folder, config = comparison.study.folder_of(run), comparison.study.config_of(run)
    with tracker.child(f"{name}-{run.key}", tags) as child:
        changes = comparison.config.finetuning | comparison.config.efficiency.changes.get(contender.way, {})
        of_way = CHANGES[contender.way] | {"labels": run.point.labels, "seed": config.seed}
        child.log_params(
            {"objective": contender.objective or "none", "way": contender.way, **of_way} | {"changes": changes}
        )
        cost = _cost(folder)
        del cost["cost/peak_memory_mb"]  # of the whole process, in which many such runs follow one another
        child.log_metrics(_figures(folder / "report") | cost, config.max_updates)


def log_outcome(tracker: Tracker, outcome: Outcome, comparison: Comparison) -> None:
    """All figures side by side, and the report."""
    tracker.set_tags({"stage": "benchmark"})
    tracker.log_metrics(outcome.figures(), outcome.costs[0].updates)
    for path in sorted(path for path in comparison.out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "benchmark")


def _figures(folder: Path) -> dict[str, float]:
    """What `metrics.json` holds; nothing where nothing could be measured."""
    file = folder / METRICS
    content = json.loads(file.read_text()) if file.is_file() else {}
    return {name: value for name, value in content.items() if name != BELONGS_TO}


def _cost(folder: Path) -> dict[str, float]:
    result = json.loads((folder / resume.RESULT).read_text())
    return {f"cost/{name}": float(result[name]) for name in _COSTS}
