"""A fine-tuned model on held-out items: predictions, metrics with intervals, a report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from torch.nn.utils.rnn import pad_sequence

from d2v.config import FinetuneConfig, MultilabelTask, TrainConfig, TranscriptionTask, first_names, parse
from d2v.data.disk import one_at_a_time
from d2v.data.prepared import log_ingest
from d2v.errors import CheckpointError, DataError
from d2v.evaluation.metrics_file import METRICS, measured_before, spelled, write_measured
from d2v.finetuning import metrics
from d2v.finetuning.answers import Answers, answers_of, outputs_of, predict
from d2v.finetuning.classes import (
    ClassResult,
    above,
    best_thresholds,
    class_results,
    class_table,
    majority_share,
    train_counts,
    write_class_results,
)
from d2v.finetuning.data import labelled_splits
from d2v.finetuning.decoding.language import Heard, search_decoder
from d2v.finetuning.model import HEAD, MODEL, FinetunedModel, load_finetuned
from d2v.finetuning.splits import Chosen, choose, fold_of
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.transcription import Transcription
from d2v.modalities.base import LabelledSplit, Modality
from d2v.model_folder import ENCODER
from d2v.progress import log
from d2v.reporting.report import Heading, Part, write_report
from d2v.reporting.tables import Table
from d2v.tracker import Tracker
from d2v.training import resume

PREDICTIONS = "predictions.parquet"
BESIDE = {
    Classification: ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "average_precision"),
    Multilabel: ("mean_average_precision", "auroc"),
}
"""What is measured of classes beside the metrics that a recipe names."""
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
    """Measure a fine-tuned model on the test split, and leave `metrics.json`, `predictions.parquet` and a report.

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
        item has one class, also `eval/majority`, the accuracy of always naming the largest one.

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
    measured = measured_before(out, identity, (PREDICTIONS,))
    if measured is None:
        recipe: TrainConfig = parse(modality.train_config, model.about["recipe"], at="recipe")
        splits = labelled_splits(modality, data, config, recipe, model.about)
        if fold is not None and config.folds is not None:
            splits = fold_of(splits, config.folds, fold, data)
        chosen = choose(splits, model.task, config, data)
        measured = _measure(model, splits, chosen, config, out, folds or {})
        write_measured(out, measured, identity)
    else:
        log(f"evaluate: {out} already belongs to this model and these settings")
    Console(highlight=False).print(_table(measured, modality.name).to_rich())
    tracker.log_metrics(measured, config.max_updates)
    for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "finetune")
    return measured


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (ENCODER, HEAD):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _measure(
    model: FinetunedModel,
    splits: Mapping[str, LabelledSplit],
    chosen: Chosen,
    config: FinetuneConfig,
    out: Path,
    folds: Mapping[str, float],
) -> dict[str, float]:
    split = splits["test"]
    rows = model.task.usable(split)
    if not len(rows):
        raise DataError(
            f"No test item has what the task {config.task.name} needs, so there is nothing to measure on: raise "
            "ingest.test_fraction, or give a source with a labelled test split"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS).unlink(missing_ok=True)
    tasks, measured = _tasks(model, splits, chosen, config, out)
    found = dict(
        zip(tasks, answers_of(model, split, rows, config.evaluation_batch_size, [*tasks.values()]), strict=True)
    )
    references = model.task.references(split, rows)
    columns = {f"predicted{suffix}": list(answers.predictions) for suffix, answers in found.items()}
    scores = {} if found[""].scores is None else {"scores": list(found[""].scores)}
    pd.DataFrame({"row": rows, **columns, "right": list(references), **scores}).to_parquet(out / PREDICTIONS)
    for suffix, task in tasks.items():
        for name in _metrics_of(task, found[suffix]):
            interval = metrics.interval(name, found[suffix].for_metric(name), references, config.bootstrap_resamples)
            measured |= spelled(f"eval/{name}{suffix}", interval)
    measured["eval/items"] = len(rows)
    measured |= folds
    parts: list[Part] = [*_notes(measured), _INTERVALS]
    if folds:
        parts += [Heading("Folds"), fold_table(folds), FOLDS]
    if isinstance(model.task, Classification | Multilabel):
        results = _class_by_class(model, chosen, config, found[""], np.asarray(references), measured)
        write_class_results(results, out)
        parts += [Heading("Classes"), *_notes_on_classes(measured), class_table(results)]
    write_report(out, "A fine-tuned model", [_table(measured, str(model.about["modality"])), *parts])
    return measured


def _metrics_of(task: Task, answers: Answers) -> list[str]:
    """Those of the recipe, first the one that decides, and what is measured beside them."""
    names = dict.fromkeys((*task.metrics, *next((more for kind, more in BESIDE.items() if isinstance(task, kind)), ())))
    if answers.scores is not None and answers.scores.size > MOST_SCORES:
        return [name for name in names if name in task.metrics or not metrics.metric(name).of_scores]
    return list(names)


def _class_by_class(
    model: FinetunedModel,
    chosen: Chosen,
    config: FinetuneConfig,
    answers: Answers,
    references: np.ndarray,
    measured: dict[str, float],
) -> list[ClassResult]:
    """The result of every class; adds the largest class's share, or of several labels the F1 at their thresholds."""
    task, predictions = model.task, answers.predictions
    assert isinstance(task, Classification | Multilabel)
    train_items_C = train_counts(task, chosen.train, chosen.rows, len(task.class_names))
    if isinstance(task, Multilabel):
        predictions = above(predictions, _thresholds(model, chosen, config))
        interval = metrics.interval("macro_f1", predictions, references, config.bootstrap_resamples)
        measured |= spelled("eval/macro_f1", interval)
    else:
        measured["eval/majority"] = majority_share(train_items_C, references)
    return class_results(task.class_names, train_items_C, predictions, references, config.bootstrap_resamples)


def _thresholds(model: FinetunedModel, chosen: Chosen, config: FinetuneConfig) -> np.ndarray:
    """Least logits (C,) of the classes that an item is said to have."""
    split, rows = chosen.train, chosen.rows
    if chosen.val is not None and chosen.val_rows is not None:
        split, rows = chosen.val, chosen.val_rows
    labels_NC = np.asarray(model.task.references(split, rows))
    if not isinstance(config.task, MultilabelTask) or config.task.thresholds == "half":
        return np.zeros(labels_NC.shape[1])
    return best_thresholds(predict(model, split, rows, config.evaluation_batch_size), labels_NC)


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
