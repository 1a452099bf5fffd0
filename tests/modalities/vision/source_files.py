"""Sources of images made for tests: trees, archives, arrays and tables."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from d2v.data.items import Item, Source
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.sources import open_source

TREE = [f"{split}/{name}/{i}.png" for split in ("test", "train") for name in ("cat", "dog") for i in range(2)]
PICTURES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 2, 1, 3, 2])
TAR_PACKINGS = [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]


def source_of(path: Path | str, **values: Any) -> Source:
    return open_source(VisionIngestConfig(source=str(path), **values))


def read(path: Path | str, **values: Any) -> list[Item]:
    return list(source_of(path, **values).items(0))


def places(items: list[Item]) -> list[tuple[str, str | None, str | None]]:
    return [(item.key, item.label, item.split) for item in items]


def refusals(items: list[Item]) -> dict[str, str]:
    return {item.key: item.refused for item in items if item.refused}


def content(name: str) -> bytes:
    """A small PNG that differs from name to name, whatever folder the names are packed in."""
    stream = io.BytesIO()
    name = "/".join(name.split("/")[-3:])
    Image.new("RGB", (4, 4), tuple(hashlib.sha256(name.encode()).digest()[:3])).save(stream, "png")
    return stream.getvalue()


def expected(names: list[str] = TREE) -> list[tuple[str, str, str]]:
    return [(name, name.split("/")[1], name.split("/")[0]) for name in names]


def write_tree(folder: Path, names: list[str] = TREE) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name))
    return folder


def write_tar(path: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            add(archive, name, content(name))
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **attributes: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(data))


def write_zip(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content(name))
    return path


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


def write_parquet(folder: Path, rows: int = 4, group: int = 2, metadata: dict[bytes, bytes] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        names = [f"{split}/x/{i}.png" for i in range(rows)]
        images = [{"bytes": content(name), "path": name} for name in names]
        table = pa.table({"image": images, "label": [i % 2 for i in range(rows)]})
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}-00000.parquet", row_group_size=group)
    return folder
