"""Atomic files and folders, and clear errors for full disks."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from d2v.errors import D2vError
from d2v.progress import log

P = ParamSpec("P")
R = TypeVar("R")


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is either the old one or the new one, whenever the process dies."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def read_json(
    path: Path, error: type[D2vError], remedy: str, needs: Mapping[str, type] | None = None
) -> dict[str, Any]:
    """The object in a JSON file that a step wrote.

    Args:
        path: of the file.
        error: what to raise if it is not there, damaged, or not what was written.
        remedy: the end of the message.
        needs: keys that it must have, and the types of their values.

    Raises:
        D2vError: `error`, with the file's name.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as cause:
        raise error(f"{path} cannot be read ({type(cause).__name__}: {cause}): {remedy}") from cause
    if not isinstance(content, dict):
        raise error(f"{path} is not what was written (it holds no JSON object): {remedy}")
    wrong = [key for key, kind in (needs or {}).items() if not isinstance(content.get(key), kind)]
    if wrong:
        raise error(f"{path} is not what was written (it lacks {', '.join(wrong)}): {remedy}")
    return content


def swap_in(new: Path, target: Path) -> None:
    """Put folder `new` at `target`; the folder that stood there is removed after that."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Let calls with the same folder `out` wait for one another, in other processes too; a lock ends with its process.

    The second call then finds what the first one left. Where `out` is a link, the function gets what it leads to: a
    folder that is swapped in would replace the link. A folder that cannot be written needs no lock; one behind a URL
    has none.

    Args:
        function: has a parameter `out`.
    """
    parameters = inspect.signature(function)

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = parameters.bind(*args, **kwargs)
        if "://" in str(bound.arguments["out"]):
            return function(*args, **kwargs)
        out = Path(bound.arguments["out"])
        if out.is_symlink():
            out = bound.arguments["out"] = out.resolve()
        lock = FileLock(out.with_name(f".{out.name}.writer.lock"))
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:
                log(f"another process works on {out}; waiting until it is done")
                lock.acquire()
        except OSError:
            return function(*bound.args, **bound.kwargs)
        try:
            return function(*bound.args, **bound.kwargs)
        finally:
            lock.release()

    return alone


@contextlib.contextmanager
def full_disk_named(folder: Path, error_type: type[D2vError], kept: str) -> Iterator[None]:
    """Turn "no space left" into `error_type` with the folder, the space that is left and the fix.

    Args:
        folder: where the writing goes.
        error_type: what to raise.
        kept: one sentence on what is safe.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
        if not full:
            raise
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free_mb = shutil.disk_usage(there).free / 1e6
        raise error_type(
            f"The disk of {folder} is full ({free_mb:,.0f} MB free). {kept} Free some space and run the same command."
        ) from error
