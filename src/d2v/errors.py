"""The typed errors of d2v. Each message is one paragraph that ends with the fix."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator

_TRACKING = ("mlflow", "sqlalchemy", "sqlite3")
_STORAGE = ("botocore", "aiohttp", "aiobotocore", "s3fs", "gcsfs", "adlfs")
"""Libraries whose errors are explained; none of them is imported for it."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAY_NOT = "see that this user may read and write there"
_OF_FILES = {
    errno.EACCES: _MAY_NOT,
    errno.EPERM: _MAY_NOT,
    errno.EROFS: "its file system is read-only: make it writable, or set D2V_DATA to a folder that is",
    errno.ENOENT: "put it back, or run the step that makes it again",
    errno.EEXIST: "move the file that is in a folder's place away",
    errno.EISDIR: "move the folder that is in its place away",
    errno.ENOTDIR: "move the file that is in a folder's place away",
    errno.EFBIG: "raise the limit on the size of files there (ulimit -f, or that of the file system)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has too many open files",
    errno.EIO: "see whether the disk is failing, and check what is there with d2v verify",
    errno.ESTALE: "see whether the network's file system is there",
}
"""Errors of the system about files, and what to do."""
_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")


class D2vError(Exception):
    """Base of all errors that a user can mend. `exit_code` is the status the command ends with."""

    exit_code = 1


class ConfigError(D2vError):
    """A recipe that cannot be run: unknown keys, wrong values, impossible combinations."""

    exit_code = 2


class DataError(D2vError):
    """A source, a shard or a store that cannot be used."""

    exit_code = 3


class CheckpointError(D2vError):
    """A checkpoint that is damaged, or belongs to other data or another recipe."""

    exit_code = 4


class CollapseError(D2vError):
    """Representations collapsed, or the loss is not finite."""

    exit_code = 5


class LaunchError(D2vError):
    """A training process could not be started or died."""

    exit_code = 6


class Interrupted(D2vError):
    """Ctrl-C or SIGTERM: everything is saved and the same command goes on.

    Args:
        message: for people.
        by: name of the signal; the exit code is the shell's for it, 130 for SIGINT and 143 for SIGTERM.
    """

    def __init__(self, message: str, by: str = "SIGINT") -> None:
        super().__init__(message)
        self.exit_code = 128 + signal.Signals[by]


def known_error(error: BaseException) -> D2vError | None:
    """The error in the chain of `error` that a user can mend, however deep a library wrapped it; None for a defect."""
    links = list(_chain(error))
    for link in links:
        if isinstance(link, D2vError):
            return link
    if any(is_disk_full(link) for link in links):
        full = D2vError(
            "the disk is full. What was finished before is kept: free some space, and the same command goes on"
        )
        full.exit_code = 3
        return full
    if any(isinstance(link, MemoryError) or _is_out_of_memory(link) for link in links):
        short = D2vError(
            "there is not enough memory for this. What was finished before is kept: close other programs, or lower the "
            "sizes of the step (train.batch_size, evaluate.batch_size, ingest.max_item_bytes), then the same command "
            "goes on"
        )
        short.exit_code = 3
        return short
    if lost := next((link for link in links if "DataLoader worker (pid" in str(link)), None):
        return loader_ended(lost)
    for link in links:
        library, said = type(link).__module__.split(".")[0], next(iter(str(link).splitlines()), type(link).__name__)
        if library in _TRACKING:
            uri = os.environ.get("MLFLOW_TRACKING_URI", "the project's mlflow.db")
            return CheckpointError(
                f"the tracking store does not do what it is asked ({uri}: {said}). What was finished before is kept: "
                "see whether the store is there and may be written, then the same command goes on"
            )
        if library in _STORAGE:
            return DataError(
                f"the storage of a URL does not do what it is asked ({type(link).__name__}: {said}). What was finished "
                "before is kept: see whether the network is there and the environment holds credentials (a public "
                "bucket wants ingest.options.anon=true), then the same command goes on"
            )
    for link in links:
        if isinstance(link, OSError) and link.errno in _OF_FILES:
            where = f"{os.fspath(link.filename)!s} cannot be used" if link.filename else "a file cannot be used"
            return DataError(
                f"{where} ({link.strerror}). What was finished before is kept: {_OF_FILES[link.errno]}, then the same "
                "command goes on"
            )
    return None


def is_of_storage(error: BaseException) -> bool:
    """Whether a disk or a network failed, which may be over the next moment; a full disk is not."""
    links = list(_chain(error))
    failed = any(isinstance(link, OSError) or type(link).__module__.split(".")[0] in _STORAGE for link in links)
    return failed and not any(is_disk_full(link) for link in links)


def loader_ended(error: BaseException) -> DataError:
    """What PyTorch says of a process that loads data and was ended, wherever it says so."""
    return DataError(
        f"A process that loads data was ended ({str(error).splitlines()[0]}). If the system ran out of memory, it "
        "kills the largest process: lower train.data_workers (0 loads in the training itself). The same command goes "
        "on from the last checkpoint."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or any(said in str(error) for said in _MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether there is no room for a file, on a disk or in a quota."""
    return (isinstance(error, OSError) and error.errno in _DISK_FULL) or "database or disk is full" in str(error)
