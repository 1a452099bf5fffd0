"""The speed of matrix products on this machine, as a yardstick for trainings."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_ROWS, _IN, _OUT = 1280, 768, 3072
_ON_GPU = 8
"""A GPU needs more rows and channels, by this factor each, to be filled."""
_REPEATS = 9


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations per second of the fastest of the ways to multiply (1280, 768) by (768, 3072).

    On a CPU torch has two libraries for float32, of which the one that it takes by itself can be the slower.
    """
    factor = _ON_GPU if device.type == "cuda" else 1
    x = torch.randn(factor * _ROWS, factor * _IN, device=device, dtype=dtype)
    weight = torch.randn(factor * _OUT, factor * _IN, device=device, dtype=dtype)
    operations = 2.0 * len(x) * weight.numel()
    ways: list[Callable[[Tensor, Tensor], Tensor]] = [F.linear]
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        ways.append(_through_onednn)
    return max(operations / _fastest_s(way, x, weight) for way in ways)


def _through_onednn(x: Tensor, weight: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product


@torch.no_grad()
def _fastest_s(multiply: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor) -> float:
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        multiply(x, weight)
        if x.is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times)
