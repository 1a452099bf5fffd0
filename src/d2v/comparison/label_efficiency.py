"""Label efficiency: one task with few and with many labels, from pretrained encoders and from random weights, with
several seeds. Every run has its own folder, so an interrupted study goes on with the missing ones.

Shapes: N test items, R resamples.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from d2v.comparison.label_efficiency_report import Findings, Gain, Measured, write_efficiency_report
from d2v.config import FinetuneConfig, TrainConfig, changed
from d2v.config.efficiency import EfficiencyConfig, Init
from d2v.data.disk import write_json
from d2v.distributed.environment import LOGS
from d2v.evaluation.metrics_file import METRICS
from d2v.finetuning.evaluation import PREDICTIONS, evaluate_finetuned
from d2v.finetuning.finetune import Setting, finetune
from d2v.finetuning.metrics import metric
from d2v.modalities.base import Modality
from d2v.progress import log
from d2v.statistics import Interval, Score, seeds_difference_interval, seeds_interval
from d2v.tracker import NullTracker, Tracker
from d2v.training.resume import is_finished, restarting_others

PRETRAINED: Init = "pretrained"
CHANGES: dict[Init, dict[str, Any]] = {
    "pretrained": {},
    "scratch": {"start": "scratch"},
    "frozen": {"trained": "head"},
    "random_frozen": {"start": "scratch", "trained": "head"},
}
"""Init -> its changes of the finetune block."""


@dataclass(frozen=True)
class Point:
    """An amount of labels: a share of them, or minutes."""

    amount: float
    in_minutes: bool

    @property
    def key(self) -> str:
        """For folders and metrics."""
        return f"minutes-{self.amount:g}" if self.in_minutes else f"share-{self.amount:g}"

    @property
    def labels(self) -> dict[str, float]:
        """The entry of the block `labels`."""
        return {"minutes": self.amount} if self.in_minutes else {"share": self.amount}


@dataclass(frozen=True)
class Contender:
    """One side of a comparison: encoders of one kind or random weights, and what is trained of them.

    Attributes:
        init: initial weights, and what is trained.
        objective: what the encoders were pretrained with; empty for random weights.
        encoders: model folders. Run s starts from number s modulo their count; with none, from random weights.
    """

    init: Init
    objective: str = ""
    encoders: tuple[Path, ...] = ()

    @property
    def key(self) -> str:
        """For folders and metrics."""
        return "_".join(filter(None, (self.objective, "" if self.init == PRETRAINED else self.init)))

    def start(self, seed: int) -> Path | None:
        """The encoder of a run; None for random weights."""
        return self.encoders[seed % len(self.encoders)] if self.encoders else None


def contenders(inits: Sequence[Init], encoders: Mapping[str, Sequence[Path]]) -> tuple[Contender, ...]:
    """Every init from every objective's encoders, and once from random weights where it begins with those.

    Args:
        inits: in order.
        encoders: objective -> model folders, one a pretraining seed; the first objective is compared with all others.
    """
    found: list[Contender] = []
    for init in inits:
        if "start" in CHANGES[init]:
            found.append(Contender(init))
        else:
            found += [Contender(init, name, tuple(folders)) for name, folders in encoders.items()]
    return tuple(sorted(found, key=lambda one: one.init != PRETRAINED))


@dataclass(frozen=True)
class TaskRun:
    """One training of the task."""

    contender: Contender
    point: Point
    seed: int

    @property
    def key(self) -> str:
        """Name of its folder."""
        return f"{self.contender.key}-{self.point.key}-seed-{self.seed}"


@dataclass(frozen=True)
class Study:
    """A study: its contenders, data and settings.

    Attributes:
        modality: from `d2v.modalities.registry`.
        config: its finetune block: the task and how it is trained.
        efficiency: amounts of labels, inits and seeds.
        pretraining: its train block: the encoder's sizes where the weights are random.
        prepared: folder that prepare left, with labels.
        contenders: see the function of this name; the first is what the others are compared with.
        out: folder of the study.
    """

    modality: Modality
    config: FinetuneConfig
    efficiency: EfficiencyConfig
    pretraining: TrainConfig
    prepared: Path
    contenders: tuple[Contender, ...]
    out: Path

    @property
    def metric(self) -> str:
        """The task's first metric."""
        return self.config.task.metrics[0]

    @property
    def points(self) -> list[Point]:
        """Ascending amounts of labels."""
        efficiency = self.efficiency
        return [Point(amount, bool(efficiency.minutes)) for amount in efficiency.minutes or efficiency.shares]

    def runs(self) -> list[TaskRun]:
        """Seed by seed, so that a study that is stopped has something of everything."""
        return [
            TaskRun(contender, point, seed)
            for seed in range(self.efficiency.seeds)
            for point in self.points
            for contender in self.contenders
        ]

    def config_of(self, run: TaskRun) -> FinetuneConfig:
        """The finetune block of one run.

        Raises:
            ConfigError: the study's changes do not fit the block.
        """
        init, seeds = run.contender.init, {"seed": self.config.seed + run.seed}
        labels = {"share": 1.0, "minutes": None, **run.point.labels, "seed": self.config.labels.seed + run.seed}
        changes = (CHANGES[init], self.efficiency.changes.get(init, {}), seeds | {"labels": labels})
        return changed(self.config, *changes, at=f"{self.modality.name}.efficiency.changes.{init}")

    def check(self) -> None:
        """Raises ConfigError if the changes of an init do not fit: before hours of training."""
        for run in self.runs():
            self.config_of(run)

    def folder_of(self, run: TaskRun) -> Path:
        """Where a run lives."""
        return self.out / "runs" / run.key

    def setting_of(self, run: TaskRun) -> Setting:
        """The initial weights and the data of a run."""
        return Setting(
            self.modality, self.config_of(run), self.pretraining, self.prepared, run.contender.start(run.seed)
        )

    def items_at(self, point: Point) -> int:
        """Training items that an amount of labels is."""
        random = Contender("scratch")
        return self.setting_of(TaskRun(random, point, 0)).open_data().rows.size

    def finished_runs(self, encoders: Collection[Path]) -> list[TaskRun]:
        """Those that need not be trained again: from random weights, or from one of these encoders."""
        starts = {run.contender.start(run.seed): run for run in self.runs()}
        fingerprints = {
            start: self.setting_of(run).open_data().fingerprint
            for start, run in starts.items()
            if start is None or start in encoders
        }
        return [run for run in self.runs() if self._is_finished(run, fingerprints.get(run.contender.start(run.seed)))]

    def _is_finished(self, run: TaskRun, fingerprint: str | None) -> bool:
        return fingerprint is not None and is_finished(self.config_of(run), fingerprint, self.folder_of(run))


def label_efficiency(study: Study, tracker: Tracker | None = None) -> dict[str, float]:
    """Train and measure all runs of a study, or those that are missing, and leave `metrics.json` and a report.

    Args:
        study: what is compared.
        tracker: gets the metrics and the files.

    Returns:
        See `Findings.metrics`.

    Raises:
        ConfigError: the changes of an init do not fit the finetune block.
        D2vError: see `d2v.finetuning.finetune.finetune` and `d2v.finetuning.evaluation.evaluate_finetuned`.
        Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    study.check()
    scores: dict[TaskRun, Score] = {}
    runs = study.runs()
    for number, run in enumerate(runs, start=1):
        log(f"efficiency: run {number} of {len(runs)}: {run.key}")
        scores[run] = run_task(study, run)
    findings = compare(study, scores)
    metrics = findings.metrics()
    write_efficiency_report(study.out, study.modality.name, findings)
    write_json(study.out / METRICS, metrics)
    if tracker is not None:
        tracker.log_metrics(metrics, study.config.max_updates)
        for path in sorted(path for path in study.out.iterdir() if path.is_file() and not path.name.startswith(".")):
            tracker.log_artifact(path, "efficiency")
    return metrics


def run_task(study: Study, run: TaskRun) -> Score:
    """Train and measure one model, unless that is done. Its output goes to `logs/task.log` of its folder.
    Its checkpoints go: a study has dozens of runs, and nothing reads them again."""
    config, out, setting = study.config_of(run), study.folder_of(run), study.setting_of(run)
    with _output_to(out / LOGS / "task.log"):
        config = restarting_others(config, lambda: setting.open_data().fingerprint, out)
        finetune(study.modality, config, study.pretraining, study.prepared, setting.start, out)
        evaluate_finetuned(study.modality, config, study.prepared, out, out / "report", NullTracker())
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    table = pd.read_parquet(out / "report" / PREDICTIONS)
    given = table["scores" if metric(study.metric).of_scores and "scores" in table else "predicted"]
    return metric(study.metric).score(_values(given), _values(table["right"]))


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Dozens of small runs would bury the lines that tell how far a study is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield


def _values(column: pd.Series) -> Any:
    """A column as metrics take it: numbers (N,), rows (N, C) or texts."""
    values = column.tolist()
    if values and isinstance(values[0], str):
        return values
    return np.stack(values) if values and isinstance(values[0], np.ndarray) else np.array(values)


def compare(study: Study, scores: Mapping[TaskRun, Score]) -> Findings:
    """The findings of all runs of a study.

    Args:
        study: what is compared.
        scores: of all its runs.
    """
    first, resamples = study.contenders[0], study.config.bootstrap_resamples
    starts = len(first.encoders) or None

    def seeds(contender: Contender, point: Point) -> list[Score]:
        return [scores[TaskRun(contender, point, seed)] for seed in range(study.efficiency.seeds)]

    pairs = [(contender, point) for point in study.points for contender in study.contenders]
    return Findings(
        metric=study.metric,
        in_minutes=study.points[0].in_minutes,
        items={point.key: study.items_at(point) for point in study.points},
        measured=[
            Measured(
                contender.init,
                contender.objective,
                contender.key,
                point.key,
                seeds_interval(seeds(contender, point), resamples, starts=len(contender.encoders) or None),
                [one.value for one in seeds(contender, point)],
            )
            for contender, point in pairs
        ],
        gains=[
            Gain(
                contender.key,
                point.key,
                _gain(study.metric, seeds(first, point), seeds(contender, point), resamples, starts),
            )
            for contender, point in pairs
            if contender != first
        ],
    )


def _gain(name: str, ours: list[Score], theirs: list[Score], resamples: int, starts: int | None = None) -> Interval:
    """How much the first are better, for error rates with its sign turned."""
    pair = (ours, theirs) if metric(name).higher_is_better else (theirs, ours)
    return seeds_difference_interval(*pair, resamples, starts=starts)
