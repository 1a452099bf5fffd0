"""Which library multiplies float32 matrices on a CPU.

torch gives them to its BLAS, which on some processors reaches half of what oneDNN does with the same error. The switch
that lets oneDNN have them, `torch.set_float32_matmul_precision`, allows bf16 inside where the processor has units for
it, so its error is measured and not assumed.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

MatmulBackend = Literal["blas", "onednn"]

_SWITCH: dict[MatmulBackend, str] = {"blas": "highest", "onednn": "medium"}
_sharing = threading.Lock()
_inside: list[str] = []
"""For each block that computes with oneDNN, the switch that it found."""
_SHAPE = (1024, 512, 1536)
"""Rows, channels before and after of the product that is timed: 1.6 GFLOP."""
_REPEATS = 7
_WORTH = 1.2
"""oneDNN is taken if it is so many times as fast: far from both 1 and the 2 where it matters, so that a busy machine
makes the same choice as an idle one."""
_SAME_ERROR = 4.0


def choose_matmul_backend(wanted: str, precision: str, device: torch.device) -> tuple[MatmulBackend, str]:
    """What should multiply float32 matrices, and why; the reason is empty where training has none to multiply.

    Args:
        wanted: blas, onednn, or auto: oneDNN on a CPU where it is much faster and no less exact, which takes a tenth of
            a second to find out.
        precision: of the training's products.
        device: that computes.
    """
    if precision != "fp32" or device.type != "cpu":
        return "blas", ""
    if wanted == "blas" or not _can_switch():
        return "blas", "torch's own library multiplies"
    if wanted == "onednn":
        return "onednn", "oneDNN multiplies, as the recipe says"
    ratio, blas, onednn = _compared(torch.get_num_threads())
    compared = f"{ratio:.1f} times as fast as torch's own library, error {onednn:.0e} against {blas:.0e}"
    if onednn > _SAME_ERROR * blas:
        return "blas", f"oneDNN is less exact: {compared}"
    return ("onednn" if ratio >= _WORTH else "blas"), f"oneDNN is {compared}"


@functools.cache
def _compared(threads: int) -> tuple[float, float, float]:
    """How many times as fast oneDNN is, and the errors of both. A process finds that out once for each number of
    threads, so that what it computes twice is the same."""
    x, weight = _example()
    seconds = _fastest_s(x, weight)
    return seconds["blas"] / seconds["onednn"], *_errors(x, weight)


def keep_matmul_backend(library: MatmulBackend, device: torch.device) -> tuple[MatmulBackend, str]:
    """What a run that began with `library` goes on with, and why: the same, unless this is another kind of device or
    oneDNN is less exact on this processor."""
    if device.type != "cpu":
        return "blas", ""
    if library == "onednn":
        blas, onednn = _errors(*_example()) if _can_switch() else (0.0, 1.0)
        if onednn > _SAME_ERROR * blas:
            return "blas", "oneDNN, which the run began with, is less exact here: torch's own library multiplies"
    return library, f"{library} multiplies, as in the checkpoint"


@contextmanager
def using_matmul_backend(library: MatmulBackend) -> Iterator[None]:
    """Inside, oneDNN multiplies float32 matrices on the CPU if it should. Several threads may be inside at a time, and
    blocks inside one another; when the last of them ends, what was set before comes back."""
    if library == "blas":
        yield
        return
    with _sharing:
        _inside.append(torch.get_float32_matmul_precision() if not _inside else _inside[0])
        torch.set_float32_matmul_precision(_SWITCH[library])
    try:
        yield
    finally:
        with _sharing:
            before = _inside.pop()
            if not _inside:
                torch.set_float32_matmul_precision(before)


@contextmanager
def fast_products(like: Tensor) -> Iterator[None]:
    """Inside, float32 matrices on the CPU are multiplied by what is fastest at the same error.

    Args:
        like: a parameter of the model.
    """
    is_float32 = like.dtype == torch.float32 and like.device.type == "cpu"
    with using_matmul_backend("onednn" if is_float32 and _onednn_pays() else "blas"):
        yield


@contextmanager
def inference(like: Tensor) -> Iterator[None]:
    """The same without gradients."""
    with torch.inference_mode(), fast_products(like):
        yield


def _onednn_pays() -> bool:
    return choose_matmul_backend("auto", "fp32", torch.device("cpu"))[0] == "onednn"


@contextmanager
def _switched(library: MatmulBackend) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(_SWITCH[library])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _can_switch() -> bool:
    """False without oneDNN, and where the program has set torch's newer switches, which this one must not be mixed
    with."""
    try:
        torch.get_float32_matmul_precision()
    except RuntimeError:
        return False
    return torch.backends.mkldnn.is_available()


def _example() -> tuple[Tensor, Tensor]:
    """Inputs and weights, always the same."""
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, _SHAPE[1], generator=generator) for rows in (_SHAPE[0], _SHAPE[2]))
    return x, weight


def _fastest_s(x: Tensor, weight: Tensor) -> dict[MatmulBackend, float]:
    """By turns, so that a busy moment falls on both."""
    seconds = dict.fromkeys(_SWITCH, float("inf"))
    for _ in range(_REPEATS):
        for library in _SWITCH:
            with _switched(library):
                began = time.perf_counter()
                F.linear(x, weight)
                seconds[library] = min(seconds[library], time.perf_counter() - began)
    return seconds


_FORMS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    F.linear,
    lambda x, weight: (weight @ x.t()).t(),
    lambda x, weight: torch.bmm(x.unflatten(0, (4, -1)), weight.t().expand(4, -1, -1)).flatten(0, 1),
    lambda x, weight: torch.zeros(len(x), len(weight), dtype=x.dtype).addmm_(x, weight.t()),
)
"""Ways to the same product: each may go through other code."""


def _errors(x: Tensor, weight: Tensor) -> tuple[float, float]:
    """Largest error over the largest value, of the BLAS and of oneDNN."""
    exact = F.linear(x.double(), weight.double())
    errors = []
    for library in _SWITCH:
        with _switched(library):
            errors.append(max(float((form(x, weight) - exact).abs().max()) for form in _FORMS))
    largest = float(exact.abs().max())
    return errors[0] / largest, errors[1] / largest
