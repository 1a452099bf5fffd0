"""Locations of a source's files: local paths or fsspec URLs, and their formats. A folder is read as a source here."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.layout import Annotator, Layout, Wanted, find_layout, too_large
from d2v.data.sources.listing import (
    NOT_A_FILE,
    Found,
    NotAFile,
    check_some,
    find_file,
    list_files,
    open_file,
    unreadable,
)
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError

PACKED = {
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"), "tar"),
    **{".zip": "zip", ".parquet": "parquet", ".pq": "parquet"},
}
"""Endings of files that hold many items, and the format of each."""
PIECE_BYTES = 64 * 2**20
SIDE_BYTES = 64 * 2**20  # of one file beside the items; all of them are held in memory


@dataclass(frozen=True)
class Location:
    """A file, or a folder with all its files sorted by key, on any fsspec file system.

    Attributes:
        given: how the user wrote it, for messages.
        fs: the fsspec file system that opens the paths of `files`.
        files: the one file (its key is its name), or the folder's, with keys relative to the folder.
        is_folder: which of the two.
    """

    given: str
    fs: Any
    files: tuple[Found, ...]
    is_folder: bool = False

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed or written; the address of the location does not matter."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.key}\0{file.size}\0{file.stamp}\n".encode())
        return digest.hexdigest()

    def address(self, file: Found) -> str:
        """A file as the user would write it."""
        if not self.is_folder:
            return self.given
        return file.key if self.given == "." else f"{self.given.rstrip('/')}/{file.key}"


# ------------------------------------------------------------------------------------------- opening


def packed_as(name: str) -> str | None:
    """Format of a file that holds many items (tar, zip, parquet), from its name."""
    return next((kind for suffix, kind in PACKED.items() if name.lower().endswith(suffix)), None)


def open_location(
    source: str, options: Mapping[str, Any], wanted: Wanted, format_of: Callable[[str], str | None] = packed_as
) -> tuple[Location, bool]:
    """List what a path or URL names; and whether it is a folder.

    Args:
        source: as the user wrote it.
        options: of a URL's file system (such as `anon: true` for a public bucket).
        wanted: the modality's words.
        format_of: name of a file -> its format, if it is one that the modality opens.

    Raises:
        ConfigError: options for a path.
        DataError: nothing there, nothing in it, or no such file system.
    """
    fs, path = _resolve(source, options, wanted)
    name = PurePosixPath(path).name.split("?")[0] if "://" in source else PurePosixPath(path).name
    # HTTP's own isdir would download a whole archive to look for links in it
    is_folder = not ("http" in fs.protocol and (format_of(name) or wanted.has_suffix(name))) and fs.isdir(path)
    if not is_folder and not fs.exists(path):
        is_web = "http" in fs.protocol
        raise DataError(_not_served(source, fs, path) if is_web else _nothing_there(source, fs, path, wanted))
    found = list_files(fs, path) if is_folder else (find_file(fs, path, name),)
    if not is_folder and found[0].refused:
        raise DataError(
            f"{source} cannot be read ({found[0].refused}): point {wanted.modality}.ingest.source to a folder or to "
            "another file."
        )
    location = Location(source, fs, tuple(sorted(found, key=lambda file: file.key)), is_folder)
    if not location.files:
        raise DataError(
            f"{source} is an empty folder: put {wanted.noun} into it (class folders and train/ and test/ are "
            f"understood), or point {wanted.modality}.ingest.source to where they are."
        )
    return location, is_folder


def find_format(
    location: Location,
    is_folder: bool,
    wanted: Wanted,
    chosen: str = "auto",
    format_of: Callable[[str], str | None] = packed_as,
    formats: Sequence[str] = ("tar", "zip", "parquet"),
    in_shards: Sequence[str] = ("parquet", "tar"),
) -> tuple[str, Location]:
    """Format of a location, and the location to read: of a folder with one archive beside its papers, that archive.

    Args:
        location: what was opened.
        is_folder: whether it is a folder.
        wanted: the modality's words.
        chosen: "folder" or one of `formats`, if the user said so.
        format_of: name of a file -> its format, if it is one that the modality opens.
        formats: what `format_of` can give, for the message.
        in_shards: those of them that can be several files.

    Raises:
        DataError: a file whose name does not tell its format, or a location that cannot have the chosen one.
    """
    if chosen == "auto":
        chosen, location = _detect(location, is_folder, wanted, format_of, formats, in_shards)
    if chosen == "folder" and not is_folder:
        raise DataError(f"{location.given} is a file, not a folder: set {wanted.modality}.ingest.format to auto.")
    may_be_several = chosen in in_shards and (
        chosen != "tar" or any(format_of(one.name) == "tar" for one in location.files)
    )
    if chosen in formats and not may_be_several and len(location.files) > 1:
        raise DataError(
            f"{location.given} is a folder of {len(location.files)} files, format {chosen} reads one: "
            f"set {wanted.modality}.ingest.source to the .{chosen} file itself."
        )
    return chosen, location


def _detect(
    location: Location,
    is_folder: bool,
    wanted: Wanted,
    format_of: Callable[[str], str | None],
    formats: Sequence[str],
    in_shards: Sequence[str],
) -> tuple[str, Location]:
    kinds = {file: kind for file in location.files if (kind := format_of(file.name))}
    if not is_folder:
        if not kinds:
            raise DataError(
                f"Cannot tell the format of {location.given} from its name: set {wanted.modality}.ingest.format to one "
                f"of {', '.join(formats)}, or point {wanted.modality}.ingest.source to a folder of {wanted.noun}."
            )
        return next(iter(kinds.values())), location
    found = set(kinds.values())
    if not any(wanted.has_suffix(file.name) for file in location.files):
        if len(kinds) == 1 and found != {"parquet"}:
            (file,) = kinds
            return kinds[file], Location(location.address(file), location.fs, (file,))
        if len(found) == 1 and found <= set(in_shards):
            return found.pop(), replace(location, files=tuple(kinds))
    return "folder", location


def _resolve(source: str, options: Mapping[str, Any], wanted: Wanted) -> tuple[Any, str]:
    """File system and path."""
    is_url = "://" in source or "::" in source
    if options and not is_url:
        named = [*wanted.embedded, *([wanted.library] if wanted.library else [])]
        takers = f"{', '.join(named)} and URLs" if named else "URLs"
        raise ConfigError(
            f"{wanted.modality}.ingest.options {sorted(options)} mean nothing to the path {source}: they are for "
            f"{takers}. Remove them, or check {wanted.modality}.ingest.source."
        )
    try:
        fs, path = fsspec.core.url_to_fs(source if is_url else os.path.abspath(os.path.expanduser(source)), **options)
    except (ValueError, ImportError, TypeError) as error:
        raise DataError(
            f"{wanted.modality}.ingest.source {source} cannot be opened: {error}. Check the part before :// and "
            f"{wanted.modality}.ingest.options, and install the package that this file system needs (s3fs for s3://, "
            "gcsfs for gs://)."
        ) from error
    return fs, path


def _not_served(given: str, fs: Any, path: str) -> str:
    """The message for an address that gives nothing. A server tells of no neighbours, and `exists` says no of one that
    cannot be reached, too."""
    said = ""
    try:
        fs.info(path)
    except Exception as error:
        said = "".join(f" ({line})" for line in str(error.__cause__ or error).splitlines()[:1])
    return f"{given} cannot be fetched{said}: check the address and the network, or download it and give the file"


def _nothing_there(given: str, fs: Any, path: str, wanted: Wanted) -> str:
    """The message for a wrong path: how far it is right, and what is there instead."""
    right = PurePosixPath(path)
    wrong = right.name
    while right != right.parent and not fs.isdir(str(right)):
        wrong, right = right.name, right.parent
    entries = [PurePosixPath(entry).name for entry in fs.ls(str(right), detail=False)] if fs.isdir(str(right)) else []
    shown = sorted(entry for entry in entries if not entry.startswith("."))
    near = difflib.get_close_matches(wrong, shown, n=3, cutoff=0.5)
    embedded = difflib.get_close_matches(given, wanted.embedded, n=1, cutoff=0.6)
    there = ", ".join(near or shown[:8]) or "nothing"
    hint = f" Or did you mean the embedded corpus {embedded[0]}?" if embedded else ""
    library = [f"{wanted.library}:<Class>"] if wanted.library else []
    *most, last = ["a folder", "an archive", "a URL", *wanted.embedded, *library]
    return (
        f"{wanted.modality}.ingest.source {given} does not exist: {right} holds no {wrong}, "
        f"but {'the similar ' if near else ''}{there}. Set {wanted.modality}.ingest.source to {', '.join(most)} or "
        f"{last}.{hint}"
    )


# ------------------------------------------------------------------------------------------- folders


def folder_source(location: Location, wanted: Wanted, annotator: Annotator | None = None) -> Source:
    """Every file of a folder but hidden ones; the reader says which of them are not items. Links are followed, for data
    sets are often links into a cache.

    Args:
        location: the folder.
        wanted: the modality's words, and which files are side files or papers.
        annotator: what the side files say; they are read when the first item is asked for.

    Raises:
        DataError: nothing but side files and papers. Reading items raises it too: a side file that cannot be read, or
            that names a split which is unknown.
    """
    roles = {file: wanted.role(file.key, annotator is not None) for file in location.files}
    files = [file for file, role in roles.items() if role == "item"]
    if not files:
        raise DataError(
            f"{location.given} holds no files but papers: put {wanted.noun} into it, or point "
            f"{wanted.modality}.ingest.source to where they are."
        )

    @functools.cache
    def layout() -> Layout:
        sides = {file.key: _read_side(location.fs, file) for file, role in roles.items() if role == "side"}
        said = annotator(sides) if annotator else None
        return find_layout((file.key for file in files), wanted, said=said)

    def items(start: int) -> Iterator[Item]:
        for file in files[start:]:
            yield _item_of(file, location, layout(), wanted)

    def ranges(start: int, stop: int) -> FileRange:
        some = files[start:stop]
        return FileRange(location.given, tuple(some), layout().of([file.key for file in some]), wanted)

    name, print_of = f"folder {location.given}", location.fingerprint
    return Source(name, print_of, len(files), items, remarks=lambda: layout().remarks, ranges=ranges)


@dataclass(frozen=True)
class FileRange:
    """Some files of a folder; see `d2v.data.sources.source.ItemRange`.

    It holds no file system: the pickle of one holds its storage options, and those that fsspec takes from the
    environment, such as a secret key.

    Attributes:
        given: the folder, as the user wrote it.
        files: these files alone.
        layout: of the folder, what it says of these files.
        wanted: the modality's words.
    """

    given: str
    files: tuple[Found, ...]
    layout: Layout
    wanted: Wanted

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises DataError if the first or the last is not as it was listed, or the storage fails."""
        with reading(self.given):
            check_some(self._location(options).fs, self.files, most=1)

    def items(self, options: Mapping[str, Any]) -> Iterator[Item]:
        """The files, in their order. Raises DataError where the storage fails."""
        with reading(self.given):
            location = self._location(options)
            for file in self.files:
                yield _item_of(file, location, self.layout, self.wanted)

    def _location(self, options: Mapping[str, Any]) -> Location:
        fs, _ = _resolve(self.given, options, self.wanted)
        return Location(self.given, fs, self.files, is_folder=True)


def _item_of(file: Found, location: Location, layout: Layout, wanted: Wanted) -> Item:
    refused = file.refused or too_large(file.size or 0, wanted)
    data = None
    if not refused:
        data, refused = read_file(location.fs, file.path, wanted)
    return layout.item(file.key, data, refused, location.address(file))


def file_source(path: str) -> Source:
    """A file that is one item, whatever its name; the reader says whether it is too large.

    Args:
        path: of a local file.
    """

    def items(start: int) -> Iterator[Item]:
        if not start:
            found = Item(PurePosixPath(path).name, None, address=path)
            try:
                with open_file(LocalFileSystem(), path) as file:
                    found = replace(found, data=file.read())
            except NotAFile:
                found = replace(found, refused=NOT_A_FILE)
            except OSError as error:
                found = replace(found, refused=f"unreadable: {error.strerror or error}")
            yield found

    return Source(path, "", 1, items)


def read_file(fs: Any, path: str, wanted: Wanted) -> tuple[bytes | None, str | None]:
    """Content of a file, or why not; one byte too many is asked for, as a size may be unknown or have changed."""
    try:
        with open_file(fs, path) as file:
            content = _read_at_most(file, wanted.max_item_bytes + 1)
    except OSError as error:
        return None, unreadable(error)
    refused = too_large(len(content), wanted)
    return (None, refused) if refused else (content, None)


def _read_at_most(file: IO[bytes], size: int) -> bytes:
    """So many bytes of a file. They are asked for piece by piece, for Python reserves memory for all that is asked."""
    pieces: list[bytes] = []
    while size > 0:
        asked = min(size, PIECE_BYTES)
        pieces.append(file.read(asked))
        size -= asked
        if len(pieces[-1]) < asked:
            break
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _read_side(fs: Any, file: Found) -> bytes:
    if file.refused:
        raise side_error(file.path, file.refused)
    try:
        with open_file(fs, file.path) as stream:
            content: bytes = stream.read(SIDE_BYTES + 1)
    except OSError as error:
        raise side_error(file.path, str(error)) from error
    if len(content) > SIDE_BYTES:
        raise side_error(file.path, f"it is larger than {SIDE_BYTES:,} bytes")
    return content


def side_error(path: str, reason: str) -> DataError:
    """The error for a file beside the items that cannot be read."""
    return DataError(
        f"{path} cannot be read ({reason}), but it says what the items beside it are: mend it, or remove it to do "
        "without."
    )


# ------------------------------------------------------------------------------------- disk and network


@contextmanager
def reading(given: str) -> Iterator[None]:
    """Turn a failure of the disk or network, while something is read from `given`, into a DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"Reading {given} failed: {error}. Check the disk, the network and the permissions, and run the same "
            "command again: it goes on where it stopped."
        ) from error


def guarded(source: Source, given: str) -> Source:
    """The same source, whose items raise DataError where the disk or network fails; going on from the last item is
    then safe."""

    def items(start: int) -> Iterator[Item]:
        with reading(given):
            yield from source.items(start)

    return replace(source, items=items)
