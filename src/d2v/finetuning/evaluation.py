"""A fine-tuned model on the items that no training has seen: predictions, figures with intervals, a report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from d2v.config import FinetuneConfig, TrainConfig
from d2v.data.disk import write_json
from d2v.errors import CheckpointError, DataError
from d2v.evaluation.statistics import Interval
from d2v.finetuning import metrics
from d2v.finetuning.data import labelled_parts
from d2v.finetuning.model import HEAD, TunedModel, load_tuned
from d2v.finetuning.run import MODEL
from d2v.interchange.folder import ENCODER
from d2v.modalities.base import LabelledPart, Modality
from d2v.progress import Progress, say
from d2v.reporting.report import write_report
from d2v.reporting.tables import Table
from d2v.training import resume
from d2v.training.launch import local_place
from d2v.training.tracker import Tracker

METRICS, PREDICTIONS = "metrics.json", "predictions.parquet"
BELONGS_TO = "belongs_to"


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
        raise CheckpointError(f"{run_folder} holds no finished fine-tuning: finish it with {again}, then evaluate again")
    model = load_tuned(run_folder / MODEL)
    data = modality.open(prepared)
    identity = {"weights": _digest(run_folder / MODEL), "data": data.fingerprint, "metrics": list(model.task.metrics)}
    identity |= {"resamples": config.bootstrap_resamples, "task": config.task.model_dump(mode="json")}
    figures = _measured_before(out, identity)
    if figures is None:
        recipe: Any = _recipe_of(model, modality)
        part = labelled_parts(modality, data, config, recipe)["test"]
        figures = _measure(model, part, config, out)
        write_json(out / METRICS, {**figures, BELONGS_TO: identity})
    else:
        say(f"evaluate: {out} already belongs to this model and these settings")
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


def _measured_before(out: Path, identity: Mapping[str, Any]) -> dict[str, float] | None:
    """The figures in `out` if they are this model's; a damaged file counts as none."""
    try:
        content = json.loads((out / METRICS).read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.pop(BELONGS_TO, None) != identity or not (out / PREDICTIONS).is_file():
        return None
    return content


def _measure(model: TunedModel, part: LabelledPart, config: FinetuneConfig, out: Path) -> dict[str, float]:
    rows = model.task.usable(part)
    if not len(rows):
        raise DataError(
            f"No test item has what the task {config.task.name} needs, so there is nothing to measure on: raise "
            "ingest.test_fraction, or give a source with a labelled test part"
        )
    predictions = predict(model, part, rows, config.evaluation_batch_size)
    references = model.task.references(part, rows)
    out.mkdir(parents=True, exist_ok=True)
    (out / METRICS).unlink(missing_ok=True)
    _write_predictions(out / PREDICTIONS, rows, predictions, references)
    figures: dict[str, float] = {}
    for name in model.task.metrics:
        interval = metrics.interval(name, predictions, references, config.bootstrap_resamples)
        figures |= _named(f"eval/{name}", interval)
    figures["eval/items"] = len(rows)
    write_report(out, "A fine-tuned model", [_table(figures, str(model.about["modality"])), _INTERVALS])
    return figures


def predict(model: TunedModel, part: LabelledPart, rows: np.ndarray, batch_size: int) -> Any:
    """One prediction a row, as metrics take them."""
    model = model.to(local_place().device)
    parts = []
    with Progress("evaluate", len(rows)) as progress:
        for begin in range(0, len(rows), batch_size):
            some = rows[begin : begin + batch_size]
            parts.append(model.task.predict(*model.outputs(part.inputs(some))))
            progress.advance(len(some))
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [one for some in parts for one in some]


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _write_predictions(file: Path, rows: np.ndarray, predictions: Any, references: Any) -> None:
    table = pd.DataFrame({"row": rows, "predicted": list(predictions), "right": list(references)})
    table.to_parquet(file)


def _table(figures: Mapping[str, float], name: str) -> Table:
    """The figures with their intervals."""
    known = [key.removeprefix("eval/") for key in figures if f"{key}_low" in figures]
    rows = tuple(
        (key, f"{figures[f'eval/{key}']:.3f}", f"{figures[f'eval/{key}_low']:.3f} to {figures[f'eval/{key}_high']:.3f}")
        for key in known
    )
    return Table(f"{name}: {int(figures['eval/items']):,} test items", ("figure", "value", "95% interval"), rows)


_INTERVALS = "Intervals are percentile bootstraps over the test items. They speak of the choice of test items only."
