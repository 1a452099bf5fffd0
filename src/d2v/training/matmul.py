"""Which library multiplies float32 matrices on a CPU.

torch gives them to its BLAS. Where that is Intel's MKL on a processor of another maker, it reaches half of what oneDNN
does with the same error. The switch that lets oneDNN have them, `torch.set_float32_matmul_precision`, allows bf16
inside where there are units for it, so its error is measured and not assumed. The speed is not timed: a busy machine
would choose differently, and the same command must train the same model.
"""

from __future__ import annotations

import functools
import platform
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.models.ops.linear import ONEDNN_SWITCH, linear

MatmulBackend = Literal["blas", "onednn"]

_SWITCH: dict[MatmulBackend, str] = {"blas": "highest", "onednn": ONEDNN_SWITCH}
_sharing = threading.Lock()
_inside: list[str] = []
"""For each block that computes with oneDNN, the switch that it found."""
_SHAPE = (1024, 512, 1536)
"""Rows, channels before and after of the product whose error is measured."""
_SAME_ERROR = 4.0


def choose_matmul_backend(wanted: str, precision: str, device: torch.device) -> tuple[MatmulBackend, str]:
    """What should multiply float32 matrices, and why; the reason is empty where training has none to multiply.

    Args:
        wanted: blas, onednn, or auto: oneDNN on a CPU where torch's BLAS is slow and oneDNN no less exact.
        precision: of the training's products.
        device: that computes.
    """
    if precision != "fp32" or device.type != "cpu":
        return "blas", ""
    if wanted == "blas" or not _can_switch():
        return "blas", "torch's own library multiplies"
    if wanted == "onednn":
        return "onednn", "oneDNN multiplies, as the recipe says"
    if not _blas_is_slow():
        return "blas", "torch's own library suits this processor"
    blas, onednn = _errors()
    compared = f"error {onednn:.0e} against {blas:.0e}"
    if onednn > _SAME_ERROR * blas:
        return "blas", f"oneDNN is less exact: {compared}"
    return "onednn", f"oneDNN is faster than MKL on processors that are not Intel's: {compared}"


def _blas_is_slow() -> bool:
    """Is torch's BLAS MKL, on a processor for which MKL has no code of its own?"""
    return torch.backends.mkl.is_available() and "GenuineIntel" not in _processor()


@functools.cache
def _processor() -> str:
    """Text that holds the maker's id, as `GenuineIntel` or `AuthenticAMD`."""
    try:
        return Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor()


def keep_matmul_backend(library: MatmulBackend, device: torch.device) -> tuple[MatmulBackend, str]:
    """What a run that began with `library` goes on with, and why: the same, unless this is another kind of device or
    oneDNN is less exact on this processor."""
    if device.type != "cpu":
        return "blas", ""
    if library == "onednn":
        blas, onednn = _errors() if _can_switch() else (0.0, 1.0)
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


_FORMS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    F.linear,
    lambda x, weight: linear(x, weight, x.new_zeros(len(weight))),
    lambda x, weight: (weight @ x.t()).t(),
    lambda x, weight: torch.bmm(x.unflatten(0, (4, -1)), weight.t().expand(4, -1, -1)).flatten(0, 1),
    lambda x, weight: torch.zeros(len(x), len(weight), dtype=x.dtype).addmm_(x, weight.t()),
)
"""Ways to the same product: each may go through other code."""


@functools.cache
def _errors() -> tuple[float, float]:
    """Largest error over the largest value, of the BLAS and of oneDNN; a process measures them once."""
    x, weight = _example()
    exact = F.linear(x.double(), weight.double())
    errors = []
    for library in _SWITCH:
        with _switched(library):
            errors.append(max(float((form(x, weight) - exact).abs().max()) for form in _FORMS))
    largest = float(exact.abs().max())
    return errors[0] / largest, errors[1] / largest
