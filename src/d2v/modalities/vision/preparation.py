"""The prepare step for images: from a corpus to a model-ready store with statistics and a probe set.

A prepared folder holds `train/`, `val/` and `test/` shards, `items.parquet` and, written last, `prepared.json`. Rows of
`pixels` stores are (store_px, store_px, 3) uint8; rows of `jpeg` stores are files whose shorter side is store_px.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from d2v.data.prepared import Corpus, RowWriter, bring_up_to_date, probe_rows, row_writer, shaping, write_items
from d2v.modalities.vision.config import VisionPrepareConfig
from d2v.modalities.vision.reading import decode
from d2v.progress import Progress

CHUNK_PIXELS = 2**14  # their sums stay in a core's cache


def prepare(config: VisionPrepareConfig, corpus: Path, out: Path) -> dict[str, Any]:
    """Bring `out` up to date with a corpus; unchanged corpus and parameters are a quick check.

    Returns:
        The contents of `prepared.json`.

    Raises:
        DataError: there is no finished corpus, nothing to train on, or the disk is full.
    """
    parameters = shaping(config)
    if config.codebook is None:
        parameters.pop("codebook")  # a later key
    return bring_up_to_date(corpus, out, parameters, partial(_build, config=config), _summary)


def _build(corpus: Corpus, folder: Path, config: VisionPrepareConfig) -> dict[str, Any]:
    about = _Preparation(config, corpus, folder).run()
    if config.codebook is None:
        return about
    from d2v.modalities.vision.codebook import write_codebook  # imported late: most recipes have none

    return about | {"codebook": write_codebook(config.codebook, folder, about)}


def _summary(content: Mapping[str, Any]) -> str:
    mean, std = (" ".join(f"{value:.3f}" for value in content[name]) for name in ("mean", "std"))
    return (
        f"{content['train_items']:,} train and {content['test_items']:,} test images of {content['store_px']} px; "
        f"mean {mean}, std {std}"
    )


@dataclass
class _Statistics:
    """Channel sums in float64, streamed."""

    pixels: int = 0
    total: np.ndarray = field(default_factory=lambda: np.zeros(3))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def add(self, other: _Statistics) -> None:
        """Add those of further images."""
        self.pixels += other.pixels
        self.total += other.total
        self.squares += other.squares

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        mean = self.total / max(self.pixels, 1)
        variance = np.maximum(self.squares / max(self.pixels, 1) - mean**2, 0.0)
        return mean.tolist(), np.maximum(np.sqrt(variance), 1e-3).tolist()  # a constant channel must not divide by 0


def _statistics_of(image_HWC: np.ndarray) -> _Statistics:
    """Of one image, pixel after pixel."""
    found, pixels = _Statistics(), image_HWC.reshape(-1, 3)
    for start in range(0, len(pixels), CHUNK_PIXELS):
        values = pixels[start : start + CHUNK_PIXELS].astype(np.float64)
        values /= 255.0
        squares = np.square(values)
        found.pixels += len(values)
        found.total, found.squares = _plus_rows(found.total, values), _plus_rows(found.squares, squares)
    return found


def _plus_rows(total: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The total and all rows, one after the other; `rows` is overwritten. torch's running sum has the bits of NumPy's
    sum, which takes six times as long."""
    rows[0] += total
    return torch.from_numpy(rows).cumsum_(0)[-1].numpy().copy()


class _Preparation:
    """One pass over a corpus."""

    def __init__(self, config: VisionPrepareConfig, corpus: Corpus, folder: Path) -> None:
        self.config, self.corpus, self.folder = config, corpus, folder
        self.class_names, self.labels = corpus.classes()
        shorter = np.minimum(corpus.integers("width"), corpus.integers("height"))
        self.enlarged = int((shorter < config.store_px).sum())

    def run(self) -> dict[str, Any]:
        """Write all parts and describe them."""
        parts = self.corpus.items_by_split("images") | {"val": self.corpus.validation_items()}
        write_items(self.folder, self.corpus, parts)
        statistics = _Statistics()
        with (
            Progress("prepare", sum(len(rows) for rows in parts.values())) as progress,
            row_writer(self.corpus, self.folder, self.config) as writer,
        ):
            for name, rows in parts.items():
                self._write_part(writer, name, rows, statistics, progress)
        mean, std = statistics.mean_and_std()
        return {
            "source": self.corpus.source,
            "store_px": self.config.store_px,
            "storage": self.config.storage,
            "class_names": self.class_names,
            "train_items": len(parts["train"]),
            "test_items": len(parts["test"]),
            "val_items": len(parts["val"]),
            "enlarged_items": self.enlarged,
            "mean": mean,
            "std": std,
            "probe": self._probe_rows({name: self.labels[parts[name]] for name in ("train", "test")}),
        }

    def _write_part(
        self, writer: RowWriter, name: str, rows: np.ndarray, statistics: _Statistics, progress: Progress
    ) -> None:
        """Store a part; images of "train" are added to the statistics."""
        pixels = self.config.storage == "pixels"
        data_type = pa.binary(self.config.store_px**2 * 3) if pixels else pa.large_binary()
        schema = pa.schema([("label", pa.int64()), ("data", data_type)])
        make = partial(_prepared, config=self.config, counts=name == "train")
        for facts in writer.write(name, schema, rows, make, lambda row: {"label": int(self.labels[row])}, progress):
            if "pixels" in facts:
                statistics.add(_Statistics(facts["pixels"], np.array(facts["total"]), np.array(facts["squares"])))

    def _probe_rows(self, labels: dict[str, np.ndarray]) -> dict[str, list[int]]:
        counts = {"train": self.config.probe_train_images, "test": self.config.probe_test_images}
        return probe_rows(labels, counts, self.config.seed)


def _prepared(data: bytes, config: VisionPrepareConfig, counts: bool) -> tuple[bytes, dict[str, Any]]:
    """What the store keeps of an image, and its statistics if it counts."""
    pixels = config.storage == "pixels"
    image = (square if pixels else shrink)(data, config.store_px)
    stored = image.tobytes() if pixels else _jpeg(image, config.jpeg_quality)
    if not counts:
        return stored, {}
    found = _statistics_of(image)
    return stored, {"pixels": found.pixels, "total": found.total.tolist(), "squares": found.squares.tolist()}


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
