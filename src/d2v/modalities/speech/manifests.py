"""fairseq's manifests: a table per split that names recordings under one root, with letters or words beside it."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from d2v.data.lines import decoded, lines_of, single_spaced
from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.listing import Found, open_file, unreadable
from d2v.data.sources.locations import Location, read_file
from d2v.data.sources.row_sources import Split, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kinds_of_files
from d2v.errors import DataError
from d2v.modalities.speech.annotations import bare_name, of_librispeech

IN_ARCHIVE = re.compile(r"(?P<archive>.+):(?P<offset>\d+):(?P<length>\d+)$")


def is_manifest(fs: Any, file: Found) -> bool:
    """Whether a file begins as fairseq's manifests do: a line with nothing but a folder, then paths and lengths."""
    if not file.name.endswith(".tsv") or file.refused:
        return False
    with open_file(fs, file.path) as stream:
        first, second = stream.readline(4096), stream.readline(4096)
    return b"\t" not in first and re.fullmatch(rb"[^\t]+\t\d+\s*", second) is not None


def manifest_source(location: Location, wanted: Wanted, beside: Sequence[Found] = ()) -> Source:
    """All recordings that manifests name, in their order; the split is in the manifest's name.

    Args:
        location: the manifests, and the .wrd or .ltr files that hold their transcripts.
        wanted: the modality's words.
        beside: recordings in the same folder. Those that no manifest names are counted in `left_out`.

    Raises:
        DataError: a manifest that is damaged, whose recordings are not there, or whose transcripts are not as many.
    """
    manifests = [_Manifest(location, file, wanted) for file in location.files if file.name.endswith(".tsv")]
    kinds = kinds_of_files([one.file.name for one in manifests])
    splits = [Split(kind, len(one.rows), partial(_items, one)) for kind, one in zip(kinds, manifests, strict=True)]
    source = source_of_splits(f"manifest {location.given}", location.fingerprint, splits, None)
    return replace(source, left_out=tuple(_unnamed(location, manifests, beside, wanted)))


def _unnamed(
    location: Location, manifests: Sequence[_Manifest], beside: Sequence[Found], wanted: Wanted
) -> Iterator[str]:
    """What to say of recordings in the folder that no manifest names."""

    @functools.cache
    def real(folder: str) -> str:
        return os.path.realpath(folder) if isinstance(location.fs, LocalFileSystem) else folder

    def place(path: str) -> str:
        folder, _, name = posixpath.normpath(path).rpartition("/")
        return f"{real(folder)}/{name}"

    named = {place(f"{one.root}/{_archive_and_range(row)[0]}") for one in manifests for row in one.rows}
    unnamed = [file.key for file in beside if place(file.path) not in named]
    if unnamed:
        yield (
            f"{len(unnamed):,} {wanted.noun} in {location.given} are in none of its {len(manifests):,} manifests and "
            f"are left out, such as {unnamed[0]}: add a row for each, or remove the manifests to have all of them read"
        )


def _words_of_letters(line: str) -> list[str]:
    """C A T | S A T | -> CAT, SAT."""
    return line.replace(" ", "").replace("|", " ").split()


TRANSCRIPT_SUFFIXES: dict[str, Callable[[str], list[str]]] = {
    ".wrd": lambda line: single_spaced(line).split(" "),
    ".ltr": _words_of_letters,
}
"""Endings of the files beside a manifest, and how a line of one becomes words."""


@dataclass
class _Manifest:
    """One manifest: `rows` are paths under `root`, with their transcripts if there are some."""

    location: Location
    file: Found
    wanted: Wanted
    rows: list[str] = field(init=False)
    transcripts: list[str] | None = field(init=False)

    def __post_init__(self) -> None:
        self.stem = PurePosixPath(self.file.name).stem
        first, *lines = self._lines(self.file) or [""]
        self.rows = [line.split("\t")[0] for line in lines if line]
        self.root = self._find_root(first)
        self.transcripts = self._find_transcripts()

    def _lines(self, file: Found) -> list[str]:
        try:
            with open_file(self.location.fs, file.path) as stream:
                return lines_of(decoded(stream.read()))
        except UnicodeDecodeError as error:
            raise DataError(f"{file.path} is no UTF-8 text ({error}): write the manifest again.") from None

    def _find_root(self, given: str) -> str:
        """The folder of the first line: absolute, relative to the manifest, or, if it has moved, the manifest's own."""
        fs, beside = self.location.fs, str(PurePosixPath(self.file.path).parent)
        roots = [given.rstrip("/") or "/", f"{beside}/{given}", beside]
        if not self.rows:
            raise DataError(f"{self.file.path} names no {self.wanted.noun}: write the manifest again.")
        first = _archive_and_range(self.rows[0])[0]
        for root in roots:
            if fs.exists(f"{root}/{first}"):
                return root
        raise DataError(
            f"{self.file.path} says that its {self.wanted.noun} are under {given!r}, but {first} is neither there nor "
            "beside it: write the folder that holds them into its first line."
        )

    def _find_transcripts(self) -> list[str] | None:
        beside = {file.name: file for file in self.location.files}
        for suffix, to_words in TRANSCRIPT_SUFFIXES.items():
            file = beside.get(self.stem + suffix)
            if not file:
                continue
            found = [" ".join(to_words(line)) for line in self._lines(file)]
            if len(found) != len(self.rows):
                raise DataError(
                    f"{file.path} has {len(found):,} lines for the {len(self.rows):,} {self.wanted.noun} of "
                    f"{self.file.name}: write both again, or remove it to do without transcripts."
                )
            return found
        return None


def _archive_and_range(row: str) -> tuple[str, tuple[int, int] | None]:
    """Path of a row, and the range of bytes in it (offset, length) where it is in an uncompressed archive."""
    found = IN_ARCHIVE.fullmatch(row)
    return (found["archive"], (int(found["offset"]), int(found["length"]))) if found else (row, None)


def _items(manifest: _Manifest, start: int) -> Iterator[Item]:
    for number, row in enumerate(manifest.rows[start:], start):
        data, refused = _content(manifest, row)
        said = of_librispeech(bare_name(row))
        texts = dict(said.texts) if said else {}
        if manifest.transcripts:
            texts["transcript"] = manifest.transcripts[number]
        label = said.label if said else None
        address = f"{manifest.root}/{row}"
        yield Item(f"{manifest.stem}/{row}", data, label, refused=refused, texts=texts, address=address)


def _content(manifest: _Manifest, row: str) -> tuple[bytes | None, str | None]:
    """Content of a row, or why not."""
    fs, wanted = manifest.location.fs, manifest.wanted
    name, as_split = _archive_and_range(row)
    if as_split is None:
        return read_file(fs, f"{manifest.root}/{name}", wanted)
    offset, length = as_split
    if refused := too_large(length, wanted):
        return None, refused
    try:
        with open_file(fs, f"{manifest.root}/{name}") as archive:
            archive.seek(offset)
            content = archive.read(length)
    except OSError as error:
        return None, unreadable(error)
    return (content, None) if len(content) == length else (None, f"{name} ends before byte {offset + length:,}")
