"""Where text comes from: one `Source` for whatever `text.ingest.source` names.

`pydocs` and `pyprose` are embedded. A path or an fsspec URL is a file or a folder of text files and JSON lines (plain
or packed), a tar or zip of them, Parquet, or a GLUE task.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from d2v.data.sources.archives import tar_source, zip_source
from d2v.data.sources.layout import Annotator, find_layout
from d2v.data.sources.listing import Found, open_file, unreadable
from d2v.data.sources.locations import Location, find_format, guarded, open_location, packed_as, reading
from d2v.data.sources.side_tables import SideTables, tree_source
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kind_of, settled
from d2v.data.sources.tables import parquet_source
from d2v.errors import ConfigError, DataError
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.text.documents import (
    JSON_FILE,
    PAPERS,
    Document,
    Kind,
    TextFiles,
    columns_of,
    read_documents,
)
from d2v.modalities.text.glue import find_task, glue_source
from d2v.modalities.text.pydocs import pydocs_source
from d2v.modalities.text.pyprose import pyprose_source
from d2v.modalities.text.reading import PAIR

EMBEDDED = {"pydocs": pydocs_source, "pyprose": pyprose_source}
FORMATS = ("text", "jsonl", "parquet", "glue", "csv")
PACKINGS = ("", ".gz", ".bz2", ".xz", ".zst")
TEXT_SUFFIXES = tuple(f".{name}{end}" for name in "txt text md markdown rst tokens raw".split() for end in PACKINGS)  # noqa: SIM905
JSON_SUFFIXES = tuple(f".{name}{end}" for name in ("jsonl", "ndjson") for end in PACKINGS)
JSON_FILE_SUFFIXES = tuple(f".json{end}" for end in PACKINGS)
CSV_SUFFIXES = tuple(f".{name}{end}" for name in ("csv", "tsv", "tab") for end in PACKINGS)

SEVERAL = ("parquet", "csv", "tar")
"""Formats of which a folder may hold several files that are one corpus."""
ROW_SPLIT = "split of the row"
"""Name in `Item.texts` of a split's name on its way to `Item.split`."""
Archive = Callable[..., Source]
ARCHIVES: dict[str, Archive] = {"tar": tar_source, "zip": zip_source}


def open_source(config: TextIngestConfig, bare_lines: bool = False) -> Source:
    """Find the text that `config` names. Nothing but names, sizes and headers is read before items are asked for.

    Args:
        config: the ingest block.
        bare_lines: see `TextFiles`.

    Raises:
        ConfigError: options that the source does not have.
        DataError: nothing there, nothing in it, or not of the format it should be. Reading items raises it too, where
            the disk or the network fails; going on from the last item is then safe.

    Example:
        >>> next(open_source(TextIngestConfig(source="pydocs")).items(0)).key
        'topics/assert'
    """
    embedded = config.source if config.format == "auto" else config.format
    if embedded in EMBEDDED:
        if config.options:
            raise ConfigError(f"{embedded} takes no options: remove text.ingest.options {sorted(config.options)}")
        return EMBEDDED[embedded]()
    with reading(config.source):
        source = _open_location(config, replace(_wanted(config), bare_lines=bare_lines))
    return guarded(_as_pairs(source), config.source)


def _wanted(config: TextIngestConfig) -> TextFiles:
    return TextFiles(
        modality="text",
        noun="text files",
        suffixes=frozenset((*TEXT_SUFFIXES, *JSON_SUFFIXES)),
        max_item_bytes=config.max_item_bytes,
        embedded=tuple(EMBEDDED),
        columns=tuple(columns_of(config).texts["text"]),
        only_suffixes=True,
    )


def _format_of(name: str) -> str | None:
    """What a file is, from its name; None for papers."""
    if PAPERS.fullmatch(name):
        return None
    if name.lower().endswith(JSON_SUFFIXES):
        return "jsonl"
    if name.lower().endswith(CSV_SUFFIXES):
        return "csv"
    return packed_as(name) or ("text" if name.lower().endswith(TEXT_SUFFIXES) else None)


def format_of_file(name: str) -> str | None:
    """The same of a file that stands alone, which may be one JSON array; a `.json` beside other files speaks of
    them."""
    return "jsonl" if JSON_FILE.search(name) else _format_of(name)


def _arrays_alone(location: Location, wanted: TextFiles) -> Location | None:
    """The JSON files of a folder that holds nothing else to read."""
    found = tuple(file for file in location.files if JSON_FILE.search(file.name))
    others = (file for file in location.files if file not in found)
    read = any(wanted.role(file.key, annotated=False) == "item" or _format_of(file.name) for file in others)
    return replace(location, files=found) if found and not read else None


def _open_location(config: TextIngestConfig, wanted: TextFiles) -> Source:
    kind = str(config.format)
    location, is_folder = open_location(config.source, config.options, wanted, _format_of)
    if kind in ("auto", "jsonl") and (arrays := _arrays_alone(location, wanted)):
        location, wanted = arrays, replace(wanted, suffixes=frozenset((*JSON_SUFFIXES, *JSON_FILE_SUFFIXES)))
    if kind in ("auto", "glue"):
        named = _format_of if is_folder else format_of_file
        found, location = find_format(location, is_folder, wanted, "auto", named, FORMATS, SEVERAL)
        if files := find_task(location):
            return glue_source(location, files, wanted)
        if kind == "glue":
            raise DataError(
                f"{location.given} is no GLUE task: give the folder or the zip that holds its train.tsv and dev.tsv, "
                "or set text.ingest.format=auto."
            )
        kind = found
    if kind == "csv":
        wanted = replace(wanted, suffixes=frozenset(CSV_SUFFIXES))
    packed = packed_as(location.files[0].name) if len(location.files) == 1 else None
    if kind == "tar" and len(location.files) > 1:
        return _in_archive(tree_source(ARCHIVES, kind, location, wanted, _beside(config)), config, wanted)
    if kind == "parquet":
        return _tables(location, config, wanted)
    if packed in ARCHIVES:
        return _in_archive(_opened_archive(packed, location, config, wanted), config, wanted)
    _check_folder(location, wanted)
    return _files_source(location, config, wanted)


def _check_folder(location: Location, wanted: TextFiles) -> None:
    archives = [file.key for file in location.files if packed_as(file.name)]
    if archives and not any(wanted.has_suffix(file.name) for file in location.files):
        raise DataError(
            f"{location.given} holds {len(archives)} archives ({', '.join(archives[:6])}), and one is read: point "
            "text.ingest.source to it."
        )


# ---------------------------------------------------------------------------------------------- files


def _files_source(location: Location, config: TextIngestConfig, wanted: TextFiles) -> Source:
    """Every file but hidden ones and papers; of files that are not text the reader says so."""
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
            found = layout.item(file.key, refused=file.refused, address=location.address(file))
            for item in [found] if file.refused else _file_items(location, file, found, config, wanted):
                if read >= start:
                    yield item
                read += 1

    is_text = config.document == "file" and all(_kind(key, config) == "text" for key in keys)
    described = f"text {location.given}"
    return _with_row_splits(
        Source(
            described,
            location.fingerprint,
            len(files) if is_text else None,
            items,
            remarks=lambda: layout.remarks,
            left_out=tuple(_left_out(location, files)),
        ),
        config,
        set(layout.splits.values()) | set(layout.stems.values()),
    )


def _left_out(location: Location, files: Sequence[Found]) -> Iterator[str]:
    """What to say of tables, pages and pictures beside the texts."""
    read = {file.key for file in files}
    others = [file.key for file in location.files if file.key not in read and not PAPERS.fullmatch(file.name)]
    if others:
        yield (
            f"{len(others):,} files beside the texts are left out, for they are not named like texts, such as "
            f"{others[0]}: name one by itself to have it read"
        )


def _file_items(
    location: Location, file: Found, found: Item, config: TextIngestConfig, wanted: TextFiles
) -> Iterator[Item]:
    try:
        with open_file(location.fs, file.path) as stream:
            for document in read_documents(stream, config, wanted, _kind(file.name, config), file.key):
                yield _item(found, document)
    except OSError as error:
        yield replace(found, refused=unreadable(error))


def _kind(name: str, config: TextIngestConfig) -> Kind:
    """How a file is read."""
    found = format_of_file(name) if config.format == "auto" else config.format
    return found if found in ("jsonl", "csv") else "text"  # type: ignore[return-value]


def _item(found: Item, document: Document) -> Item:
    """A document of a file as an item, with the file's split and, unless it has its own, label."""
    texts = dict(found.texts) if document.second is None else {**found.texts, "second": document.second}
    if document.split:
        texts[ROW_SPLIT] = document.split
    return Item(
        found.key + document.place,
        document.data,
        document.label if document.label is not None else found.label,
        found.split,
        document.refused,
        texts,
        document.group if document.group is not None else found.group,
        found.fold,
        found.address,
        int(document.place[1:]) if document.place else None,
    )


def _with_row_splits(source: Source, config: TextIngestConfig, kinds: set[str]) -> Source:
    """The same source, with the splits that a column of its rows tells. Where the first item has such a column, all are
    read once for their splits before the first is given.

    Args:
        source: its items have the split's name in `texts[ROW_SPLIT]`.
        config: the ingest block.
        kinds: kinds of split that folders and files tell.
    """

    @functools.cache
    def used() -> Mapping[str, str] | None:
        first = next(source.items(0), None)
        if first is None or ROW_SPLIT not in first.texts:
            return None
        names = {item.texts.get(ROW_SPLIT, "").strip() for item in source.items(0)} - {""}
        unknown = sorted(name for name in names if kind_of(name) is None)
        if unknown and config.columns.split:
            raise DataError(
                f"The column {config.columns.split} has {unknown[0]!r}, which names no split: write train, val or "
                "test, or set text.ingest.columns.split to another column."
            )
        return None if unknown else settled({*kinds, *map(kind_of, names)})

    def settle(item: Item) -> Item:
        texts = {name: text for name, text in item.texts.items() if name != ROW_SPLIT}
        kind, splits = kind_of(item.texts.get(ROW_SPLIT, "")), used()
        split = splits[kind] if splits and kind else item.split
        if splits and split is None and "test" in splits.values():
            split = "train"
        label = None if splits and kind == "unlabelled" else item.label
        return replace(item, texts=texts, split=split, label=label)

    return replace(source, items=lambda start: map(settle, source.items(start)))


def _beside(config: TextIngestConfig) -> Annotator:
    """What files beside a document say of it, in shards; elsewhere none do. With an annotator, an archive's layout sees
    the names of all members, which may tell the splits."""
    return partial(SideTables, suffixes=frozenset(TEXT_SUFFIXES), columns=columns_of(config))


def _in_archive(archive: Source, config: TextIngestConfig, wanted: TextFiles) -> Source:
    """Documents of the members of an archive, each of which is held in memory while it is cut."""

    def items(start: int) -> Iterator[Item]:
        read = 0
        for member in archive.items(0):
            for item in _member_items(member, config, wanted):
                if read >= start:
                    yield item
                read += 1

    return _with_row_splits(replace(archive, items=items, total=None, cuts=tuple), config, set())


def _opened_archive(packed: str, location: Location, config: TextIngestConfig, wanted: TextFiles) -> Source:
    """An archive's members; where there are no others, its JSON files, which speak of the texts where there are."""
    arrays = replace(wanted, suffixes=frozenset((*JSON_SUFFIXES, *JSON_FILE_SUFFIXES)))
    try:
        return ARCHIVES[packed](location, wanted, _beside(config))
    except DataError as no_texts:
        try:
            return ARCHIVES[packed](location, arrays, _beside(config))
        except DataError:
            raise no_texts from None


def _member_items(member: Item, config: TextIngestConfig, wanted: TextFiles) -> Iterator[Item]:
    if not isinstance(member.data, bytes):
        yield member
        return
    for document in read_documents(io.BytesIO(member.data), config, wanted, _kind(member.key, config), member.key):
        yield _item(member, document)


# --------------------------------------------------------------------------------------------- tables


def _tables(location: Location, config: TextIngestConfig, wanted: TextFiles) -> Source:
    tables = tuple(file for file in location.files if packed_as(file.name) == "parquet") or location.files
    columns = columns_of(config)
    beside = {"second": columns.texts["second"]}
    return parquet_source(replace(location, files=tables), wanted, replace(columns, texts=beside))


def _as_pairs(source: Source) -> Source:
    """The second sentence of a pair beside the first in the item's data, so that it counts for what is a duplicate."""

    def paired(item: Item) -> Item:
        second: Any = item.texts.get("second")
        if not second or not isinstance(item.data, bytes):
            return item
        return replace(item, data=item.data + PAIR + second.encode("utf-8", "surrogateescape"))

    return replace(source, items=lambda start: map(paired, source.items(start)))
