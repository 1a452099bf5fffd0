"""The prepare step for series: from a corpus to a store with channel statistics and a probe set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data.prepared import SHARD_BYTES, Corpus, bring_up_to_date, probe_rows
from d2v.data.store import ShardWriter
from d2v.errors import DataError
from d2v.modalities.series.config import SeriesPrepareConfig
from d2v.progress import Progress

SCHEMA = pa.schema([("label", pa.int64()), ("steps", pa.int64()), ("data", pa.large_binary())])


def prepare(config: SeriesPrepareConfig, corpus: Path, out: Path) -> dict[str, Any]:
    """Bring `out` up to date with a corpus; unchanged corpus and parameters are a quick check.

    Returns:
        The contents of `prepared.json`.

    Raises:
        DataError: there is no finished corpus, nothing to train on, series of several widths, or the disk is full.
    """
    return bring_up_to_date(corpus, out, config.model_dump(), partial(_build, config=config), _summary)


def _summary(content: Mapping[str, Any]) -> str:
    return (
        f"{content['train_items']:,} train and {content['test_items']:,} test series of {content['channels']} channels"
    )


def _build(corpus: Corpus, folder: Path, config: SeriesPrepareConfig) -> dict[str, Any]:
    names, labels = corpus.classes()
    steps, channels = corpus.integers("steps"), set(corpus.integers("channels").tolist())
    if len(channels) > 1:
        raise DataError(f"{corpus.source} has series of {sorted(channels)} channels: ingest those of one width")
    (width,) = channels
    parts = {name: items[steps[items] >= config.min_steps] for name, items in corpus.items_by_split("series").items()}
    if not len(parts["train"]):
        raise DataError(f"No train series has {config.min_steps} steps: lower prepare.min_steps")
    with Progress("prepare", sum(map(len, parts.values()))) as progress:
        sums = {name: _write(corpus, folder / name, items, labels, width, progress) for name, items in parts.items()}
    count, total, squares = sums["train"]
    mean = total / count
    counts = {"train": config.probe_train_items, "test": config.probe_test_items}
    return {
        "source": corpus.source,
        "channels": width,
        "class_names": names,
        "train_items": len(parts["train"]),
        "test_items": len(parts["test"]),
        "mean": mean.tolist(),
        "std": np.maximum(np.sqrt(np.maximum(squares / count - mean**2, 0.0)), 1e-3).tolist(),
        "probe": probe_rows({name: labels[items] for name, items in parts.items()}, counts, config.seed),
    }


def _write(
    corpus: Corpus, folder: Path, items: np.ndarray, labels: np.ndarray, width: int, progress: Progress
) -> tuple[int, np.ndarray, np.ndarray]:
    """Write one part; the number of its steps, their sum and their sum of squares."""
    writer = ShardWriter(folder, SCHEMA, SHARD_BYTES)
    count, total, squares = 0, np.zeros(width), np.zeros(width)
    for item, data in zip(items, corpus.data(items), strict=True):
        values = np.frombuffer(data, "<f4").reshape(-1, width).astype(np.float64)
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
        writer.append({"label": int(labels[item]), "steps": len(values), "data": data})
        progress.advance()
    writer.flush()
    return count, total, squares
