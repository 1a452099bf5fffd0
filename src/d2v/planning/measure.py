"""What a recipe costs on this machine: a few real updates on a sample of the data.

They run in a process of their own, `python -m d2v.planning.measure <folder>`, so that memory is what the training alone
takes, and nothing of it stays.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from d2v.config import changed, parse
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError, known_error
from d2v.modalities import registry
from d2v.modalities.base import Modality

UPDATES, FIRST_ITEMS = 8, 16
REQUEST, RESULT = "request.pickle", "result.json"


@dataclass(frozen=True)
class Costs:
    """What was measured on a sample of the data.

    Attributes:
        update_s: seconds of an update of pretraining.
        epochs_per_update: of the sample.
        tune_item_s: seconds that fine-tuning takes for an item.
        ingest_item_s, prepare_item_s: seconds of an item in these steps.
        peak_bytes: the most memory that the training held.
        parameters: of the encoder.
    """

    update_s: float
    epochs_per_update: float
    tune_item_s: float
    ingest_item_s: float
    prepare_item_s: float
    peak_bytes: float
    parameters: int


def measured(modality: str, recipe: Mapping[str, Any], items: Sequence[Item], folder: Path) -> Costs:
    """`measure` in a process of its own.

    Args:
        modality: name of the modality.
        recipe: plain values of its recipe.
        items: a sample of the data.
        folder: empty, for the process's files.

    Raises:
        DataError: the recipe does not train on these items; the message is the training's own.
    """
    (folder / REQUEST).write_bytes(pickle.dumps((modality, recipe, list(items))))
    done = subprocess.run(
        [sys.executable, "-m", "d2v.planning.measure", str(folder)], capture_output=True, text=True, check=False
    )
    result = folder / RESULT
    if not result.is_file():
        raise DataError(f"a few updates on a sample failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return Costs(**json.loads(result.read_text()))


def measure(modality_name: str, recipe: Mapping[str, Any], items: Sequence[Item], folder: Path) -> Costs:
    """Ingest and prepare a sample, and train on it for a few updates, by the project's own steps.

    Raises:
        D2vError: as the steps do.
    """
    from d2v.pretraining import pretraining_job
    from d2v.training.performance import PEAK_MEMORY_MB
    from d2v.training.train import train

    modality = registry.get(modality_name)
    blocks: Any = parse(modality.recipe, recipe, at=modality_name)
    modality.ingest(
        blocks.ingest, folder / "first", _source(items[:FIRST_ITEMS])
    )  # imports and workers take their time
    began = time.perf_counter()
    modality.ingest(blocks.ingest, folder / "corpus", _source(items))
    ingested = time.perf_counter()
    modality.prepare(blocks.prepare, folder / "corpus", folder / "prepared")
    prepared = time.perf_counter()

    there = modality.open(folder / "prepared").num_train
    batch = {} if blocks.train.batch_size is None else {"batch_size": max(1, min(blocks.train.batch_size, there))}
    short = {"max_updates": UPDATES, "log_every_updates": UPDATES // 2, "probe_every_updates": 0}
    recipe_of_run = changed(blocks.train, short | batch, at=f"{modality_name}.train")
    job = pretraining_job(modality, recipe_of_run, folder / "prepared")
    metrics = train(replace(job, probe=None, whole_probe=None, export=None), folder / "run").metrics

    update_s = (metrics["perf/step_ms"] + metrics["perf/data_ms"]) / 1e3
    smaller = 1.0 if not batch else blocks.train.batch_size / batch["batch_size"]
    samples_s = metrics["perf/samples_per_s"]
    objective = job.build()
    student, tokens = objective.student, objective.longest
    stem = student.stem
    forward = stem.local_flops(tokens) + stem.positions_flops(tokens) + student.flops(tokens)
    ratio = 3.0 * forward / objective.flops_per_sample(tokens)["total"]  # backward takes two forwards
    tune_item_s = ratio / samples_s if blocks.finetune is None else _tuning_item_s(modality, blocks, folder)
    return Costs(
        update_s=update_s * smaller,
        epochs_per_update=metrics["data/epoch"] / UPDATES * smaller,
        tune_item_s=tune_item_s,
        ingest_item_s=(ingested - began) / len(items),
        prepare_item_s=(prepared - ingested) / len(items),
        peak_bytes=metrics[PEAK_MEMORY_MB] * 1e6,
        parameters=sum(one.numel() for one in student.parameters()),
    )


def _source(items: Sequence[Item]) -> Source:
    return Source("a sample", "sample", len(items), lambda start: iter(items[start:]))


def _tuning_item_s(modality: Modality, blocks: Any, folder: Path) -> float:
    """Seconds that fine-tuning takes for an item, from random weights: small batches of whole items cost more than
    their operations say."""
    from d2v.finetuning.finetune import finetuning_job
    from d2v.training.train import train

    short = {"max_updates": UPDATES, "log_every_updates": UPDATES // 2, "start": "scratch"}
    plain = short | {"validation": None, "folds": None}
    config = changed(blocks.finetune, plain, at=f"{modality.name}.finetune")
    job = finetuning_job(modality, config, blocks.train, folder / "prepared", None)
    return 1.0 / train(replace(job, export=None), folder / "tuned").metrics["perf/samples_per_s"]


def main(folder: Path) -> int:
    """Measure what the folder asks for; returns the exit status."""
    modality, recipe, items = pickle.loads((folder / REQUEST).read_bytes())
    try:
        costs = measure(modality, recipe, items, folder)
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        print(known, file=sys.stderr)
        return known.exit_code
    (folder / RESULT).write_text(json.dumps(asdict(costs)))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
