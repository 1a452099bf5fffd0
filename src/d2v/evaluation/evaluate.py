"""A whole evaluation: from a prepared folder and a run folder to metrics, plots, report and model card.

Shapes: N train items, T test items, D feature width.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from d2v.config import EvaluateConfig, TrainConfig
from d2v.data import digests
from d2v.data.disk import one_at_a_time, read_json
from d2v.data.prepared import log_ingest
from d2v.distributed.environment import own_device
from d2v.errors import CheckpointError, DataError
from d2v.evaluation import codebook
from d2v.evaluation.figures import Illustrator
from d2v.evaluation.flags import encoder_flags, sentence, tags_of
from d2v.evaluation.further import further_metrics
from d2v.evaluation.metrics_file import METRICS, PLAIN, PRETRAINED, RANDOM, measured_before, spelled, write_measured
from d2v.evaluation.probe_set import labelled, largest_class, why_not_probed, with_test_items
from d2v.evaluation.probes import knn, linear_probe
from d2v.evaluation.search_space import VERSION, SearchSpace, extract_pooled
from d2v.modalities.base import Modality, PreparedData, ProbeSet
from d2v.modalities.probes import CodeCounts, ItemClasses, TokenClasses
from d2v.model_folder import DECODER, ENCODER, load_encoder, load_objective, load_state
from d2v.models.effective_rank import effective_rank
from d2v.models.encoder import Encoder
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.progress import Progress, log
from d2v.reporting.model_card import write_model_card
from d2v.reporting.page_parts import PagePart, Warnings
from d2v.reporting.probe_tables import (
    FURTHER,
    GAIN_OVER_BEST,
    accuracy_table,
    best_baseline,
    curve_table,
    difference_table,
    further_table,
    has_accuracies,
    verdict,
)
from d2v.reporting.report import Heading, Part, Plot, write_report
from d2v.reporting.tables import Table
from d2v.statistics import accuracy_interval, difference_interval
from d2v.tracker import Tracker
from d2v.training import resume

PREPARED = "prepared.json"
WRITTEN = ("report.md", "report.html", "model_card.md", "curves.png", "masks.png", "pca.png", "neighbours.png")

PROBES = ("linear", "knn", "knn_search")

Features = Mapping[str, tuple[Tensor, Tensor]]
"""Suffix to ((N, D) train features, (T, D) test features)."""


@one_at_a_time
def evaluate(
    modality: Modality,
    recipe: TrainConfig,
    config: EvaluateConfig,
    prepared: Path,
    run_folder: Path,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Probe a frozen encoder beside the same encoder with random weights and plain features.

    Prints a table, writes `metrics.json` (last: its presence means that the rest is there), `report.md`,
    `report.html`, `model_card.md` and plots into `out`, and logs all of it. Where `out` already belongs to these
    weights, data and settings, nothing is measured anew.

    Args:
        modality: what the data is.
        recipe: the train block that the encoder was trained with.
        config: settings of the probes.
        prepared: folder that prepare left.
        run_folder: folder that train left, with `encoder/`, `history.csv` and `result.json`.
        out: report folder.
        tracker: gets metrics at update `recipe.max_updates`, and the files.

    Returns:
        Accuracies and differences as shares from 0 to 1, and effective ranks; see `compare_probes`.

    Raises:
        CheckpointError: there is no finished run in `run_folder`, or it had another recipe.
        DataError: the probe set has no train items.
        CollapseError: a feature is NaN or infinite.
    """
    data = modality.open(prepared)
    log_ingest(prepared, "evaluate")
    result = _finished_run(modality, recipe, run_folder)
    identity = _identity(run_folder / "encoder" / ENCODER, data, config)
    metrics = measured_before(out, identity, WRITTEN)
    if metrics is None:
        metrics = _Evaluation(modality, recipe, config, data, prepared, run_folder, out, result).write(identity)
    else:
        log(f"evaluate: {out} already belongs to this encoder and these settings")
    _show(metrics, modality.baseline_name)
    flags = encoder_flags(metrics)
    for flag in flags:
        log(f"evaluate: {sentence(flag)}")
    tracker.set_tags(tags_of(flags))
    tracker.log_metrics(metrics, recipe.max_updates)
    for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "report")
    return metrics


def _finished_run(modality: Modality, recipe: TrainConfig, run_folder: Path) -> dict[str, Any]:
    """The result of the finished run."""
    train_again = f"kedro run --pipeline=train_{modality.name}"
    result = resume.finished_result(run_folder)
    if result is None:
        raise CheckpointError(f"{run_folder} holds no finished run: finish it with {train_again}, then evaluate again")
    fingerprint = result["data_fingerprint"]  # an encoder may be probed on other data than its own
    old, new = (result["recipe"], fingerprint), (resume.shaping(recipe), fingerprint)
    if lines := resume.differences(f"{modality.name}.train", type(recipe), old, new):
        raise CheckpointError(
            f"The encoder in {run_folder} was trained with another recipe ({'; '.join(lines)}), so the random encoder "
            f"of this one would not be a fair baseline: change the recipe back, or train with it by {train_again}"
        )
    return result


def _identity(weights: Path, data: PreparedData, config: EvaluateConfig) -> dict[str, Any]:
    """The identity of metrics: weights, data, settings."""
    try:
        digest = digests.of_file(weights)
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read ({error}): train again or restore the file") from error
    settings = {"evaluate": config.of_the_end(), "space": VERSION}
    return {"encoder_sha256": digest, "data_fingerprint": data.fingerprint, **settings}


@dataclass(frozen=True)
class _Evaluation:
    """The phases of a new evaluation."""

    modality: Modality
    recipe: TrainConfig
    config: EvaluateConfig
    data: PreparedData
    prepared: Path
    run_folder: Path
    out: Path
    result: dict[str, Any]

    def write(self, identity: dict[str, Any]) -> dict[str, float]:
        """Load, measure, draw, write."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / METRICS).unlink(missing_ok=True)  # plots and report are about to change
        items = self._items()
        objective, device = build_objective(self.modality, self.recipe), own_device()
        pretrained, is_whole = self._pretrained()
        encoder, random = pretrained.to(device).student, objective.to(device).student
        log(f"evaluate: {len(items.train_labels)} train and {len(items.test_labels)} test items")
        features, in_space = self._features(items, encoder, random)
        metrics = self._metrics(items, features, in_space) | self._further(pretrained, objective, is_whole)
        if (codes := self.modality.code_counts(self.data, codebook.ITEMS)) is not None:
            metrics |= codebook.codebook_metrics(codes)
        draw = Illustrator(self.modality, self.recipe, self.config, self.data, items, self.out)
        curves, of_curves = draw.curves(self.run_folder / "history.csv")
        plots = [
            curves,
            draw.masks(objective),
            draw.pca({"pretrained": encoder, "random": random}),
            draw.neighbours(*in_space[PRETRAINED]),
        ]
        self._write_report(metrics, plots, items, curve_table(of_curves, self.modality.baseline_name), codes)
        self._write_card(metrics)
        write_measured(self.out, metrics, identity)
        return metrics

    def _items(self) -> ProbeSet:
        whole = with_test_items(self.data.probe_set(self.recipe))
        if not len(whole.train_labels) or not len(whole.test_labels):
            raise DataError(
                f"The probe set in {self.prepared} has {len(whole.train_labels)} train and {len(whole.test_labels)} "
                "test items, and at least one of each is needed: raise their numbers in the prepare block"
            )
        return whole if why_not_probed(whole) else labelled(whole)

    def _pretrained(self) -> tuple[Objective, bool]:
        """The trained objective, and whether its teacher, decoder and heads were saved too. If not they are random."""
        folder = self.run_folder / "encoder"
        objective = load_objective(folder, self.modality, self.recipe)
        if objective is not None:
            return objective, True
        objective = build_objective(self.modality, self.recipe)
        load_state(objective.student, load_encoder(folder)[0].state_dict(), str(folder))
        return objective.eval(), False

    def _further(self, pretrained: Objective, random: Objective, is_whole: bool) -> dict[str, float]:
        """What the modality has to measure beside labels."""
        if not self.config.further_items:
            return {}
        probes = self.modality.further_probes(self.data, self.recipe, self.config.further_items)
        if not is_whole:
            probes = [probe for probe in probes if isinstance(probe, TokenClasses | ItemClasses)]
            log(f"evaluate: {DECODER} or teacher is not there, so what asks the pretraining objective is left out")
        return further_metrics(probes, {PRETRAINED: pretrained, RANDOM: random}, self.modality, self.config)

    def _features(self, items: ProbeSet, encoder: Encoder, random: Encoder) -> tuple[Features, Features]:
        """Plain features, and the same in spaces to search in, each learned from the train items in the same way."""
        plain, grid = self.modality.baseline_features, self.modality.grid(self.recipe)
        size = self.config.batch_size
        with Progress("evaluate", 2 * (len(items.train_inputs) + len(items.test_inputs))) as progress:
            of_encoders = {
                suffix: (
                    extract_pooled(one, items.train_inputs, grid, size, progress.advance),
                    extract_pooled(one, items.test_inputs, grid, size, progress.advance),
                )
                for suffix, one in ((PRETRAINED, encoder), (RANDOM, random))
            }
        baseline = plain(items.train_inputs), plain(items.test_inputs)
        features = {suffix: (train[0], test[0]) for suffix, (train, test) in of_encoders.items()} | {PLAIN: baseline}
        pooled = {suffix: (train[1], test[1]) for suffix, (train, test) in of_encoders.items()} | {PLAIN: baseline}
        return features, {suffix: _in_space(*both) for suffix, both in pooled.items()}

    def _metrics(self, items: ProbeSet, features: Features, in_space: Features) -> dict[str, float]:
        ranks = {f"probe/rank{suffix}": effective_rank(features[suffix][0]) for suffix in (PRETRAINED, RANDOM)}
        if reason := why_not_probed(items):
            log(f"evaluate: {reason}")
            return ranks
        return compare_probes(features, in_space, items, self.config) | ranks

    def _write_report(
        self,
        metrics: dict[str, float],
        plots: list[Plot],
        items: ProbeSet,
        of_curves: Table | None,
        codes: CodeCounts | None,
    ) -> None:
        reason = why_not_probed(items)
        titles = ("Training", "Masks", "Token features", "Nearest neighbours")
        parts: list[Part | PagePart] = [verdict(metrics, self.modality.baseline_name)]
        if flags := encoder_flags(metrics):
            parts.insert(0, Warnings(tuple(map(sentence, flags))))
        if reason:
            parts.append(f"No accuracies: {reason}.")
        parts += [Heading("Probes"), accuracy_table(metrics, self.modality.baseline_name)]
        if not reason:
            parts.append(probe_class_table(items))
        if has_accuracies(metrics):
            parts += [difference_table(metrics, self.modality.baseline_name)]
        if (table := further_table(metrics)) is not None:
            parts += [table, FURTHER]
        if has_accuracies(metrics) or table is not None:
            parts.append(INTERVALS)
        parts.append(RANK)
        for title, plot in zip(titles, plots, strict=True):
            parts += [Heading(title), plot]
            if plot is plots[0] and of_curves is not None:
                parts.append(of_curves)
        (self.out / codebook.PICTURE).unlink(missing_ok=True)
        if codes is not None:
            parts += [Heading("Codebook"), *codebook.codebook_parts(codes, self.out / codebook.PICTURE)]
        write_report(self.out, f"d2v {self.modality.name}: a pretrained encoder and its baselines", parts)

    def _write_card(self, metrics: dict[str, float]) -> None:
        file = self.prepared / PREPARED
        about: dict[str, Any] = read_json(file, DataError, "run the prepare step again") if file.is_file() else {}
        about |= {"fingerprint": self.data.fingerprint, "train_items": self.data.num_train}
        about |= {"classes": len(self.data.class_names)}
        name, baseline = self.modality.name, self.modality.baseline_name
        card = self.out / "model_card.md"
        write_model_card(card, name, self.recipe, about, metrics, self.result, baseline)


# -------------------------------------------------------------------------------------------- probes


def _in_space(train_NP: Tensor, test_TP: Tensor) -> tuple[Tensor, Tensor]:
    """Both in a space learned from the train items; as they are where these do not differ."""
    try:
        space = SearchSpace.learned(train_NP)
    except DataError:
        return train_NP, test_TP
    return space(train_NP), space(test_TP)


def compare_probes(features: Features, in_space: Features, items: ProbeSet, config: EvaluateConfig) -> dict[str, float]:
    """Probe accuracies and the pretrained encoder's gains, each with the ends of its 95% interval.

    Args:
        features: of PRETRAINED, RANDOM and PLAIN.
        in_space: the same in spaces to search in.
        items: their labels; every item has one.
        config: settings of the probes.

    Returns:
        Shares from 0 to 1: `probe/linear<suffix>`, `probe/linear_gain_over_{random,baseline}`, the same of `knn` and of
        `knn_search` (kNN in the space), and `probe/gain_over_best`, the best probe against the best baseline; each of
        these with `_low` and `_high`. And `probe/majority`, what always naming the largest class scores.
    """
    right = {
        probe + suffix: given
        for suffix, (train_ND, test_TD) in features.items()
        for probe, given in _right(suffix, train_ND, test_TD, in_space[suffix], items, config).items()
    }
    metrics: dict[str, float] = {}
    for name, given in right.items():
        metrics |= spelled(f"probe/{name}", accuracy_interval(given, config.bootstrap_resamples))
    for probe in PROBES:
        for suffix in (RANDOM, PLAIN):
            gain = difference_interval(right[probe + PRETRAINED], right[probe + suffix], config.bootstrap_resamples)
            metrics |= spelled(f"probe/{probe}_gain_over{suffix}", gain)
    right["majority"] = (items.test_labels == largest_class(items)).numpy()
    metrics["probe/majority"] = float(right["majority"].mean())
    ours = max(PROBES, key=lambda probe: metrics[f"probe/{probe}"])
    best = best_baseline(metrics).removeprefix("probe/")
    gain = difference_interval(right[ours + PRETRAINED], right[best], config.bootstrap_resamples)
    return metrics | spelled(GAIN_OVER_BEST, gain)


def _right(
    suffix: str,
    train_ND: Tensor,
    test_TD: Tensor,
    in_space: tuple[Tensor, Tensor],
    items: ProbeSet,
    config: EvaluateConfig,
) -> dict[str, np.ndarray]:
    """For each probe, (T,) bool: whether it names the test item's class."""
    fit = linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2)
    if not fit.converged:
        log(f"evaluate: the linear probe{suffix} stopped before its optimum; its accuracy may be a little low")
    near, near_in_space = (
        knn(train, items.train_labels, test, config.knn_k, config.knn_temperature)
        for train, test in ((train_ND, test_TD), in_space)
    )
    return {
        "linear": (fit.predictions_T == items.test_labels).numpy(),
        "knn": (near == items.test_labels).numpy(),
        "knn_search": (near_in_space == items.test_labels).numpy(),
    }


# -------------------------------------------------------------------------------------------- report

MOST_CLASSES = 40


def probe_class_table(items: ProbeSet) -> Table:
    """Items of each class in the probe set, the largest classes first."""
    classes = max(len(items.class_names), int(torch.cat([items.train_labels, items.test_labels]).max()) + 1)
    train_C, test_C = (labels.bincount(minlength=classes) for labels in (items.train_labels, items.test_labels))
    names = [*items.class_names, *map(str, range(len(items.class_names), classes))]
    order = train_C.argsort(descending=True, stable=True).tolist()
    rows = [(names[label], f"{train_C[label]:,}", f"{test_C[label]:,}") for label in order]
    more = f" (the {MOST_CLASSES} largest of {classes:,} classes)" if classes > MOST_CLASSES else ""
    return Table(f"Items of the probes{more}", ("class", "train", "test"), tuple(rows[:MOST_CLASSES]))


RANK = (
    "Rank is the effective rank of the features of the train items (RankMe): how many directions they really use, "
    "at most the encoder's width."
)

INTERVALS = (
    "Intervals are percentile bootstraps over the test items; differences are paired, item by item. They speak of the "
    "choice of test items only: another training seed adds spread that they do not show."
)


def _show(metrics: dict[str, float], baseline: str) -> None:
    """The tables and the verdict on the console."""
    width = None if sys.stdout.isatty() else 120  # in a pipe or a log no cell is cut off
    console = Console(highlight=False, width=width)
    console.print(accuracy_table(metrics, baseline).to_rich())
    if has_accuracies(metrics):
        console.print(difference_table(metrics, baseline).to_rich())
    if (table := further_table(metrics)) is not None:
        console.print(table.to_rich())
    console.print(verdict(metrics, baseline))
