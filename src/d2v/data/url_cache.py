"""Files behind URLs on this machine's disk: fetched once, least recently used ones removed above a limit.

`D2V_CACHE` is the folder (~/.cache/d2v), `D2V_CACHE_GB` the limit (20). A file that changed is fetched again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources.listing import Found, find_file, list_files, open_file
from d2v.data.url_paths import INSTALL, place_of
from d2v.errors import ConfigError, D2vError, DataError, is_disk_full, is_of_storage
from d2v.progress import log

FOLDER, LIMIT_GB = "D2V_CACHE", "D2V_CACHE_GB"
USUAL_GB = 20.0
TOLD_BYTES = 10**8
ROOM = "room"
"""A key without content: what is set makes room."""


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A local copy of a file, or of a folder with all its files, for the block.

    Raises:
        DataError: there is nothing, or the storage fails.
        ConfigError: a package is missing, the limit is no size, or the cache's folder cannot be made.
    """
    place: Any = place_of(url)
    try:
        is_folder = place.fs.isdir(place.path)
        files = list_files(place.fs, place.path) if is_folder else [find_file(place.fs, place.path, place.name)]
        if not files:
            raise FileNotFoundError(url)
        with _cache() as cache, tempfile.TemporaryDirectory(prefix="use-", dir=cache.directory) as folder:
            copy = Path(folder) / place.name
            for file in files:
                local = copy / file.key if is_folder else copy
                local.parent.mkdir(parents=True, exist_ok=True)
                _bring(cache, place.fs, file, url, local)
            yield copy
    except OSError as error:
        raise _failed(url, error) from error
    except Exception as error:
        if isinstance(error, D2vError) or not is_of_storage(error):
            raise
        raise _failed(url, error) from error


def _failed(url: str, error: Exception) -> DataError:
    if is_disk_full(error):
        return DataError(f"{url} cannot be fetched ({error}): make room, or set {FOLDER} to a folder on a larger disk")
    said = "nothing is there" if isinstance(error, FileNotFoundError) else str(error)
    return DataError(f"{url} cannot be fetched ({said}): check the address, the network and the credentials")


def _cache() -> Any:
    try:
        from diskcache import Cache, Disk
    except ImportError as error:
        raise ConfigError(f"files behind URLs need the package diskcache: {INSTALL}") from error
    given = os.environ.get(LIMIT_GB, "")
    try:
        limit_bytes = int(float(given or USUAL_GB) * 1e9)
    except (ValueError, OverflowError):
        limit_bytes = -1
    if limit_bytes < 0:
        raise ConfigError(f"{LIMIT_GB}={given} is no size: give gigabytes, such as {LIMIT_GB}=20; 0 keeps nothing")
    folder = Path(os.environ.get(FOLDER) or Path.home() / ".cache" / "d2v")
    rules = {"size_limit": limit_bytes, "eviction_policy": "least-recently-used", "disk_min_file_size": 0}
    try:
        # cull_limit: files that go at once when one comes, 10 if nobody says
        return Cache(str(folder), **rules, cull_limit=1, disk=_whole_files(Disk))
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(
            f"{folder} cannot hold the cache ({error}): set {FOLDER} to a folder on this machine"
        ) from error


def _whole_files(disk: type[Any]) -> type[Any]:
    """diskcache's `Disk`, which leaves what it has of a stream that breaks off, and never counts or removes it."""

    class WholeFiles(disk):
        def filename(self, *args: Any, **kwargs: Any) -> tuple[str, str]:
            name, self.begun = super().filename(*args, **kwargs)
            return name, self.begun

        def store(self, *args: Any, **kwargs: Any) -> Any:
            self.begun = None
            try:
                return super().store(*args, **kwargs)
            except BaseException:
                if self.begun:
                    Path(self.begun).unlink(missing_ok=True)
                raise

    return WholeFiles


@contextmanager
def opened_near(filesystem: Any, path: str) -> Iterator[IO[bytes]]:
    """A file for reading that is gone through more than once: behind a URL its copy in the cache. What is larger than
    the cache or finds its disk full, or does not tell when it changes, is read from afar each time, and so is all
    without a cache.

    Raises:
        NotAFile: it is a device, a pipe or a socket.
    """
    if not isinstance(filesystem, LocalFileSystem) and find_spec("diskcache") is not None:
        file, url = find_file(filesystem, path, ""), filesystem.unstrip_protocol(path)
        handle = None
        try:
            if file.stamp and file.size:
                with _cache() as cache:
                    handle = _kept(cache, filesystem, file, url)
        except (ConfigError, OSError, sqlite3.Error) as error:
            if isinstance(error, OSError) and not is_disk_full(error):
                raise
            log(f"{url} is read from afar each time: {error}")
        if handle is not None:
            with handle:
                yield handle
            return
    with open_file(filesystem, path) as stream:
        yield stream


def _kept(cache: Any, filesystem: Any, file: Found, url: str) -> IO[bytes] | None:
    """A file from the cache, into which one process of this machine fetches it; None where it may not keep it."""
    key = f"{url} {file.key} {file.size} {file.stamp}"
    handle: IO[bytes] | None = cache.get(key, read=True)
    if handle is not None or (file.size or 0) >= cache.size_limit:
        return handle
    with FileLock(Path(cache.directory) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.lock"):
        if (handle := cache.get(key, read=True)) is not None:
            return handle
        if (file.size or 0) > TOLD_BYTES:
            log(f"{url} is fetched into {cache.directory}, {(file.size or 0) / 1e9:,.1f} GB")
        with filesystem.open(file.path, "rb") as content:
            cache.set(key, content, read=True)
        handle = cache.get(key, read=True)
        if handle is not None:
            try:
                _check_size(file, os.fstat(handle.fileno()).st_size, url)
            except ConnectionError:
                handle.close()
                cache.delete(key)
                raise
        while cache.volume() > cache.size_limit and len(cache) > 1:
            cache.set(ROOM, None)  # one more goes; what is open can be read all the same
        return handle


def _check_size(file: Found, came: int, url: str) -> None:
    """Raises ConnectionError if a server ended in the middle of a file, which it may do without an error."""
    if file.size not in (None, came):
        raise ConnectionError(f"{came:,} of {file.size:,} bytes of {url} arrived")


def _bring(cache: Any, filesystem: Any, file: Found, url: str, local: Path) -> None:
    """Link a file from the cache, or have it fetched where the cache may not keep it."""
    handle = _kept(cache, filesystem, file, url)
    if handle is None:
        filesystem.get_file(file.path, str(local))
        _check_size(file, local.stat().st_size, url)
        return
    with handle:
        try:
            os.link(handle.name, local)
        except OSError:  # another process has just removed it, or there are no links: it is still open
            with local.open("wb") as sink:
                shutil.copyfileobj(handle, sink)
