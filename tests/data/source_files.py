"""Sources made for tests: trees, archives and tables of drawings, a modality that exists only here."""

from __future__ import annotations

import csv
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from d2v.data.sources.archives import tar_source, zip_source
from d2v.data.sources.layout import Annotation, Annotator, Lookup, Wanted
from d2v.data.sources.locations import find_format, folder_source, guarded, open_location, reading
from d2v.data.sources.source import Item, Source
from d2v.data.sources.tables import Columns, parquet_source

DRAWINGS = Wanted(
    modality="drawing",
    noun="drawings",
    suffixes=frozenset({".png", ".svg.gz"}),
    max_item_bytes=2**28,
    columns=("image", "img"),
)
TREE = [f"{split}/{name}/{i}.png" for split in ("test", "train") for name in ("cat", "dog") for i in range(2)]
TAR_PACKINGS = [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]


def source_of(
    path: Path | str, wanted: Wanted = DRAWINGS, annotator: Annotator | None = None, columns: Columns | None = None
) -> Source:
    """As a modality opens a source."""
    with reading(str(path)):
        location, is_folder = open_location(str(path), {}, wanted)
        kind, location = find_format(location, is_folder, wanted)
        if kind == "parquet":
            return guarded(parquet_source(location, wanted, columns), str(path))
        opener = {"folder": folder_source, "tar": tar_source, "zip": zip_source}[kind]
        return guarded(opener(location, wanted, annotator), str(path))


def read(path: Path | str, *arguments: Any, **named: Any) -> list[Item]:
    return list(source_of(path, *arguments, **named).items(0))


def labels_and_splits(items: list[Item]) -> list[tuple[str, str | None, str | None]]:
    return [(item.key, item.label, item.split) for item in items]


def refusals(items: list[Item]) -> dict[str, str]:
    return {item.key: item.refused for item in items if item.refused}


def content(name: str) -> bytes:
    """Bytes that differ from name to name, whatever folder the names are packed in."""
    return hashlib.sha256("/".join(name.split("/")[-3:]).encode()).digest()


def expected(names: list[str] = TREE) -> list[tuple[str, str, str]]:
    return [(name, name.split("/")[1], name.split("/")[0]) for name in names]


def write_tree(folder: Path, names: list[str] = TREE, others: Mapping[str, bytes] | None = None) -> Path:
    for name, data in _files(names, others).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_tar(path: Path, names: list[str], mode: str = "w", others: Mapping[str, bytes] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in _files(names, others).items():
            add(archive, name, data)
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **attributes: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(data))


def write_zip(path: Path, names: list[str], others: Mapping[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _files(names, others).items():
            archive.writestr(name, data)
    return path


def write_any(kind: str, folder: Path, names: list[str], others: Mapping[str, bytes] | None = None) -> Path:
    """The same files as a folder, a tar or a zip."""
    if kind == "folder":
        return write_tree(folder / "tree", names, others)
    return (write_tar if kind == "tar" else write_zip)(folder / f"a.{kind}", names, others=others)


def _files(names: list[str], others: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """`others` last, so that an archive says what its items are after the items."""
    return {name: content(name) for name in names} | dict(others or {})


def write_parquet(folder: Path, rows: int = 4, group: int = 2, metadata: dict[bytes, bytes] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        names = [f"{split}/x/{i}.png" for i in range(rows)]
        images = [{"bytes": content(name), "path": name} for name in names]
        table = pa.table({"image": images, "label": [i % 2 for i in range(rows)]})
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}-00000.parquet", row_group_size=group)
    return folder


def by_table(sides: Mapping[str, bytes]) -> Lookup:
    """An annotator that reads tables of path (relative to the table), label, split and artist."""
    said = {}
    for table, data in sides.items():
        folder = table.rpartition("/")[0]
        for row in csv.DictReader(io.StringIO(data.decode())):
            path = f"{folder}/{row['path']}" if folder else row["path"]
            said[path] = Annotation(row.get("label"), row.get("split"), {"artist": row["artist"]})
    return said.get
