"""Sources of images made for tests: arrays, and whatever `open_source` opens."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from d2v.data.sources.source import Item, Source
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.sources import open_source

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 2, 1, 3, 2])


def source_of(path: Path | str, **values: Any) -> Source:
    return open_source(VisionIngestConfig(source=str(path), **values))


def read(path: Path | str, **values: Any) -> list[Item]:
    return list(source_of(path, **values).items(0))


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    end, pack = (".gz", gzip.compress) if packed else ("", bytes)
    for name, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (folder / f"{name}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(PICTURES[rows])))
        (folder / f"{name}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(LABELS[rows])))
    return folder


def write_npz(path: Path, save: Callable[..., None] = np.savez) -> Path:
    save(path, x_train=PICTURES[:4], y_train=LABELS[:4], x_test=PICTURES[4:], y_test=LABELS[4:])
    return path
