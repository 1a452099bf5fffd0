"""Errors of the system and of libraries, and the sentence that a user reads."""

import errno
import os
import re
import sqlite3
from pathlib import Path

import pytest
import torch

from d2v.errors import CheckpointError, D2vError, DataError, known_error


def wrapped(error: Exception) -> D2vError | None:
    """As a library or Kedro would raise it."""
    try:
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("Failed while saving") from inner
    except RuntimeError as outer:
        return known_error(outer)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EACCES, "this user may read and write there"),
        (errno.EROFS, "make it writable, or set D2V_DATA"),
        (errno.ENOENT, "put it back, or run the step that makes it"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "d2v verify"),
    ],
)
def test_an_error_of_the_system_names_the_file_and_what_to_do(number: int, remedy: str) -> None:
    known = wrapped(OSError(number, os.strerror(number), "data/corpus.json"))
    assert isinstance(known, DataError)
    said = str(known)
    assert said.startswith(f"data/corpus.json cannot be used ({os.strerror(number)})")
    assert remedy in said
    assert said.endswith("the same command goes on")


def test_memory_that_is_not_there() -> None:
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        known = wrapped(error)
        assert known is not None
        assert known.exit_code == 3
        assert re.search("not enough memory.*train.batch_size", str(known))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert "not enough memory" in str(known_error(caught.value))


def test_the_tracking_store_is_named_whatever_its_library() -> None:
    known = wrapped(sqlite3.OperationalError("disk I/O error"))
    assert isinstance(known, CheckpointError)
    assert "tracking store" in str(known)


def test_other_errors_of_the_system_stay_defects(tmp_path: Path) -> None:
    assert wrapped(OSError(errno.EINVAL, "Invalid argument")) is None
    assert wrapped(OSError("a library's own")) is None
