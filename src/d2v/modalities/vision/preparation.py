"""The prepare step for images: from a corpus to a model-ready store with statistics and a probe set.

A prepared folder holds `train/` and `test/` shards and, written last, `prepared.json`. Rows of `pixels` stores are
(store_px, store_px, 3) uint8; rows of `jpeg` stores are files whose shorter side is store_px.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from d2v.data import fingerprint
from d2v.data.disk import full_disk_named, swap_in, write_json
from d2v.data.ingest import CORPUS, MANIFEST, SHARDS
from d2v.data.parallel import ordered_map
from d2v.data.store import ShardReader, ShardWriter
from d2v.errors import DataError
from d2v.modalities.vision.config import VisionPrepareConfig
from d2v.modalities.vision.reading import decode
from d2v.progress import Progress, say

PREPARED = "prepared.json"
SHARD_BYTES = 64 * 2**20
UNLABELLED = -1


def prepare(config: VisionPrepareConfig, corpus: Path, out: Path) -> dict[str, Any]:
    """Bring `out` up to date with a corpus; unchanged corpus and parameters are a quick check.

    Returns:
        The contents of `prepared.json`.

    Raises:
        DataError: there is no finished corpus, or the disk is full.
    """
    about = _read_json(corpus / CORPUS, "run the ingest step first")
    identity = fingerprint.of_values({"corpus": about["report"]["fingerprint"], "parameters": config.model_dump()})
    if (out / PREPARED).is_file():
        done = _read_json(out / PREPARED, "remove it")
        if done["fingerprint"] == identity:
            say(f"prepare: {out} is up to date ({_counts(done)})")
            return done
    partial_folder = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    with full_disk_named(out, DataError, "The corpus and the earlier prepared data are untouched."):
        content = _Preparation(config, corpus, partial_folder, about).run() | {"fingerprint": identity}
        write_json(partial_folder / PREPARED, content)
        swap_in(partial_folder, out)
    say(f"prepare: {_counts(content)}; mean {_rounded(content['mean'])}, std {_rounded(content['std'])}")
    return content


def _read_json(path: Path, fix: str) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): {fix}") from None


def _counts(content: dict[str, Any]) -> str:
    return f"{content['train_items']:,} train and {content['test_items']:,} test images of {content['store_px']} px"


def _rounded(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


@dataclass
class _Statistics:
    """Channel sums in float64, streamed."""

    pixels: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(3))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def add(self, image_HWC: np.ndarray) -> None:
        flat = image_HWC.reshape(-1, 3).astype(np.float64) / 255.0
        self.pixels += len(flat)
        self.total += flat.sum(axis=0)
        self.squares += np.square(flat).sum(axis=0)

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        mean = self.total / max(self.pixels, 1)
        variance = np.maximum(self.squares / max(self.pixels, 1) - mean**2, 0.0)
        return mean.tolist(), np.maximum(np.sqrt(variance), 1e-3).tolist()  # a constant channel must not divide by 0


class _Preparation:
    """One pass over a corpus."""

    def __init__(self, config: VisionPrepareConfig, corpus: Path, folder: Path, about: dict[str, Any]) -> None:
        self.config, self.folder, self.about = config, folder, about
        self.class_names: list[str] = about["report"]["class_names"]
        self.shards = ShardReader(corpus / SHARDS)
        columns = pq.read_table(corpus / MANIFEST, columns=["row", "split", "label", "width", "height"])
        self.rows = columns.column("row").to_numpy()
        self.splits = np.array(columns.column("split").to_pylist(), dtype=object)
        ids = {name: number for number, name in enumerate(self.class_names)}
        self.labels = np.array([ids.get(name, UNLABELLED) for name in columns.column("label").to_pylist()])
        shorter = np.minimum(columns.column("width").to_numpy(), columns.column("height").to_numpy())
        self.enlarged = int((shorter < config.store_px).sum())

    def run(self) -> dict[str, Any]:
        """Write both parts and describe them."""
        test_split = next((name for name in ("test", "val") if (self.splits == name).any()), "")
        parts = {"train": np.flatnonzero(self.splits == "train"), "test": np.flatnonzero(self.splits == test_split)}
        if not len(parts["train"]):
            raise DataError(
                f"The corpus of {self.about['source']} has no train images (its splits: {set(self.splits)}): lower "
                "ingest.test_fraction or give a source with a train part"
            )
        statistics = _Statistics()
        with Progress("prepare", sum(len(rows) for rows in parts.values())) as progress:
            for name, rows in parts.items():
                self._write_part(name, rows, statistics if name == "train" else None, progress)
        mean, std = statistics.mean_and_std()
        return {
            "source": self.about["source"],
            "store_px": self.config.store_px,
            "storage": self.config.storage,
            "class_names": self.class_names,
            "train_items": len(parts["train"]),
            "test_items": len(parts["test"]),
            "enlarged_items": self.enlarged,
            "mean": mean,
            "std": std,
            "probe": self._probe_rows(self.labels[parts["train"]], self.labels[parts["test"]]),
        }

    def _write_part(self, name: str, rows: np.ndarray, statistics: _Statistics | None, progress: Progress) -> None:
        pixels = self.config.storage == "pixels"
        data_type = pa.binary(self.config.store_px**2 * 3) if pixels else pa.large_binary()
        writer = ShardWriter(self.folder / name, pa.schema([("label", pa.int64()), ("data", data_type)]), SHARD_BYTES)
        resize = partial(square if pixels else shrink, side=self.config.store_px)
        for row, image in zip(rows, ordered_map(resize, self._stored(rows)), strict=True):
            if statistics is not None:
                statistics.add(image)
            data = image.tobytes() if pixels else _jpeg(image, self.config.jpeg_quality)
            writer.append({"label": int(self.labels[row]), "data": data})
            progress.advance()
        writer.flush()

    def _stored(self, rows: np.ndarray) -> Iterator[bytes]:
        return (self.shards.binary("data", int(self.rows[row])) for row in rows)

    def _probe_rows(self, train_labels: np.ndarray, test_labels: np.ndarray) -> dict[str, list[int]]:
        """Fixed subsets of both parts with as equal class counts as the data allows; empty if unlabelled."""
        random = np.random.Generator(np.random.Philox(key=[self.config.seed, 0]))
        return {
            "train": balanced_subset(train_labels, self.config.probe_train_images, random).tolist(),
            "test": balanced_subset(test_labels, self.config.probe_test_images, random).tolist(),
        }


def balanced_subset(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Ascending rows of at most `count` labelled items, classes taking turns until they run out."""
    ranked: list[tuple[int, float, int]] = []
    for label in np.unique(labels[labels != UNLABELLED]):
        members = random.permutation(np.flatnonzero(labels == label))
        ranked += [(turn, random.random(), int(row)) for turn, row in enumerate(members)]
    return np.sort(np.array([row for _, _, row in sorted(ranked)[:count]], dtype=np.int64))


def square(data: bytes, side: int) -> np.ndarray:
    """The central square of a stored image, (side, side, 3) uint8."""
    image = decode(data)
    height, width = image.shape[:2]
    if height == width == side:
        return image
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC, box=box))


def shrink(data: bytes, side: int) -> np.ndarray:
    """A stored image with its shorter side brought to `side`, (H, W, 3) uint8."""
    image = decode(data)
    height, width = image.shape[:2]
    if min(height, width) == side:
        return image
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()
