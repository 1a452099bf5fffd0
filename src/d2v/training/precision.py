"""Which number format to train in: asked for, or found by trying."""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import nn

from d2v.errors import ConfigError

Precision = Literal["fp32", "bf16"]

_WORTHWHILE_SPEEDUP = 1.2
_TRIALS = 5


def choose_precision(wanted: str, device: torch.device) -> tuple[Precision, str]:
    """The format of the matrix products, and why.

    Parameters, teacher and losses stay in fp32 either way. `auto` takes bf16 on a GPU that has it, and on a CPU
    with bf16 instructions if a small transformer layer runs at least 1.2 times as fast with them.

    Raises:
        ConfigError: bf16 is asked for on a GPU without it.
    """
    if wanted == "fp32":
        return "fp32", "as the recipe says"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        if wanted == "bf16" and not native:
            raise ConfigError("train.precision bf16: this GPU has no bf16 units: set train.precision=fp32.")
        return ("bf16", "the GPU has it") if native else ("fp32", "the GPU has no bf16")
    if wanted == "bf16":
        return "bf16", "as the recipe says"
    if not _cpu_has_bf16():
        return "fp32", "the CPU has no bf16 instructions"
    speedup = _measure_speedup()
    reason = f"bf16 runs {speedup:.2f} times as fast as fp32 on this CPU"
    return ("bf16", reason) if speedup >= _WORTHWHILE_SPEEDUP else ("fp32", reason)


def _cpu_has_bf16() -> bool:
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _measure_speedup() -> float:
    """fp32 time over bf16 time of a feed-forward layer's forward and backward pass, best of a few."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        layer = nn.Sequential(nn.LayerNorm(256), nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 256))
        x = torch.randn(1024, 256)
        return _best_time_s(layer, x, bf16=False) / _best_time_s(layer, x, bf16=True)


def _best_time_s(layer: nn.Module, x: torch.Tensor, bf16: bool) -> float:
    times = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(x)
        y.float().square().sum().backward()
        times.append(time.perf_counter() - start)
    return min(times[1:])
