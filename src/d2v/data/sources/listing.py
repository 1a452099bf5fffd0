"""The files of a folder on any fsspec file system."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.layout import is_hidden, split_path
from d2v.errors import DataError
from d2v.progress import PLAIN_INTERVAL_S, log

STAMPS = ("etag", "ETag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
NOT_A_FILE = "it is a device or a pipe, not a file"
LOOKED_AT = 16
"""Files of a folder that was listed elsewhere."""
OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
"""Errors that speak of one file, not of its disk."""


_known: ContextVar[dict[str, list[Found]] | None] = ContextVar("known", default=None)


class NotAFile(OSError):
    """What was to be opened is a device, a pipe or a socket."""


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


@contextmanager
def listed(known: dict[str, list[Found]]) -> Iterator[None]:
    """In the block, folders that are listed are noted in `known`, and those that it names are not listed again: some of
    their files are looked at instead."""
    before = _known.set(known)
    try:
        yield
    finally:
        _known.reset(before)


def list_files(fs: Any, path: str) -> list[Found]:
    """All files of a folder, hidden ones left out; broken links, pipes and folders that cannot be read are listed as
    refused."""
    known, name = _known.get(), f"{fs.protocol} {path}"
    if known is not None and name in known:
        check_some(fs, known[name])
        return known[name]
    found = _list_files(fs, path)
    if known is not None:
        known[name] = found
    return found


def check_some(fs: Any, files: Sequence[Found], most: int = LOOKED_AT) -> None:
    """Look at some files, the first and the last among them.

    Raises:
        DataError: one is not as it was listed.
        OSError: the disk or the network failed.
    """
    chosen = files[:: max(len(files) // most, 1)]
    for file in [*chosen, *files[-1:]]:
        try:
            now = find_file(fs, file.path, file.key)
        except OSError as error:
            now = file._replace(refused=unreadable(error))
        if now != file:
            raise DataError(f"{file.path} is not as it was when its folder was listed ({now.refused or 'it changed'})")


def _list_files(fs: Any, path: str) -> list[Found]:
    if isinstance(fs, LocalFileSystem):
        return _list_local(path)
    prefix = path.rstrip("/") + "/"
    keys = {full: (full.removeprefix(prefix), info) for full, info in fs.find(path, detail=True).items()}
    return [_described(full, key, info) for full, (key, info) in keys.items() if not is_hidden(key)]


def _list_local(path: str) -> list[Found]:
    """All files below a folder. Links to folders are followed, and each folder is read once, whatever links lead to it;
    its own name wins over a link's. fsspec's own listing does not follow them."""
    found: list[Found] = []
    visited: set[tuple[int, int]] = set()
    folders, links, passed_over = deque([path]), deque[str](), 0
    told_s = time.monotonic()
    while folders or links:
        is_link = not folders
        folder = links.popleft() if is_link else folders.popleft()
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            if identity in visited:
                passed_over += 1
                continue
            visited.add(identity)
            with os.scandir(folder) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            if folder == path:
                raise
            found.append(Found(_key(folder, path), folder, None, "", f"unreadable: {error.strerror}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(entry.path)
            else:
                found.append(_found_locally(entry.path, _key(entry.path, path)))
        if time.monotonic() - told_s > PLAIN_INTERVAL_S:
            log(f"list: {len(visited):,} folders and {len(found):,} files so far")
            told_s = time.monotonic()
    if passed_over:
        log(f"list: {passed_over:,} links lead to folders that are read under another name, and are not followed")
    return found


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle; the file says so
        return False


def _key(path: str, top: str) -> str:
    inside = os.path.join(top, "")
    key = path[len(inside) :] if path.startswith(inside) else os.path.relpath(path, top)  # which takes 10 microseconds
    return key.replace(os.sep, "/")


def _found_locally(path: str, key: str) -> Found:
    key = "/".join(split_path(key))
    try:
        found = os.stat(path)
    except OSError as error:
        return Found(key, path, None, "", f"unreadable: {error.strerror}")
    refused = None if stat.S_ISREG(found.st_mode) else NOT_A_FILE
    return Found(key, path, found.st_size, str(found.st_mtime_ns), refused)


def open_file(fs: Any, path: str) -> IO[bytes]:
    """A file for reading. Local ones are looked at again once they are open, for a pipe that has taken a file's place
    would be waited for without end.

    Raises:
        NotAFile: it is a device, a pipe or a socket.
    """
    if not isinstance(fs, LocalFileSystem):
        opened: IO[bytes] = fs.open(path, "rb")
        return opened
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory") if stat.S_ISDIR(mode) else NotAFile(NOT_A_FILE)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def unreadable(error: OSError) -> str:
    """Why one file cannot be read. Raises the error again if it is the disk or the network that failed."""
    if isinstance(error, NotAFile) or error.errno == errno.ENXIO:  # sockets cannot be opened
        return NOT_A_FILE
    if error.errno in OF_ONE_FILE or isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return f"unreadable: {error.strerror or error}"
    raise error


def _described(path: str, key: str, info: dict[str, Any]) -> Found:
    stamps = (str(info[stamp]) for stamp in STAMPS if info.get(stamp))
    return Found(key, path, info.get("size"), next(stamps, ""))
