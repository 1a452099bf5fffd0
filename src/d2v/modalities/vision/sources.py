"""Where images come from: one `Source` for whatever `vision.ingest.source` names.

A local path or any fsspec URL is listed once (`Place`), its format is found from its name and contents, and the
format's module makes the source of it: folders here, tar and zip in `archives`, IDX and .npz in `arrays`, Parquet in
`tables`, embedded and downloaded corpora in `named`.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from d2v.data.items import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.vision.archives import (
    IMAGE_SUFFIXES,
    Found,
    Place,
    find_layout,
    is_hidden,
    split_path,
    tar_source,
    too_large,
    zip_source,
)
from d2v.modalities.vision.arrays import IDX_NAME, idx_label_paths, idx_source, npz_source
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.named import embedded_source, torchvision_source
from d2v.modalities.vision.tables import parquet_source

SUFFIXES = {
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
    **{".zip": "zip", ".npz": "npz", ".parquet": "parquet", ".pq": "parquet"},
}
EMBEDDED = ("glyphs", "digits")
STAMPS = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")

OPENERS: dict[str, Callable[[Place, int], Source]] = {
    "tar": tar_source,
    "zip": zip_source,
    "idx": idx_source,
    "npz": npz_source,
    "parquet": parquet_source,
}


def open_source(config: VisionIngestConfig) -> Source:
    """Find the images that `config` names. Nothing but names, sizes and headers is read before items are asked for.

    Raises:
        ConfigError: options that the source does not have.
        DataError: nothing there, nothing in it, or not of the format it should be. Reading items raises it too, where
            the disk or the network fails; going on from the last item is then safe.

    Example:
        >>> source = open_source(VisionIngestConfig(source="digits"))
        >>> next(source.items(0)).label
        '0'
    """
    name, options = config.source, config.options
    if config.format == "torchvision" or (config.format == "auto" and name.startswith("torchvision:")):
        return torchvision_source(name.removeprefix("torchvision:"), options)
    if config.format in EMBEDDED or (config.format == "auto" and name in EMBEDDED):
        return embedded_source(name if config.format == "auto" else config.format, options)
    try:
        source = _open_place(config)
    except OSError as error:
        raise _unreadable(name, error) from error
    return Source(
        source.description,
        source.fingerprint,
        source.total,
        lambda start: _guarded(name, source.items(start)),
        source.class_names,
    )


def _open_place(config: VisionIngestConfig) -> Source:
    fs, path = _resolve(config)
    name = PurePosixPath(path).name.split("?")[0] if "://" in config.source else PurePosixPath(path).name
    # HTTP's own isdir would download a whole archive to look for links in it
    is_folder = not ("http" in fs.protocol and _format_of(name)) and fs.isdir(path)
    if not is_folder and not fs.exists(path):
        raise DataError(_nothing_there(config.source, fs, path))
    found = _list(fs, path) if is_folder else (_stat(fs, path, name),)
    place = Place(config.source, fs, tuple(sorted(found, key=lambda file: file.key)))
    if not place.files:
        raise DataError(
            f"{config.source} is an empty folder: put images into it (class folders and train/ and test/ are "
            "understood), or point vision.ingest.source to where they are."
        )
    kind: str = config.format
    if kind == "auto":
        kind, place = _find_format(place, is_folder)
    if kind == "folder":
        if not is_folder:
            raise DataError(f"{config.source} is a file, not a folder: set vision.ingest.format to auto.")
        return _folder_source(place, config.max_item_bytes)
    if kind in ("tar", "zip", "npz") and len(place.files) > 1:
        raise DataError(
            f"{config.source} is a folder of {len(place.files)} files, format {kind} reads one: "
            f"set vision.ingest.source to the .{kind} file itself."
        )
    if kind == "idx" and not is_folder:
        beside = idx_label_paths(path)
        labels = [_stat(fs, other, PurePosixPath(other).name) for other in beside if fs.exists(other)]
        place = Place(place.given, fs, (*place.files, *labels[:1]))
    return OPENERS[kind](place, config.max_item_bytes)


def _find_format(place: Place, is_folder: bool) -> tuple[str, Place]:
    """Format of a place, and the place to read: a folder that holds one archive beside its papers is that archive."""
    kinds = {file: _format_of(file.name) for file in place.files}
    readable = [file for file, kind in kinds.items() if kind]
    if not is_folder:
        if not readable:
            raise DataError(
                f"Cannot tell the format of {place.given} from its name: set vision.ingest.format to one of "
                "tar, zip, idx, npz, parquet, or point vision.ingest.source to a folder of images."
            )
        return kinds[readable[0]] or "", place
    has_images = any(PurePosixPath(file.name).suffix.lower() in IMAGE_SUFFIXES for file in place.files)
    found = {kinds[file] for file in readable}
    if not has_images and found in ({"idx"}, {"parquet"}):
        kind = found.pop() or ""
        return kind, Place(place.given, place.fs, place.files if kind == "idx" else tuple(readable))
    if not has_images and len(readable) == 1:
        return kinds[readable[0]] or "", Place(f"{place.given}/{readable[0].key}", place.fs, (readable[0],))
    return "folder", place


def _format_of(name: str) -> str | None:
    if IDX_NAME.match(name):
        return "idx"
    return next((kind for suffix, kind in SUFFIXES.items() if name.lower().endswith(suffix)), None)


# ------------------------------------------------------------------------------------------- folders


def _folder_source(place: Place, max_item_bytes: int) -> Source:
    """Every file of a folder but hidden ones; what is no image, the reader will say. Links are followed, for data
    sets are often links into a cache."""
    layout = find_layout(file.key for file in place.files)

    def items(start: int) -> Iterator[Item]:
        for file in place.files[start:]:
            key, label, split = layout.place(file.key)
            refused = file.refused or too_large(file.size or 0, max_item_bytes)
            data = None
            if not refused:
                data, refused = _read(place.fs, file.path, max_item_bytes)
            yield Item(key, data, label, split, refused)

    return Source(f"folder {place.given}", place.fingerprint, len(place.files), items)


def _read(fs: Any, path: str, max_item_bytes: int) -> tuple[bytes | None, str | None]:
    """Content of a file, or why not; one byte too many is asked for, as a size may be unknown or have changed."""
    try:
        with fs.open(path, "rb") as file:
            content = file.read(max_item_bytes + 1)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        return None, f"unreadable: {error.strerror or error}"
    refused = too_large(len(content), max_item_bytes)
    return (None, refused) if refused else (content, None)


def _list(fs: Any, path: str) -> list[Found]:
    """All files of a folder, hidden ones left out; broken links and pipes are listed as refused."""
    if isinstance(fs, LocalFileSystem):
        return _list_local(path)
    prefix = path.rstrip("/") + "/"
    keys = {full: (full.removeprefix(prefix), info) for full, info in fs.find(path, detail=True).items()}
    return [_described(full, key, info) for full, (key, info) in keys.items() if not is_hidden(key)]


def _list_local(path: str) -> list[Found]:
    """os.walk, following links to folders but never in a circle (fsspec's own listing does not follow them)."""
    found = []
    for folder, names, files in os.walk(path, followlinks=True):
        names[:] = [name for name in names if not name.startswith(".") and not _leads_back(folder, name)]
        for name in files:
            if not name.startswith("."):
                full = os.path.join(folder, name)
                found.append(_stat_local(full, os.path.relpath(full, path).replace(os.sep, "/")))
    return found


def _leads_back(folder: str, name: str) -> bool:
    """Whether a linked folder is one of the folders above it."""
    full = os.path.join(folder, name)
    target = os.path.realpath(full)
    return os.path.islink(full) and os.path.commonpath([target, os.path.realpath(folder)]) == target


def _stat(fs: Any, path: str, key: str) -> Found:
    return _stat_local(path, key) if isinstance(fs, LocalFileSystem) else _described(path, key, fs.info(path))


def _stat_local(path: str, key: str) -> Found:
    key = "/".join(split_path(key))
    try:
        found = os.stat(path)
    except OSError as error:
        return Found(key, path, None, "", f"unreadable: {error.strerror}")
    refused = None if stat.S_ISREG(found.st_mode) else "it is a device or a pipe, not a file"
    return Found(key, path, found.st_size, str(found.st_mtime_ns), refused)


def _described(path: str, key: str, info: dict[str, Any]) -> Found:
    stamps = (str(info[stamp]) for stamp in STAMPS if info.get(stamp))
    return Found(key, path, info.get("size"), next(stamps, ""))


# -------------------------------------------------------------------------------------------- places


def _resolve(config: VisionIngestConfig) -> tuple[Any, str]:
    """File system and path; the options of a URL go to its file system (such as `anon: true` for a public bucket)."""
    is_url = "://" in config.source or "::" in config.source
    if config.options and not is_url:
        raise ConfigError(
            f"vision.ingest.options {sorted(config.options)} mean nothing to the path {config.source}: they are for "
            "glyphs, digits, torchvision and URLs. Remove them, or check vision.ingest.source."
        )
    try:
        source = config.source if is_url else os.path.abspath(os.path.expanduser(config.source))
        fs, path = fsspec.core.url_to_fs(source, **config.options)
    except (ValueError, ImportError, TypeError) as error:
        raise DataError(
            f"vision.ingest.source {config.source} cannot be opened: {error}. Check the part before :// and "
            "vision.ingest.options, and install the package that this file system needs (s3fs for s3://, gcsfs for gs://)."
        ) from error
    return fs, path


def _nothing_there(given: str, fs: Any, path: str) -> str:
    """The message for a wrong path: how far it is right, and what is there instead."""
    right = PurePosixPath(path)
    wrong = right.name
    while right != right.parent and not fs.isdir(str(right)):
        wrong, right = right.name, right.parent
    entries = [PurePosixPath(entry).name for entry in fs.ls(str(right), detail=False)] if fs.isdir(str(right)) else []
    shown = sorted(entry for entry in entries if not entry.startswith("."))
    near = difflib.get_close_matches(wrong, shown, n=3, cutoff=0.5)
    embedded = difflib.get_close_matches(given, EMBEDDED, n=1, cutoff=0.6)
    there = ", ".join(near or shown[:8]) or "nothing"
    hint = f" Or did you mean the embedded corpus {embedded[0]}?" if embedded else ""
    return (
        f"vision.ingest.source {given} does not exist: {right} holds no {wrong}, "
        f"but {'the similar ' if near else ''}{there}. Set vision.ingest.source to a folder, an archive, a URL, "
        f"glyphs, digits or torchvision:<Class>.{hint}"
    )


def _unreadable(given: str, error: OSError) -> DataError:
    return DataError(
        f"Reading {given} failed: {error}. Check the disk, the network and the permissions, and run the same command "
        "again: it goes on where it stopped."
    )


def _guarded(given: str, items: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from items
    except OSError as error:
        raise _unreadable(given, error) from error
