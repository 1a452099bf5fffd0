"""A fine-tuned model on held-out items: predictions, metrics with intervals, a report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from torch.nn.utils.rnn import pad_sequence

from d2v.config import FinetuneConfig, TrainConfig, TranscriptionTask, first_names, parse
from d2v.data.disk import one_at_a_time
from d2v.data.prepared import log_ingest
from d2v.errors import CheckpointError, DataError
from d2v.evaluation.flags import FLAGS, Flag, loss_falling, read_flags, sentence, tags_of, write_flags
from d2v.evaluation.metrics_file import METRICS, measured_before, spelled, write_measured
from d2v.finetuning import metrics
from d2v.finetuning.classes import (
    class_results,
    class_table,
    majority_share,
    train_counts,
    write_class_results,
)
from d2v.finetuning.data import labelled_splits
from d2v.finetuning.decoding.language import Heard, search_decoder
from d2v.finetuning.diagnosis import (
    badness,
    calibration_of,
    confusion,
    confusion_table,
    drawn_classes,
    gallery,
    prediction_table,
    worst_errors,
)
from d2v.finetuning.model import HEAD, MODEL, FinetunedModel, load_finetuned
from d2v.finetuning.predictions import Answers, answers_of, outputs_of
from d2v.finetuning.splits import Chosen, choose, fold_of
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.transcription import Transcription
from d2v.finetuning.thresholds import above, thresholds_of
from d2v.finetuning.usefulness import below_majority, few_classes, like_random
from d2v.modalities.base import LabelledSplit, Modality, PreparedData
from d2v.model_folder import ENCODER
from d2v.progress import log
from d2v.reporting.figures import draw_confusion, draw_curves, draw_reliability, finetuning_panels
from d2v.reporting.page_parts import PagePart, Warnings
from d2v.reporting.report import Heading, Part, Plot, write_report
from d2v.reporting.tables import Table
from d2v.tracker import Tracker
from d2v.training import resume
from d2v.training.history import History

PREDICTIONS = "predictions.parquet"
BESIDE = {
    Classification: ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"),
    Multilabel: ("mean_average_precision", "auroc"),
}
"""What is measured of classes beside the metrics that a recipe names."""
LOSSES = ("val/loss", "train/task_loss")
MOST_SCORES = 4_000_000
"""Items times classes up to which metrics of all scores are measured without being asked for: their bootstrap sorts
every class."""


@one_at_a_time
def evaluate_finetuned(
    modality: Modality,
    config: FinetuneConfig,
    prepared: Path,
    run_folder: Path,
    out: Path,
    tracker: Tracker,
    fold: str | None = None,
    folds: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Measure a fine-tuned model on the test split, and leave `metrics.json`, `predictions.parquet`, `flags.json` and a
    report.

    Args:
        modality: what the data is.
        config: the finetune block.
        prepared: folder that prepare left.
        run_folder: folder that fine-tuning left, with `model/` and `result.json`.
        out: report folder.
        tracker: gets the metrics at the last update, and the files.
        fold: of `finetune.folds`, whose items are tested on; None for the test split.
        folds: means over folds, which the report is to show beside the metrics.

    Returns:
        `eval/<metric>`, `eval/<metric>_low` and `_high` (a 95 % bootstrap interval over items), `eval/items`; where an
        item has one class, also `eval/majority`, the accuracy of always naming the largest one. Of classes
        `eval/calibration_error`, and of all tasks the gain over an answer that never looks at the item.

    Raises:
        CheckpointError: there is no finished run in `run_folder`.
        DataError: the test split has nothing that the task needs.
    """
    if resume.finished_result(run_folder) is None:
        again = f"kedro run --pipeline=finetune_{modality.name}"
        raise CheckpointError(
            f"{run_folder} holds no finished fine-tuning: finish it with {again}, then evaluate again"
        )
    model = load_finetuned(run_folder / MODEL)
    data = modality.open(prepared)
    log_ingest(prepared, "evaluate")
    identity: dict[str, Any] = {"weights": _digest(run_folder / MODEL), "data": data.fingerprint}
    identity |= {"metrics": list(model.task.metrics)}
    task = first_names(type(config.task), config.task.model_dump(mode="json"))
    identity |= {"resamples": config.bootstrap_resamples, "task": task, **({"fold": fold} if fold else {})}
    identity |= {"folds": dict(folds)} if folds else {}
    measured = measured_before(out, identity, (PREDICTIONS, FLAGS))
    if measured is None:
        recipe: TrainConfig = parse(modality.train_config, model.about["recipe"], at="recipe")
        splits = labelled_splits(modality, data, config, recipe, model.about)
        if fold is not None and config.folds is not None:
            splits = fold_of(splits, config.folds, fold, data)
        history = run_folder / "history.csv"
        measured = _Evaluation(model, modality, recipe, data, splits, config, history, out).write(folds or {})
        write_measured(out, measured, identity)
    else:
        log(f"evaluate: {out} already belongs to this model and these settings")
    Console(highlight=False).print(_table(measured, modality.name).to_rich())
    flags = read_flags(out)
    for flag in flags:
        log(f"evaluate: {sentence(flag)}")
    tracker.set_tags(tags_of(flags))
    tracker.log_metrics(measured, config.max_updates)
    for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "finetune")
    return measured


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (ENCODER, HEAD):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


@dataclass
class _Evaluation:
    """The phases of a new evaluation."""

    model: FinetunedModel
    modality: Modality
    recipe: TrainConfig
    data: PreparedData
    splits: Mapping[str, LabelledSplit]
    config: FinetuneConfig
    history: Path
    out: Path
    measured: dict[str, float] = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)

    @property
    def split(self) -> LabelledSplit:
        """What is measured on."""
        return self.splits["test"]

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of it that have what the task needs. Raises DataError if there are none."""
        rows = self.model.task.usable(self.split)
        if not len(rows):
            raise DataError(
                f"No test item has what the task {self.config.task.name} needs, so there is nothing to measure on: "
                "raise ingest.test_fraction, or give a source with a labelled test split"
            )
        return rows

    @cached_property
    def references(self) -> Any:
        """The right answers."""
        return self.model.task.references(self.split, self.rows)

    @cached_property
    def chosen(self) -> Chosen:
        """The items that the model was trained on."""
        return choose(self.splits, self.model.task, self.config, self.data)

    def write(self, folds: Mapping[str, float]) -> dict[str, float]:
        """Measure, judge, draw, write."""
        config, rows = self.config, self.rows
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / METRICS).unlink(missing_ok=True)
        tasks, further = _tasks(self.model, self.splits, self.chosen, config, self.out)
        answers = answers_of(self.model, self.split, rows, config.evaluation_batch_size, [*tasks.values()])
        found = dict(zip(tasks, answers, strict=True))
        self.measured |= further
        self._measure(tasks, found)
        self.measured |= {"eval/items": len(rows), **folds}
        of_classes, said_NC = self._classes(found[""])
        self._judge(found[""])
        table = prediction_table(self.model.task, self.split, rows, found, self.references, said_NC, self.data)
        table.to_parquet(self.out / PREDICTIONS)
        parts: list[Part | PagePart] = [*self._first_words(), _table(self.measured, self.modality.name)]
        parts += [*_notes(self.measured), _INTERVALS]
        if folds:
            parts += [Heading("Folds"), fold_table(folds), FOLDS]
        write_report(
            self.out, "A fine-tuned model", [*parts, *of_classes, *self._curves(), *self._errors(found[""], table)]
        )
        write_flags(self.flags, self.out)
        return self.measured

    def _measure(self, tasks: Mapping[str, Task], found: Mapping[str, Answers]) -> None:
        """All metrics with their intervals."""
        for suffix, task in tasks.items():
            for name in _metrics_of(task, found[suffix]):
                given, resamples = found[suffix].for_metric(name), self.config.bootstrap_resamples
                interval = metrics.interval(name, given, self.references, resamples)
                self.measured |= spelled(f"eval/{name}{suffix}", interval)

    def _classes(self, answers: Answers) -> tuple[list[Part], np.ndarray | None]:
        """The report's parts about classes, and of several labels an item those that the model says (N, C)."""
        task, predictions, resamples = self.model.task, answers.predictions, self.config.bootstrap_resamples
        if not isinstance(task, Classification | Multilabel) or answers.scores is None:
            return [], None
        train_items_C = train_counts(task, self.chosen.train, self.chosen.rows, len(task.class_names))
        if isinstance(task, Multilabel):
            predictions = above(predictions, thresholds_of(self.model, self.chosen, self.config))
            interval = metrics.interval("macro_f1", predictions, self.references, resamples)
            self.measured |= spelled("eval/macro_f1", interval)
        else:
            self.measured["eval/majority"] = majority_share(train_items_C, self.references)
        results = class_results(task.class_names, train_items_C, predictions, self.references, resamples)
        write_class_results(results, self.out)
        if flag := few_classes(results):
            self.flags.append(flag)
        parts: list[Part] = [Heading("Classes"), *_notes_on_classes(self.measured), class_table(results)]
        if isinstance(task, Multilabel):
            return [*parts, *self._calibration(answers)], predictions
        return [*parts, *self._confusions(predictions), *self._calibration(answers)], None

    def _confusions(self, predictions: np.ndarray) -> list[Part]:
        names = self.model.task.class_names  # type: ignore[attr-defined]
        counts_CC = confusion(predictions, self.references, len(names))
        shown = drawn_classes(counts_CC)
        path = draw_confusion(
            counts_CC[np.ix_(shown, shown)], [names[one] for one in shown], self.out / "confusion.png"
        )
        some = "" if len(shown) == len(names) else f" Of {len(names):,} classes, the {len(shown)} with most errors."
        plot = Plot(path, f"Test items by true class and named class; the shade is the share of the true class.{some}")
        return [Heading("Confusions"), plot, confusion_table(counts_CC, names)]

    def _calibration(self, answers: Answers) -> list[Part]:
        assert answers.scores is not None
        found = calibration_of(self.model.task, answers.scores, np.asarray(self.references))
        self.measured["eval/calibration_error"] = found.error
        path = draw_reliability(found.bins, self.out / "reliability.png")
        words = (
            f"The expected calibration error is {found.error:.3f}: how far confidence and the share that is right lie "
            "apart, on average over all answers."
        )
        return [Heading("Calibration"), Plot(path, words)]

    def _judge(self, answers: Answers) -> None:
        """Flags, and the gains that they are taken from."""
        task, resamples = self.model.task, self.config.bootstrap_resamples
        flag, gain = below_majority(task, self.chosen, answers, self.references, resamples)
        self.measured |= spelled(f"eval/{task.metrics[0]}_gain_over_blind", gain)
        flags = [flag]
        if isinstance(task, Classification):
            flag, gain = like_random(
                self.modality, self.recipe, self.config, self.chosen, self.split, self.rows, answers.predictions
            )
            self.measured |= spelled("eval/accuracy_gain_over_random", gain)
            flags.append(flag)
        if self.history.is_file():
            flags.append(loss_falling(pd.DataFrame(History.read(self.history).rows), LOSSES))
        self.flags += [flag for flag in flags if flag is not None]

    def _first_words(self) -> list[Part | PagePart]:
        """What the flags say, before any number."""
        return [Warnings(tuple(sentence(flag) for flag in self.flags))] if self.flags else []

    def _curves(self) -> list[Part]:
        """Loss of training and validation, learning rate, validated metrics."""
        if not self.history.is_file():
            return []
        history = pd.DataFrame(History.read(self.history).rows)
        path = draw_curves(history, self.out / "curves.png", finetuning_panels(history))
        words = "The loss of training is that of augmented items, with dropout and masks where the recipe has them."
        return [Heading("Training"), Plot(path, words)]

    def _errors(self, answers: Answers, table: pd.DataFrame) -> list[Part | PagePart]:
        task = self.model.task
        errors, worst = worst_errors(table, badness(task, answers, self.references), task)
        if errors is None:
            return []
        shown = gallery(self.modality, self.data, self.split, self.rows, table, worst, task)
        return [Heading("Worst errors"), *([shown] if shown else []), errors]


def _metrics_of(task: Task, answers: Answers) -> list[str]:
    """Those of the recipe, first the one that decides, and what is measured beside them."""
    names = dict.fromkeys((*task.metrics, *next((more for kind, more in BESIDE.items() if isinstance(task, kind)), ())))
    if answers.scores is not None and answers.scores.size > MOST_SCORES:
        return [name for name in names if name in task.metrics or not metrics.metric(name).of_scores]
    return list(names)


# ------------------------------------------------------------------------------------- transcription


def _tasks(
    model: FinetunedModel, splits: Mapping[str, LabelledSplit], chosen: Chosen, config: FinetuneConfig, out: Path
) -> tuple[dict[str, Task], dict[str, float]]:
    """The task by the suffix of its metrics, and further metrics. Without a suffix transcripts are those of the best
    path, with `_lm` those of a search with a language model if the recipe asks for one."""
    task = model.task
    if not isinstance(task, Transcription) or not isinstance(config.task, TranscriptionTask):
        return {"": task}, {}
    test = splits["test"]
    measured = {"eval/too_short_items": float(task.too_short(test, task.usable(test)))}
    if config.task.decoding.decoder == "greedy":
        return {"": task}, measured
    transcripts = task.references(chosen.train, chosen.rows)
    dev = _heard(model, task, splits["dev"], config.evaluation_batch_size) if "dev" in splits else None
    decoder, settings = search_decoder(config.task.decoding, task.vocabulary, transcripts, out, dev)
    measured |= {"eval/lm_weight": settings.lm_weight, "eval/word_bonus": settings.word_bonus}
    return {"": task, "_lm": Transcription(config.task, task.vocabulary, decoder)}, measured


def _heard(model: FinetunedModel, task: Transcription, split: LabelledSplit, batch_size: int) -> Heard | None:
    """Log probabilities of the recordings with a transcript, side by side; None if there are none."""
    rows = task.usable(split)
    rows_TC = [
        log_probs_TC[:length]
        for outputs, lengths in outputs_of(model, split, rows, batch_size)
        for log_probs_TC, length in zip(
            outputs.log_softmax(dim=-1).cpu(),
            [None] * len(outputs) if lengths is None else lengths.tolist(),
            strict=True,
        )
    ]
    if not rows_TC:
        return None
    lengths = [len(log_probs_TC) for log_probs_TC in rows_TC]
    return Heard(pad_sequence(rows_TC, batch_first=True), lengths, task.references(split, rows))


# -------------------------------------------------------------------------------------------- report


def fold_table(folds: Mapping[str, float]) -> Table:
    """A row a metric: mean, standard deviation, and every fold."""
    metrics_of = [key.removeprefix("folds/").removesuffix("_mean") for key in folds if key.endswith("_mean")]
    names = [key.rpartition("/")[2] for key in folds if key.startswith(f"folds/{metrics_of[0]}/")]
    rows = tuple(
        (
            name,
            f"{folds[f'folds/{name}_mean']:.3f}",
            f"{folds[f'folds/{name}_std']:.3f}",
            *(f"{folds[f'folds/{name}/{fold}']:.3f}" for fold in names),
        )
        for name in metrics_of
    )
    return Table(f"{len(names)} folds", ("metric", "mean", "std over folds", *names), rows)


FOLDS = (
    "Each fold was tested on a model that was fine-tuned on the items of all other folds. The encoder was pretrained "
    "once, without labels, on the train split of the source, whatever the folds."
)


def _table(measured: Mapping[str, float], name: str) -> Table:
    """The metrics with their intervals."""
    known = [key.removeprefix("eval/") for key in measured if f"{key}_low" in measured]
    rows = tuple(
        (
            key,
            f"{measured[f'eval/{key}']:.3f}",
            f"{measured[f'eval/{key}_low']:.3f} to {measured[f'eval/{key}_high']:.3f}",
        )
        for key in known
    )
    return Table(f"{name}: {int(measured['eval/items']):,} test items", ("metric", "value", "95% interval"), rows)


def _notes_on_classes(measured: Mapping[str, float]) -> list[str]:
    """What the table of classes is read against."""
    if "eval/majority" not in measured:
        return []
    return [
        f"Always naming the largest class of the training items is right for {100 * measured['eval/majority']:.1f}% of "
        "the test items."
    ]


def _notes(measured: Mapping[str, float]) -> list[str]:
    """Notes on transcripts for the readers of the table."""
    notes = []
    if "eval/lm_weight" in measured:
        notes.append(
            "Metrics that end with _lm are of a beam search with a language model (lm_weight "
            f"{measured['eval/lm_weight']:g}, word_bonus {measured['eval/word_bonus']:g}), the others of the best path."
        )
    if measured.get("eval/too_short_items"):
        short = int(measured["eval/too_short_items"])
        notes.append(
            f"{short:,} recordings have fewer frames than their transcripts need: those cannot come out right."
        )
    return notes


_INTERVALS = "Intervals are percentile bootstraps over the test items. They speak of the choice of test items only."
