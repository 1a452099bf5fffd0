"""How fast a run is, and against what: times, throughput, MFU, the progress line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from d2v.config import TrainConfig
from d2v.objectives.base import Objective
from d2v.training.engine import Engine

_PEAK_TFLOPS = {
    # Dense figures of the vendors' data sheets: (bf16, fp32 without TF32).
    "H200": (989.0, 67.0),
    "H100 PCIe": (756.0, 51.0),
    "H100": (989.0, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "L4": (121.0, 30.3),
    "A10": (125.0, 31.2),
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating point operations per second the device could do; None where that is not known (any CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [peaks for part, peaks in _PEAK_TFLOPS.items() if part in name]
    return known[0][0 if precision == "bf16" else 1] * 1e12 if known else None


class Stopwatch:
    """Wall time of updates since the last reading, split into waiting for data and the rest.

    The device is not waited for except in `read`, so the split is exact only on a CPU; the sum always is.
    """

    def __init__(self, engine: Engine, objective: Objective, recipe: TrainConfig) -> None:
        self._batch_size, self._max_updates = recipe.batch_size, recipe.max_updates
        self._device = engine.place.device
        self._flops_per_sample = objective.flops_per_sample()["total"]
        peak = peak_flops(self._device, engine.precision)
        self._peak = peak * engine.place.ranks if peak else None
        self._began = self._waiting_since = time.perf_counter()
        self._data_s = self._paused_s = 0.0
        self._updates = 0
        self._s_per_update: float | None = None

    def start(self) -> None:
        """Waiting for data begins."""
        self._waiting_since = time.perf_counter()

    def data_ready(self) -> None:
        """The data of one update is there."""
        self._data_s += time.perf_counter() - self._waiting_since
        self._updates += 1

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is no training: probes, checkpoints, monitors."""
        start = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Figures since the last reading."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elapsed_s = time.perf_counter() - self._began - self._paused_s
        updates = max(self._updates, 1)
        samples_per_s = updates * self._batch_size / elapsed_s
        figures = {
            "perf/samples_per_s": samples_per_s,
            "perf/data_ms": 1e3 * self._data_s / updates,
            "perf/step_ms": 1e3 * (elapsed_s - self._data_s) / updates,
        }
        if self._peak:
            figures["perf/mfu"] = samples_per_s * self._flops_per_sample / self._peak
        self._s_per_update = elapsed_s / updates
        self._began = time.perf_counter()
        self._data_s = self._paused_s = 0.0
        self._updates = 0
        return figures

    def seconds_left(self, update: int) -> float:
        """Until the last update, at the speed of the last reading."""
        return (self._max_updates - update) * (self._s_per_update or 0.0)


def progress_line(metrics: dict[str, float], left_s: float) -> str:
    """The figures behind the progress bar; the names are the tail of the metrics' names."""
    parts = [f"{name.partition('/')[2]} {metrics[name]:.4g}" for name in _SHOWN if name in metrics]
    parts.append(f"data {metrics['perf/data_ms']:.0f} ms")
    parts.append(f"step {metrics['perf/step_ms']:.0f} ms")
    if "perf/mfu" in metrics:
        parts.append(f"mfu {metrics['perf/mfu']:.1%}")
    return " | ".join([*parts, f"eta {duration(left_s)}"])


_SHOWN = ("train/loss", "train/lr", "train/ema_decay", "train/target_std", "train/pred_std", "perf/samples_per_s")


def duration(seconds: float) -> str:
    """`1h02m`, `3m20s` or `45s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
