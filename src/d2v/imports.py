"""Imports that take seconds."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Let the garbage collector rest while large packages are imported. What they make stays until the end, and the
    collector would look through it again and again: a tenth of the time of importing torch or MLflow."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def absent(package: str) -> Iterator[None]:
    """Let the import of a package fail as if it were not installed, unless it has been imported before. For libraries
    that import a large package to ask it whether it is in use: one that nobody has imported is not."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
