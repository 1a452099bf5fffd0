"""How a CPU is made to multiply float32 matrices fast: which library does it, and what becomes of freed memory.

torch gives float32 products to its BLAS, which on some processors reaches half of what oneDNN does with the same
error. The switch that lets oneDNN have them, `torch.set_float32_matmul_precision`, allows bf16 inside where the
processor has units for it, so its error is measured and not assumed.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Library = Literal["blas", "onednn"]

_SWITCH: dict[Library, str] = {"blas": "highest", "onednn": "medium"}
_SHAPE = (1024, 512, 1536)
"""Rows, channels before and after of the product that is timed: 1.6 GFLOP."""
_REPEATS = 7
_WORTH = 1.2
"""oneDNN is taken if it is so many times as fast: far from both 1 and the 2 where it matters, so that a busy machine
makes the same choice as an idle one."""
_SAME_ERROR = 4.0

_KEEP = {-4: 0, -1: -1, -2: 2**26}
"""Parameters of glibc's mallopt: no memory of its own from the system for large blocks (M_MMAP_MAX), none given back
(M_TRIM_THRESHOLD), and 64 MiB at a time when there is too little (M_TOP_PAD)."""
_DEFAULTS = {-4: 65_536, -1: 131_072, -2: 131_072}


def choose_library(device: torch.device) -> tuple[Library, str]:
    """What should multiply float32 matrices, and why: oneDNN on a CPU where it is much faster and no less exact.

    Takes a tenth of a second.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return "blas", "torch's choice"
    x, weight = _example()
    seconds = _fastest_s(x, weight)
    blas, onednn = _errors(x, weight)
    ratio = seconds["blas"] / seconds["onednn"]
    compared = f"{ratio:.1f} times as fast as torch's own, error {onednn:.0e} against {blas:.0e}"
    if onednn > _SAME_ERROR * blas:
        return "blas", f"oneDNN is less exact: {compared}"
    return ("onednn" if ratio >= _WORTH else "blas"), f"oneDNN is {compared}"


def keep_library(library: Library) -> Library:
    """What a run that began with `library` goes on with: the same, unless oneDNN is less exact on this processor."""
    blas, onednn = _errors(*_example())
    return library if onednn <= _SAME_ERROR * blas else "blas"


def _example() -> tuple[Tensor, Tensor]:
    """Inputs and weights, always the same."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, _SHAPE[1], generator=generator) for rows in (_SHAPE[0], _SHAPE[2]))
    return x, weight


def _fastest_s(x: Tensor, weight: Tensor) -> dict[Library, float]:
    """By turns, so that a busy moment falls on both."""
    seconds = dict.fromkeys(_SWITCH, float("inf"))
    for _ in range(_REPEATS):
        for library in _SWITCH:
            with multiplied_by(library):
                began = time.perf_counter()
                F.linear(x, weight)
                seconds[library] = min(seconds[library], time.perf_counter() - began)
    return seconds


def _errors(x: Tensor, weight: Tensor) -> tuple[float, float]:
    """Largest error over the largest value, of the BLAS and of oneDNN."""
    exact = F.linear(x.double(), weight.double())
    errors = []
    for library in _SWITCH:
        with multiplied_by(library):
            errors.append(float((F.linear(x, weight) - exact).abs().max() / exact.abs().max()))
    return errors[0], errors[1]


@contextmanager
def multiplied_by(library: Library) -> Iterator[None]:
    """Inside, this library multiplies float32 matrices on the CPU; what was set before comes back."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(_SWITCH[library])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Inside, this process keeps the memory that it frees, if it computes on the CPU with glibc.

    By default every large tensor's memory goes back to the system when it is freed, and the next one's comes back page
    by page, each of them zeroed first: a tenth of a training step.
    """
    libc = _glibc() if device.type == "cpu" else None
    if libc is None:
        yield
        return
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _set(libc, _DEFAULTS)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _set(libc: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for key, value in parameters.items():
        libc.mallopt(key, value)
