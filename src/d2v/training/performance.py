"""How fast a run is, and against what: times, throughput, MFU, the progress line."""

from __future__ import annotations

import platform
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from d2v.config import RunConfig
from d2v.data.batch import Batch
from d2v.data.batch_sampler import BatchSampler
from d2v.objectives.base import Objective
from d2v.training.engine import Engine

_PEAK_TFLOPS = {
    # Dense figures of the vendors' data sheets: (bf16, fp32 without TF32).
    "H200": (989.0, 67.0),
    "H100 PCIe": (756.0, 51.0),
    "H100": (989.0, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "L40": (181.0, 90.5),
    "L4": (121.0, 30.3),
    "A10": (125.0, 31.2),
}


TRAINED_S, PEAK_MEMORY_MB = "perf/trained_s", "perf/peak_memory_mb"
"""Names of what a run has cost so far."""


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process held: what torch took of a GPU, else what was resident. Linux tells the latter
    of the program itself; getrusage there begins at what the process that started it held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks_kib = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * peaks_kib[0] if peaks_kib else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name, as the driver or the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating point operations per second the device could do; None where that is not known (any CPU)."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = [peaks for part, peaks in _PEAK_TFLOPS.items() if part in name]
    return known[0][0 if precision == "bf16" else 1] * 1e12 if known else None


class Stopwatch:
    """Wall time of updates since the last reading, split into waiting for data and the rest.

    The device is not waited for except in `read` and `trained_s`, so the split is exact only on a CPU; the sum always
    is.

    Args:
        engine: runs the updates.
        objective: what is trained.
        recipe: the training block.
        trained_s: what `trained_s` told when the run's last session ended.
    """

    def __init__(self, engine: Engine, objective: Objective, recipe: RunConfig, trained_s: float = 0.0) -> None:
        self._trained_s = trained_s
        self._max_updates, self._world_size = recipe.max_updates, engine.env.world_size
        self._device, self._objective = engine.env.device, objective
        peak = peak_flops(self._device, engine.precision)
        self._peak = peak * engine.env.world_size if peak else None
        self._began = self._waiting_since = time.perf_counter()
        self._clear()
        self._s_per_update: float | None = None

    def _clear(self) -> None:
        self._data_s = self._paused_s = self._flops = 0.0
        self._updates = self._samples = 0

    def start(self) -> None:
        """Waiting for data begins."""
        self._waiting_since = time.perf_counter()

    def data_ready(self, micro_batches: Sequence[Batch]) -> None:
        """The data of one update is there: this rank's part of it."""
        self._data_s += time.perf_counter() - self._waiting_since
        self._updates += 1
        for batch in micro_batches:
            samples = len(batch.sample_ids) * self._world_size
            tokens = self._objective.student.stem.num_tokens(batch.inputs)
            self._samples += samples
            self._flops += samples * self._objective.flops_per_sample(tokens)["total"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time that is no training: probes, checkpoints, monitors."""
        start = time.perf_counter()
        yield
        self._paused_s += time.perf_counter() - start

    def read(self) -> dict[str, float]:
        """Metrics since the last reading."""
        elapsed_s = self._elapsed_s()
        updates = max(self._updates, 1)
        metrics = {
            "perf/samples_per_s": self._samples / elapsed_s,
            "perf/data_ms": 1e3 * self._data_s / updates,
            "perf/step_ms": 1e3 * (elapsed_s - self._data_s) / updates,
            PEAK_MEMORY_MB: peak_memory_bytes(self._device) / 1e6,
        }
        if self._peak:
            metrics["perf/mfu"] = self._flops / elapsed_s / self._peak
        self._s_per_update = elapsed_s / updates
        self._trained_s += elapsed_s
        self._began = time.perf_counter()
        self._clear()
        return metrics

    def trained_s(self) -> float:
        """Wall seconds of the run's updates over all its sessions, without what was `paused`. Updates that a resumed
        run repeats, as no checkpoint held them, count once."""
        return self._trained_s + self._elapsed_s()

    def _elapsed_s(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - self._began - self._paused_s

    def seconds_left(self, update: int) -> float:
        """Until the last update, at the speed of the last reading."""
        return (self._max_updates - update) * (self._s_per_update or 0.0)


def total_flops(objective: Objective, sampler: BatchSampler, updates: int) -> float:
    """Floating point operations of so many updates; where batches differ, by their mean."""
    stem, total = objective.student.stem, 0.0
    for samples, length in sampler.shapes():
        tokens = objective.longest if length is None else int(stem.token_lengths(torch.tensor([length])))
        total += samples * objective.flops_per_sample(tokens)["total"]
    return total / len(sampler.shapes()) * updates


def progress_line(metrics: dict[str, float], left_s: float) -> str:
    """The metrics behind the progress bar; the names are the tail of the metrics' names."""
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
