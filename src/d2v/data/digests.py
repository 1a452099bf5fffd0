"""Digests of a folder's files: written once it is whole, checked when its files are read.

Disks, copies and hands change bytes without a word, and a changed weight still loads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from d2v.data.disk import write_json
from d2v.errors import D2vError

DIGESTS = "digests.json"
_known: dict[tuple[str, int, int], str] = {}
"""Path, bytes and time of change of a file -> its digest: a process reads it once."""


def of_file(file: Path) -> str:
    """SHA-256 of a file's content. Raises OSError."""
    about = file.stat()
    key = (str(file.resolve()), about.st_size, about.st_mtime_ns)
    if key not in _known:
        with file.open("rb") as content:
            _known[key] = hashlib.file_digest(content, "sha256").hexdigest()
    return _known[key]


def seal(folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Write the digests of a folder's files.

    Args:
        folder: whose files are whole.
        known: name below the folder -> digest, of files that whoever wrote them has hashed already.
    """
    write_json(folder / DIGESTS, of_files(folder, known))


def add(folder: Path, name: str) -> None:
    """Take a file that was written later into the list of a sealed folder; its other files keep their digests. A folder
    that is not sealed stays so."""
    if sealed := read(folder):
        write_json(folder / DIGESTS, dict(sorted((sealed | {name: of_file(folder / name)}).items())))


def remove(folder: Path, name: str) -> None:
    """Remove a file, and take it out of the list of a sealed folder; nothing where there is no such file."""
    (folder / name).unlink(missing_ok=True)
    if name in (sealed := read(folder) or {}):
        write_json(folder / DIGESTS, {other: digest for other, digest in sealed.items() if other != name})


def of_files(folder: Path, known: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name below the folder -> digest, of all files but hidden ones and the list itself; see `seal`."""
    known = known or {}
    return {name: known.get(name) or of_file(folder / name) for name in sorted(_files(folder))}


def check(folder: Path, names: Iterable[str], error: type[D2vError], remedy: str) -> None:
    """Check files of a sealed folder. Those that it was not sealed with, and folders of earlier versions, are not
    checked.

    Args:
        folder: that `seal` was called on.
        names: of its files, relative to it.
        error: what to raise.
        remedy: the end of the message.

    Raises:
        D2vError: a file is not what was written.
    """
    sealed = read(folder)
    for name in names:
        file = folder / name
        if name in sealed and file.is_file() and of_file(file) != sealed[name]:
            raise error(f"{file} is not what was written: its bytes changed since (SHA-256 differs). {remedy}")


def changed(folder: Path) -> list[str]:
    """Names of the files of a sealed folder that are not as they were written, or gone."""
    sealed = read(folder).items()
    return [name for name, digest in sealed if not (folder / name).is_file() or of_file(folder / name) != digest]


def read(folder: Path) -> dict[str, str]:
    """File -> digest; empty where a folder was never sealed, or its list is damaged."""
    try:
        sealed = json.loads((folder / DIGESTS).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(name): str(digest) for name, digest in sealed.items()} if isinstance(sealed, dict) else {}


def _files(folder: Path) -> Iterator[str]:
    for file in folder.rglob("*"):
        name = file.relative_to(folder)
        if file.is_file() and name.name != DIGESTS and not any(part.startswith(".") for part in name.parts):
            yield name.as_posix()
