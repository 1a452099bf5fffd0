"""Where text comes from: one `Source` for whatever `text.ingest.source` names.

`pydocs` is embedded. A path or an fsspec URL is a file or a folder of text files and JSON lines (plain or packed), a
tar or zip of them, Parquet, or a GLUE task.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from d2v.data.sources.archives import tar_source, zip_source
from d2v.data.sources.columns import Columns
from d2v.data.sources.layout import Lookup, Role, Wanted, find_layout
from d2v.data.sources.locations import Found, Location, find_format, guarded, open_location, packed_as, reading
from d2v.data.sources.source import Item, Source
from d2v.data.sources.tables import parquet_source
from d2v.errors import ConfigError, DataError
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.text.documents import (
    CLASS_NAMES,
    FIRST_NAMES,
    SECOND_NAMES,
    Document,
    read_documents,
)
from d2v.modalities.text.glue import find_task, glue_source
from d2v.modalities.text.pydocs import pydocs_source
from d2v.modalities.text.reading import PAIR

EMBEDDED = ("pydocs",)
FORMATS = ("text", "jsonl", "parquet", "glue")
PACKINGS = ("", ".gz", ".bz2", ".xz", ".zst")
TEXT_SUFFIXES = tuple(f".{name}{end}" for name in "txt text md markdown rst tokens raw".split() for end in PACKINGS)  # noqa: SIM905
JSON_SUFFIXES = tuple(f".{name}{end}" for name in ("jsonl", "ndjson") for end in PACKINGS)
PAPERS = re.compile(r"(readme|licen[cs]e|copying|(sha\d+|md5|check)sums?)(\..*)?", re.IGNORECASE)

Archive = Callable[..., Source]
ARCHIVES: dict[str, Archive] = {"tar": tar_source, "zip": zip_source}


@dataclass(frozen=True, kw_only=True)
class TextFiles(Wanted):
    """Which files are documents: not the README and licence beside them, nor tables and pages."""

    def has_suffix(self, name: str) -> bool:
        """Whether a file is named like a text and is no paper."""
        return super().has_suffix(name) and not PAPERS.fullmatch(PurePosixPath(name).name)

    def role(self, path: str, annotated: bool) -> Role:
        """What a file is, from its path in the tree."""
        return "paper" if PAPERS.fullmatch(PurePosixPath(path).name) else super().role(path, annotated)


def open_source(config: TextIngestConfig) -> Source:
    """Find the text that `config` names. Nothing but names, sizes and headers is read before items are asked for.

    Raises:
        ConfigError: options that the source does not have.
        DataError: nothing there, nothing in it, or not of the format it should be. Reading items raises it too, where
            the disk or the network fails; going on from the last item is then safe.

    Example:
        >>> next(open_source(TextIngestConfig(source="pydocs")).items(0)).key
        'topics/assert'
    """
    if config.format == "pydocs" or (config.format == "auto" and config.source in EMBEDDED):
        if config.options:
            raise ConfigError(f"pydocs takes no options: remove text.ingest.options {sorted(config.options)}")
        return pydocs_source()
    with reading(config.source):
        source = _open_location(config)
    return guarded(_as_pairs(source), config.source)


def _wanted(config: TextIngestConfig) -> TextFiles:
    return TextFiles(
        modality="text",
        noun="text files",
        suffixes=frozenset((*TEXT_SUFFIXES, *JSON_SUFFIXES)),
        max_item_bytes=config.max_item_bytes,
        embedded=EMBEDDED,
        columns=(config.text_field,) if config.text_field else FIRST_NAMES,
        only_suffixes=True,
    )


def _format_of(name: str) -> str | None:
    """What a file is, from its name; None for papers."""
    if PAPERS.fullmatch(name):
        return None
    if name.lower().endswith(JSON_SUFFIXES):
        return "jsonl"
    return packed_as(name) or ("text" if name.lower().endswith(TEXT_SUFFIXES) else None)


def _open_location(config: TextIngestConfig) -> Source:
    wanted, kind = _wanted(config), str(config.format)
    location, is_folder = open_location(config.source, config.options, wanted, _format_of)
    if kind in ("auto", "glue"):
        found, location = find_format(location, is_folder, wanted, "auto", _format_of, FORMATS)
        if files := find_task(location):
            return glue_source(location, files, wanted)
        if kind == "glue":
            raise DataError(
                f"{location.given} is no GLUE task: give the folder or the zip that holds its train.tsv and dev.tsv, "
                "or set text.ingest.format=auto."
            )
        kind = found
    packed = packed_as(location.files[0].name) if len(location.files) == 1 else None
    if kind == "parquet":
        return _tables(location, config, wanted)
    if packed in ARCHIVES:
        return _in_archive(ARCHIVES[packed](location, wanted, _nothing_beside), config, wanted)
    _check_folder(location, wanted)
    return _files_source(location, config, wanted)


def _check_folder(location: Location, wanted: Wanted) -> None:
    archives = [file.key for file in location.files if packed_as(file.name)]
    if archives and not any(wanted.has_suffix(file.name) for file in location.files):
        raise DataError(
            f"{location.given} holds {len(archives)} archives ({', '.join(archives[:6])}), and one is read: point "
            "text.ingest.source to it."
        )


# ---------------------------------------------------------------------------------------------- files


def _files_source(location: Location, config: TextIngestConfig, wanted: Wanted) -> Source:
    """Every file but hidden ones and papers; what is no text, the reader will say."""
    files = [
        file for file in location.files if len(location.files) == 1 or wanted.role(file.key, annotated=False) == "item"
    ]
    if not files:
        raise DataError(
            f"{location.given} holds no files but papers: put text files into it, or point to another folder."
        )
    keys = [file.key for file in files]
    layout = find_layout(keys, wanted)

    def items(start: int) -> Iterator[Item]:
        read = 0
        for file in files:
            found = layout.item(file.key, refused=file.refused)
            for item in [found] if file.refused else _file_items(location, file, found, config, wanted):
                if read >= start:
                    yield item
                read += 1

    total = len(files) if config.document == "file" and not any(_is_jsonl(key, config) for key in keys) else None
    return Source(f"text {location.given}", location.fingerprint, total, items, remarks=lambda: layout.remarks)


def _file_items(
    location: Location, file: Found, found: Item, config: TextIngestConfig, wanted: Wanted
) -> Iterator[Item]:
    try:
        with location.fs.open(file.path, "rb") as stream:
            for document in read_documents(stream, config, wanted, _is_jsonl(file.name, config)):
                yield _item(found, document)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        yield replace(found, refused=f"unreadable: {error.strerror or error}")


def _is_jsonl(name: str, config: TextIngestConfig) -> bool:
    return config.format == "jsonl" or (config.format == "auto" and _format_of(name) == "jsonl")


def _item(found: Item, document: Document) -> Item:
    """A document of a file as an item, with the file's split and, unless it has its own, label."""
    return Item(
        found.key + document.place,
        document.data,
        document.label if document.label is not None else found.label,
        found.split,
        document.refused,
        {} if document.second is None else {"second": document.second},
    )


def _nothing_beside(sides: Mapping[str, bytes]) -> Lookup:
    """No file says anything about documents; but with an annotator, an archive's layout sees the names of all members,
    which may tell the splits."""
    return lambda path: None


def _in_archive(archive: Source, config: TextIngestConfig, wanted: Wanted) -> Source:
    """Documents of the members of an archive, each of which is held in memory while it is cut."""

    def items(start: int) -> Iterator[Item]:
        read = 0
        for member in archive.items(0):
            for item in _member_items(member, config, wanted):
                if read >= start:
                    yield item
                read += 1

    return replace(archive, items=items, total=None)


def _member_items(member: Item, config: TextIngestConfig, wanted: Wanted) -> Iterator[Item]:
    if not isinstance(member.data, bytes):
        yield member
        return
    for document in read_documents(io.BytesIO(member.data), config, wanted, _is_jsonl(member.key, config)):
        yield _item(member, document)


# --------------------------------------------------------------------------------------------- tables


def _tables(location: Location, config: TextIngestConfig, wanted: Wanted) -> Source:
    labels = (config.label_field,) if config.label_field else CLASS_NAMES
    tables = tuple(file for file in location.files if packed_as(file.name) == "parquet") or location.files
    columns = Columns(labels=labels, texts={"second": SECOND_NAMES}, strings=True)
    return parquet_source(replace(location, files=tables), wanted, columns)


def _as_pairs(source: Source) -> Source:
    """The second sentence of a pair beside the first in the item's data, so that it counts for what is a duplicate."""

    def paired(item: Item) -> Item:
        second: Any = item.texts.get("second")
        if not second or not isinstance(item.data, bytes):
            return item
        return replace(item, data=item.data + PAIR + second.encode("utf-8", "surrogateescape"))

    return replace(source, items=lambda start: map(paired, source.items(start)))
