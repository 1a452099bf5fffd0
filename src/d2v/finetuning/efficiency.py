"""What pretraining is worth in labels: one task with few and with many labels, from a pretrained encoder and from
random weights, with several seeds. Every run has its own folder, so an interrupted study goes on with what is missing.

Shapes: N test items, R resamples.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from d2v.config import FinetuneConfig, TrainConfig, parse
from d2v.config.efficiency import EfficiencyConfig, Way
from d2v.data.disk import write_json
from d2v.errors import ConfigError
from d2v.evaluation.measured import METRICS
from d2v.evaluation.statistics import Interval, Score, score_difference_interval, score_interval
from d2v.finetuning.efficiency_report import Gain, Measured, write_efficiency_report
from d2v.finetuning.evaluation import PREDICTIONS, evaluate_tuned
from d2v.finetuning.metrics import metric
from d2v.finetuning.run import Setting, finetune
from d2v.modalities.base import Modality
from d2v.progress import say
from d2v.training.tracker import NullTracker, Tracker

PRETRAINED: Way = "pretrained"
CHANGES: dict[Way, dict[str, Any]] = {
    "pretrained": {},
    "scratch": {"start": "scratch"},
    "frozen": {"trained": "head"},
    "random_frozen": {"start": "scratch", "trained": "head"},
}
"""What a way changes of the finetune block."""


@dataclass(frozen=True)
class Point:
    """An amount of labels: a share of them, or minutes."""

    amount: float
    in_minutes: bool

    @property
    def key(self) -> str:
        """For folders and figures."""
        return f"minutes-{self.amount:g}" if self.in_minutes else f"share-{self.amount:g}"

    @property
    def labels(self) -> dict[str, float]:
        """The entry of the block `labels`."""
        return {"minutes": self.amount} if self.in_minutes else {"share": self.amount}


@dataclass(frozen=True)
class Study:
    """What is compared, on what.

    Attributes:
        modality: from `d2v.modalities.registry`.
        config: its finetune block: the task and how it is trained.
        efficiency: amounts of labels, ways and seeds.
        pretraining: its train block: the encoder's sizes where the weights are random.
        prepared: folder that prepare left, with labels.
        encoder: model folder of the pretrained encoder.
        out: folder of the study.
    """

    modality: Modality
    config: FinetuneConfig
    efficiency: EfficiencyConfig
    pretraining: TrainConfig
    prepared: Path
    encoder: Path
    out: Path

    @property
    def points(self) -> list[Point]:
        """Ascending amounts of labels."""
        efficiency = self.efficiency
        return [Point(amount, bool(efficiency.minutes)) for amount in efficiency.minutes or efficiency.shares]

    def config_of(self, way: Way, point: Point, seed: int) -> FinetuneConfig:
        """The finetune block of one run.

        Raises:
            ConfigError: the study's changes do not fit the block.
        """
        values = self.config.model_dump(mode="json")
        for changes in (CHANGES[way], self.efficiency.changes.get(way, {})):
            values = _merged(values, changes)
        labels = {"share": 1.0, "minutes": None, **point.labels, "seed": self.config.labels.seed + seed}
        values |= {"seed": self.config.seed + seed, "labels": labels}
        return parse(type(self.config), values, at=f"{self.modality.name}.efficiency.changes.{way}")

    def start_of(self, way: Way) -> Path | None:
        """The encoder of a way; None for random weights."""
        return self.encoder if way in (PRETRAINED, "frozen") else None

    def folder_of(self, way: Way, point: Point, seed: int) -> Path:
        """Where a run lives."""
        return self.out / "runs" / f"{way}-{point.key}-seed-{seed}"

    def items_at(self, point: Point) -> int:
        """Training items that an amount of labels is."""
        config = self.config_of(PRETRAINED, point, 0)
        setting = Setting(self.modality, config, self.pretraining, self.prepared, self.encoder)
        return setting.open(self.prepared).num_train


def label_efficiency(study: Study, tracker: Tracker | None = None) -> dict[str, float]:
    """Train and measure all runs of a study, or those that are missing, and leave `metrics.json` and a report.

    Args:
        study: what is compared.
        tracker: gets the figures and the files.

    Returns:
        Of the task's first metric, for each way and amount of labels: `efficiency/<metric>_<way>_<amount>`, the mean
        over seeds, with `_low` and `_high` (a 95 % bootstrap interval over test items) and `_seed_std`; how much the
        pretrained encoder is better than each other way, `efficiency/<metric>_gain_over_<way>_<amount>`, with the
        paired interval; `efficiency/items_<amount>`, the training items.

    Raises:
        ConfigError: the changes of a way do not fit the finetune block.
        D2vError: see `d2v.finetuning.run.finetune` and `d2v.finetuning.evaluation.evaluate_tuned`.
        Interrupted: Ctrl-C or SIGTERM; the same call goes on.
    """
    scores = _run_all(study)
    name, resamples = study.config.task.metrics[0], study.config.bootstrap_resamples
    measured = [
        Measured(way, point.key, score_interval(_mean(of_seeds), resamples), np.array([one.value for one in of_seeds]))
        for (way, point), of_seeds in scores.items()
    ]
    gains = [
        Gain(way, point.key, _gain(name, scores[PRETRAINED, point], of_seeds, resamples))
        for (way, point), of_seeds in scores.items()
        if way != PRETRAINED
    ]
    items = {point.key: study.items_at(point) for point in study.points}
    figures = _figures(name, measured, gains, items)
    write_efficiency_report(study.out, study.modality.name, name, study.points[0].in_minutes, measured, gains, items)
    write_json(study.out / METRICS, figures)
    if tracker is not None:
        tracker.log_metrics(figures, study.config.max_updates)
        for path in sorted(path for path in study.out.iterdir() if path.is_file() and not path.name.startswith(".")):
            tracker.log_artifact(path, "efficiency")
    return figures


Scores = Mapping[tuple[Way, Point], list[Score]]


def _run_all(study: Study) -> Scores:
    """Scores of all runs, one a seed; what is there already is not trained again."""
    runs = list(_runs(study))
    for way, point, seed in runs:  # before hours of training
        study.config_of(way, point, seed)
    scores: dict[tuple[Way, Point], list[Score]] = {}
    for number, (way, point, seed) in enumerate(runs, start=1):
        say(f"efficiency: run {number} of {len(runs)}: {way}, {point.key}, seed {seed}")
        scores.setdefault((way, point), []).append(_run(study, way, point, seed))
    return scores


def _runs(study: Study) -> Iterator[tuple[Way, Point, int]]:
    """Seed by seed, so that a study that is stopped has something of everything."""
    for seed in range(study.efficiency.seeds):
        for point in study.points:
            for way in study.efficiency.ways:
                yield way, point, seed


def _run(study: Study, way: Way, point: Point, seed: int) -> Score:
    """Train and measure one model. Its checkpoints go: a study has dozens of runs, and nothing reads them again."""
    config, out = study.config_of(way, point, seed), study.folder_of(way, point, seed)
    finetune(study.modality, config, study.pretraining, study.prepared, study.start_of(way), out)
    evaluate_tuned(study.modality, config, study.prepared, out, out / "report", NullTracker())
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    table = pd.read_parquet(out / "report" / PREDICTIONS)
    return metric(config.task.metrics[0]).score(_values(table["predicted"]), _values(table["right"]))


def _values(column: pd.Series) -> Any:
    """A column as metrics take it: numbers (N,), rows (N, C) or texts."""
    values = column.tolist()
    return np.stack(values) if values and isinstance(values[0], np.ndarray) else _plain(values)


def _plain(values: list[Any]) -> Any:
    return values if values and isinstance(values[0], str) else np.array(values)


def _mean(of_seeds: list[Score]) -> Score:
    """The mean of the seeds' figures, all taken of the same resamples."""
    return Score(of_seeds[0].items, lambda counts_RN: np.mean([one.of_counts(counts_RN) for one in of_seeds], axis=0))


def _gain(name: str, ours: list[Score], theirs: list[Score], resamples: int) -> Interval:
    """How much the first are better, for error rates with its sign turned."""
    pair = (_mean(ours), _mean(theirs)) if metric(name).higher_is_better else (_mean(theirs), _mean(ours))
    return score_difference_interval(*pair, resamples)


def _figures(name: str, measured: list[Measured], gains: list[Gain], items: Mapping[str, int]) -> dict[str, float]:
    figures: dict[str, float] = {f"efficiency/items_{key}": float(count) for key, count in items.items()}
    for one in measured:
        key = f"efficiency/{name}_{one.way}_{one.amount}"
        figures |= _spelled(key, one.interval) | {f"{key}_seed_std": one.seed_std}
    for gain in gains:
        figures |= _spelled(f"efficiency/{name}_gain_over_{gain.over}_{gain.amount}", gain.interval)
    return figures


def _spelled(key: str, interval: Interval) -> dict[str, float]:
    return {key: interval.value, f"{key}_low": interval.low, f"{key}_high": interval.high}


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with some replaced.

    Raises:
        ConfigError: a block is replaced by a plain value.
    """
    merged = dict(values)
    for key, change in changes.items():
        old = values.get(key)
        if isinstance(old, Mapping) and not isinstance(change, Mapping):
            entries = ", ".join(map(str, old))
            raise ConfigError(f"efficiency.changes: {key} is a block, not {change!r}: give its entries ({entries})")
        merged[key] = _merged(old, change) if isinstance(old, Mapping) else change
    return merged
