"""The files of a folder on any fsspec file system."""

from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.layout import is_hidden, split_path

STAMPS = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")


class Found(NamedTuple):
    """One file of a location. `stamp` changes when the file does; `refused` says why it must not be opened."""

    key: str
    path: str
    size: int | None
    stamp: str
    refused: str | None = None

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name


def find_file(fs: Any, path: str, key: str) -> Found:
    """One file under a key of its own; unreadable ones and pipes are refused.

    Raises:
        FileNotFoundError: it is not there, on a file system that is not the local one.
    """
    return _found_locally(path, key) if isinstance(fs, LocalFileSystem) else _described(path, key, fs.info(path))


def list_files(fs: Any, path: str) -> list[Found]:
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
                found.append(_found_locally(full, os.path.relpath(full, path).replace(os.sep, "/")))
    return found


def _leads_back(folder: str, name: str) -> bool:
    """Whether a linked folder is one of the folders above it."""
    full = os.path.join(folder, name)
    target = os.path.realpath(full)
    return os.path.islink(full) and os.path.commonpath([target, os.path.realpath(folder)]) == target


def _found_locally(path: str, key: str) -> Found:
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
