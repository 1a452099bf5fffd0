"""A fine-tuned model on the items that no training has seen: predictions, figures with intervals, a report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from d2v.config import FinetuneConfig, TrainConfig, TranscriptionTask, first_names
from d2v.distributed.environment import own_device
from d2v.errors import CheckpointError, DataError
from d2v.evaluation.metrics_file import METRICS, measured_before, write_measured
from d2v.finetuning import metrics
from d2v.finetuning.data import chosen_rows, labelled_parts
from d2v.finetuning.decoding.language import Heard, search_decoder
from d2v.finetuning.finetune import MODEL
from d2v.finetuning.model import HEAD, TunedModel, load_tuned
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.transcription import Transcription
from d2v.modalities.base import LabelledPart, Modality
from d2v.model_folder import ENCODER
from d2v.progress import Progress, log
from d2v.reporting.report import write_report
from d2v.reporting.tables import Table
from d2v.statistics import Interval
from d2v.tracker import Tracker
from d2v.training import resume

PREDICTIONS = "predictions.parquet"


def evaluate_tuned(
    modality: Modality, config: FinetuneConfig, prepared: Path, run_folder: Path, out: Path, tracker: Tracker
) -> dict[str, float]:
    """Measure a fine-tuned model on the test part, and leave `metrics.json`, `predictions.parquet` and a report.

    Args:
        modality: what the data is.
        config: the finetune block.
        prepared: folder that prepare left.
        run_folder: folder that fine-tuning left, with `model/` and `result.json`.
        out: report folder.
        tracker: gets the figures at the last update, and the files.

    Returns:
        `eval/<metric>`, `eval/<metric>_low` and `_high` (a 95 % bootstrap interval over items), `eval/items`.

    Raises:
        CheckpointError: there is no finished run in `run_folder`.
        DataError: the test part has nothing that the task needs.
    """
    if resume.finished_result(run_folder) is None:
        again = f"kedro run --pipeline=finetune_{modality.name}"
        raise CheckpointError(
            f"{run_folder} holds no finished fine-tuning: finish it with {again}, then evaluate again"
        )
    model = load_tuned(run_folder / MODEL)
    data = modality.open(prepared)
    identity = {"weights": _digest(run_folder / MODEL), "data": data.fingerprint, "metrics": list(model.task.metrics)}
    task = first_names(type(config.task), config.task.model_dump(mode="json"))
    identity |= {"resamples": config.bootstrap_resamples, "task": task}
    figures = measured_before(out, identity, (PREDICTIONS,))
    if figures is None:
        recipe: Any = _recipe_of(model, modality)
        figures = _measure(model, labelled_parts(modality, data, config, recipe, model.about), config, out)
        write_measured(out, figures, identity)
    else:
        log(f"evaluate: {out} already belongs to this model and these settings")
    Console(highlight=False).print(_table(figures, modality.name).to_rich())
    tracker.log_metrics(figures, config.max_updates)
    for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "finetune")
    return figures


def _recipe_of(model: TunedModel, modality: Modality) -> TrainConfig:
    from d2v.config import parse

    recipe: TrainConfig = parse(modality.train_config, model.about["recipe"], at="recipe")
    return recipe


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (ENCODER, HEAD):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _measure(
    model: TunedModel, parts: Mapping[str, LabelledPart], config: FinetuneConfig, out: Path
) -> dict[str, float]:
    part = parts["test"]
    rows = model.task.usable(part)
    if not len(rows):
        raise DataError(
            f"No test item has what the task {config.task.name} needs, so there is nothing to measure on: raise "
            "ingest.test_fraction, or give a source with a labelled test part"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS).unlink(missing_ok=True)
    ways, figures = _ways(model, parts, config, out)
    predictions = dict(
        zip(ways, _predictions(model, part, rows, config.evaluation_batch_size, [*ways.values()]), strict=True)
    )
    references = model.task.references(part, rows)
    _write_predictions(out / PREDICTIONS, rows, predictions, references)
    for suffix, task in ways.items():
        for name in task.metrics:
            interval = metrics.interval(name, predictions[suffix], references, config.bootstrap_resamples)
            figures |= _named(f"eval/{name}{suffix}", interval)
    figures["eval/items"] = len(rows)
    write_report(
        out, "A fine-tuned model", [_table(figures, str(model.about["modality"])), *_notes(figures), _INTERVALS]
    )
    return figures


def predict(model: TunedModel, part: LabelledPart, rows: np.ndarray, batch_size: int) -> Any:
    """One prediction a row, as metrics take them."""
    (predictions,) = _predictions(model, part, rows, batch_size, [model.task])
    return predictions


def _predictions(
    model: TunedModel, part: LabelledPart, rows: np.ndarray, batch_size: int, tasks: Sequence[Task]
) -> list[Any]:
    """The predictions of each task, all from the same outputs."""
    found: list[list[Any]] = [[] for _ in tasks]
    with Progress("evaluate", len(rows)) as progress:
        for outputs, lengths in _outputs(model, part, rows, batch_size):
            for task, predictions in zip(tasks, found, strict=True):
                predictions.append(task.predict(outputs, lengths))
            progress.advance(len(outputs))
    return [_joined(predictions) for predictions in found]


def _outputs(
    model: TunedModel, part: LabelledPart, rows: np.ndarray, batch_size: int
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """The head's outputs of some rows and their lengths, batch by batch."""
    model = model.to(own_device())
    for begin in range(0, len(rows), batch_size):
        yield model.outputs(part.inputs(rows[begin : begin + batch_size]))


def _joined(predictions: list[Any]) -> Any:
    if isinstance(predictions[0], np.ndarray):
        return np.concatenate(predictions)
    return [one for some in predictions for one in some]


# ------------------------------------------------------------------------------------- transcription


def _ways(
    model: TunedModel, parts: Mapping[str, LabelledPart], config: FinetuneConfig, out: Path
) -> tuple[dict[str, Task], dict[str, float]]:
    """How predictions are made, by the suffix of their figures, and figures that say more of it. Transcripts are those
    of the best path, and with the suffix `_lm` those of a search with a language model if the recipe asks for one."""
    task = model.task
    if not isinstance(task, Transcription) or not isinstance(config.task, TranscriptionTask):
        return {"": task}, {}
    test, train = parts["test"], parts["train"]
    figures = {"eval/too_short_items": float(task.too_short(test, task.usable(test)))}
    if config.task.decoding.decoder == "greedy":
        return {"": task}, figures
    transcripts = task.references(train, chosen_rows(train, task, config))
    dev = _heard(model, task, parts["dev"], config.evaluation_batch_size) if "dev" in parts else None
    decoder, settings = search_decoder(config.task.decoding, task.alphabet, transcripts, out, dev)
    figures |= {"eval/lm_weight": settings.lm_weight, "eval/word_bonus": settings.word_bonus}
    return {"": task, "_lm": Transcription(config.task, task.alphabet, decoder)}, figures


def _heard(model: TunedModel, task: Transcription, part: LabelledPart, batch_size: int) -> Heard | None:
    """Log probabilities of the recordings with a transcript, side by side; None if there are none."""
    rows = task.usable(part)
    rows_TC = [
        log_probs_TC[:length]
        for outputs, lengths in _outputs(model, part, rows, batch_size)
        for log_probs_TC, length in zip(
            outputs.log_softmax(dim=-1).cpu(),
            [None] * len(outputs) if lengths is None else lengths.tolist(),
            strict=True,
        )
    ]
    if not rows_TC:
        return None
    lengths = [len(log_probs_TC) for log_probs_TC in rows_TC]
    return Heard(pad_sequence(rows_TC, batch_first=True), lengths, task.references(part, rows))


# -------------------------------------------------------------------------------------------- report


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _write_predictions(file: Path, rows: np.ndarray, predictions: Mapping[str, Any], references: Any) -> None:
    columns = {f"predicted{suffix}": list(values) for suffix, values in predictions.items()}
    pd.DataFrame({"row": rows, **columns, "right": list(references)}).to_parquet(file)


def _table(figures: Mapping[str, float], name: str) -> Table:
    """The figures with their intervals."""
    known = [key.removeprefix("eval/") for key in figures if f"{key}_low" in figures]
    rows = tuple(
        (key, f"{figures[f'eval/{key}']:.3f}", f"{figures[f'eval/{key}_low']:.3f} to {figures[f'eval/{key}_high']:.3f}")
        for key in known
    )
    return Table(f"{name}: {int(figures['eval/items']):,} test items", ("figure", "value", "95% interval"), rows)


def _notes(figures: Mapping[str, float]) -> list[str]:
    """What must be known of transcripts to read the table."""
    notes = []
    if "eval/lm_weight" in figures:
        notes.append(
            "Figures that end with _lm are of a beam search with a language model (lm_weight "
            f"{figures['eval/lm_weight']:g}, word_bonus {figures['eval/word_bonus']:g}), the others of the best path."
        )
    if figures.get("eval/too_short_items"):
        short = int(figures["eval/too_short_items"])
        notes.append(
            f"{short:,} recordings have fewer frames than their transcripts need: those cannot come out right."
        )
    return notes


_INTERVALS = "Intervals are percentile bootstraps over the test items. They speak of the choice of test items only."
