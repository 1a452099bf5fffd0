"""A whole benchmark: pretrain every objective, probe it, put it to the task, and report. Finished runs are
kept, so an interrupted benchmark goes on with the missing ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from d2v.comparison.comparison import Comparison, Pretraining
from d2v.comparison.label_efficiency import CHANGES, TaskRun, compare, run_task
from d2v.comparison.outcome import OUTCOME, Outcome, gather, read_outcome, write_outcome
from d2v.comparison.pretraining import check_probed, is_pretrained, read_cost, run_pretraining
from d2v.comparison.probing import Probed, Prober
from d2v.comparison.report import write_benchmark_report
from d2v.comparison.trials import Trial, check_labels, choose, is_tried, run_trial
from d2v.distributed.environment import read_dist_env
from d2v.errors import ConfigError
from d2v.evaluation.metrics_file import BELONGS_TO, METRICS
from d2v.progress import log
from d2v.statistics import Score
from d2v.tracker import NullTracker, Tracker
from d2v.training import resume
from d2v.training.history import History
from d2v.training.performance import duration

Result = TypeVar("Result")

TRIAL, PRETRAINING, TASK = "trial", "pretraining", "task"
"""Kinds of runs: those of one kind take about as long as one another."""
_COSTS = ("seconds", "samples", "flops", "peak_memory_mb")


class _Runs:
    """How many runs there are, how many are done, and how long the rest may take.

    Args:
        name: of the modality.
        done: seconds of each run that is done already, by kind.
        missing: how many are not, by kind.
    """

    def __init__(self, name: str, done: dict[str, list[float]], missing: dict[str, int]) -> None:
        self._name, self._seconds, self._missing = name, done, missing
        self._number = sum(map(len, done.values()))
        self._of = self._number + sum(missing.values())
        counts = " and ".join(f"{len(done[kind]) + missing[kind]} of {kind}" for kind in done)
        log(f"benchmark {name}: {self._of} runs ({counts}), {self._number} of them done already")

    def do(self, kind: str, key: str, work: Callable[[], Result]) -> Result:
        """One run that is missing."""
        began = time.monotonic()
        result = work()
        self._seconds[kind].append(time.monotonic() - began)
        self._missing[kind] -= 1
        self._number += 1
        took, left = duration(self._seconds[kind][-1]), duration(self._left_s())
        log(f"benchmark {self._name}: {self._number} of {self._of}: {key} in {took}; about {left} left")
        return result

    def _left_s(self) -> float:
        """Of kinds that have not run yet nothing is known."""
        known = ((count, self._seconds[kind]) for kind, count in self._missing.items())
        return sum(count * sum(seconds) / len(seconds) for count, seconds in known if seconds)


def benchmark(comparison: Comparison, tracker: Tracker | None = None) -> Outcome:
    """Do the missing runs of a benchmark, and leave `benchmark.json` and a report.

    Args:
        comparison: what is compared.
        tracker: gets the metrics and the report, and a run below its own for every pretraining and task run.

    Raises:
        ConfigError: a change does not fit its block, or torchrun or srun started this command.
        D2vError: see `d2v.pretraining.pretrain.pretrain` and `d2v.finetuning.finetune.finetune`.
        Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    if read_dist_env().world_size > 1:
        raise ConfigError(
            "a benchmark starts the ranks of its trainings itself: run it without torchrun or srun, and set "
            "train.distributed.ranks"
        )
    comparison.check()
    check_probed(comparison, comparison.trials)
    tracker = tracker or NullTracker()
    (comparison.out / OUTCOME).unlink(missing_ok=True)
    comparison, tried = _choose(comparison)
    check_probed(comparison, comparison.pretrainings)
    runs = _count(comparison)
    probed, why_not = _pretrain(comparison, runs, tracker)
    scores = _tune(comparison, runs, tracker)
    outcome = gather(comparison, compare(comparison.study, scores), probed, why_not, tried)
    write_benchmark_report(comparison.out, [outcome])
    write_outcome(outcome, comparison.out)
    _log_outcome(tracker, outcome, comparison)
    return outcome


def _choose(comparison: Comparison) -> tuple[Comparison, list[Trial]]:
    """All trials, and the comparison with the settings that they choose."""
    if comparison.trials:
        check_labels(comparison)
        missing = [one for one in comparison.trials if not is_tried(comparison, one)]
        seconds = [read_cost(one).seconds for one in comparison.trials if is_pretrained(comparison, one)]
        runs = _Runs(comparison.modality.name, {TRIAL: seconds}, {TRIAL: len(missing)})
        for one in missing:
            runs.do(TRIAL, f"trial {one.key}", lambda one=one: run_trial(comparison, one))  # type: ignore[misc]
    return choose(comparison)


def _count(comparison: Comparison) -> _Runs:
    pretrained = [one for one in comparison.pretrainings if is_pretrained(comparison, one)]
    finetuned = comparison.study.finished_runs([one.encoder for one in pretrained])
    done = {
        PRETRAINING: [read_cost(one).seconds for one in pretrained],
        TASK: [_seconds(comparison.study.folder_of(run)) for run in finetuned],
    }
    counts = {PRETRAINING: len(comparison.pretrainings), TASK: len(comparison.study.runs())}
    return _Runs(comparison.modality.name, done, {kind: counts[kind] - len(done[kind]) for kind in done})


def _seconds(folder: Path) -> float:
    seconds: float = json.loads((folder / resume.RESULT).read_text())["seconds"]
    return seconds


def _pretrain(comparison: Comparison, runs: _Runs, tracker: Tracker) -> tuple[list[Probed], str | None]:
    """All pretrainings, and the probes of their encoders."""
    for one in comparison.pretrainings:
        if not is_pretrained(comparison, one):
            runs.do(PRETRAINING, one.key, lambda one=one: run_pretraining(comparison, one))  # type: ignore[misc]
    prober = Prober(comparison)
    log(f"benchmark {comparison.modality.name}: probing frozen features")
    probed = [] if prober.why_not else prober.measure()
    for one in comparison.pretrainings:
        _log_pretraining(tracker, comparison, one)
    return probed, prober.why_not


def _tune(comparison: Comparison, runs: _Runs, tracker: Tracker) -> dict[TaskRun, Score]:
    """All task runs."""
    study = comparison.study
    finished = set(study.finished_runs([one.encoder for one in comparison.pretrainings]))
    scores: dict[TaskRun, Score] = {}
    for run in study.runs():
        if run in finished:
            scores[run] = run_task(study, run)
        else:
            scores[run] = runs.do(TASK, run.key, lambda run=run: run_task(study, run))  # type: ignore[misc]
        _log_task(tracker, comparison, run)
    return scores


def combine(folders: Sequence[Path], out: Path, tracker: Tracker | None = None) -> None:
    """One report of several modalities' benchmarks.

    Args:
        folders: that `benchmark` left.
        out: folder of the report.
        tracker: gets the report.

    Raises:
        DataError: a benchmark is not finished.
    """
    outcomes = [read_outcome(folder) for folder in folders]
    write_benchmark_report(out, outcomes)
    if tracker is not None:
        for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
            tracker.log_artifact(path, "benchmark")


# --------------------------------------------------------------------------------------------- tracker


def _log_pretraining(tracker: Tracker, comparison: Comparison, one: Pretraining) -> None:
    """The curves, probes and cost of a finished pretraining."""
    name = comparison.modality.name
    tags = {"modality": name, "stage": "pretraining", "objective": one.objective, "seed": str(one.seed)}
    with tracker.child(f"{name}-{one.key}", tags) as child:
        changes = comparison.config.pretraining | comparison.config.objectives[one.objective]
        child.log_params({"objective": one.objective, "seed": one.recipe.seed, "changes": changes})
        for row in History.read(one.folder / "history.csv").rows:
            child.log_metrics({key: value for key, value in row.items() if key != "update"}, int(row["update"]))
        child.log_metrics(_metrics_in(one.folder / "probe") | _cost(one.folder), read_cost(one).updates)


def _log_task(tracker: Tracker, comparison: Comparison, run: TaskRun) -> None:
    """The metrics and cost of a finished task run."""
    name, contender = comparison.modality.name, run.contender
    tags = {
        "modality": name,
        "stage": "task",
        "objective": contender.objective or "none",
        "way": contender.init,
        "labels": run.point.key,
        "seed": str(run.seed),
    }
    folder, config = comparison.study.folder_of(run), comparison.study.config_of(run)
    with tracker.child(f"{name}-{run.key}", tags) as child:
        changes = comparison.config.finetuning | comparison.config.efficiency.changes.get(contender.init, {})
        of_init = CHANGES[contender.init] | {"labels": run.point.labels, "seed": config.seed}
        child.log_params(
            {"objective": contender.objective or "none", "way": contender.init, **of_init} | {"changes": changes}
        )
        cost = _cost(folder)
        del cost["cost/peak_memory_mb"]  # of the whole process, in which many such runs follow one another
        child.log_metrics(_metrics_in(folder / "report") | cost, config.max_updates)


def _log_outcome(tracker: Tracker, outcome: Outcome, comparison: Comparison) -> None:
    """All metrics side by side, and the report."""
    tracker.set_tags({"stage": "benchmark"})
    tracker.log_metrics(outcome.metrics(), outcome.costs[0].updates)
    for path in sorted(path for path in comparison.out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "benchmark")


def _metrics_in(folder: Path) -> dict[str, float]:
    """The contents of `metrics.json`; nothing where nothing could be measured."""
    file = folder / METRICS
    content = json.loads(file.read_text()) if file.is_file() else {}
    return {name: value for name, value in content.items() if name != BELONGS_TO}


def _cost(folder: Path) -> dict[str, float]:
    result = json.loads((folder / resume.RESULT).read_text())
    return {f"cost/{name}": float(result[name]) for name in _COSTS}
