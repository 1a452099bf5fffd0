"""Memory that a training process frees is kept for the next tensors instead of going back to the system."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -2, -3, -4
"""Parameters of glibc's mallopt."""
_KEEP = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1, M_TOP_PAD: 64 * 2**20}
"""No mapping of its own for a large block, nothing given back, and 64 MiB more at a time."""
_AFTER = {M_MMAP_MAX: 65_536, M_MMAP_THRESHOLD: 32 * 2**20, M_TRIM_THRESHOLD: 64 * 2**20, M_TOP_PAD: 128 * 2**10}
"""What glibc's own thresholds grow to in a program that frees large blocks; set by hand they grow no more."""

_holders: list[torch.device] = []


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Inside, this process keeps the memory that it frees, if it computes on the CPU with glibc.

    By default every large tensor's memory goes back to the system when it is freed, and the next one's comes back page
    by page, each of them zeroed first: a tenth of a training step. Where MALLOC_* or GLIBC_TUNABLES say something of
    malloc, they stay as they are.
    """
    libc = _glibc() if device.type == "cpu" and not _is_tuned() else None
    if libc is None:
        yield
        return
    _holders.append(device)
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _holders.pop()
        if not _holders:
            _set(libc, _AFTER)
            libc.malloc_trim(0)


@contextmanager
def old_objects_uncollected() -> Iterator[None]:
    """Inside, Python's cyclic collector leaves alone what is there already: half a million objects of imported modules,
    which it else walks through again and again, a fifth of a second each time."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _is_tuned() -> bool:
    names = any(name.startswith("MALLOC_") for name in os.environ)
    return names or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _set(libc: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for key, value in parameters.items():
        libc.mallopt(key, value)
