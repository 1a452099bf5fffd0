"""One training timed in this process: samples per second, memory, and the time of each section of an update."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.peak import matmul_peak
from benchmarks.sections import Sections
from benchmarks.sizes import Size, noise_batch, read_size
from d2v.distributed.environment import read_dist_env
from d2v.distributed.process_group import init_process_group
from d2v.modalities import registry
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.training.engine import Engine, open_engine
from d2v.training.matmul import choose_matmul_backend, using_matmul_backend
from d2v.training.memory import freed_memory_kept, old_objects_uncollected
from d2v.training.performance import peak_memory_bytes
from d2v.training.precision import choose_precision
from d2v.training.step import train_step

WARM_UP = 2
_FEWEST_UPDATES = 3
_MOST_UPDATES = 30
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Timed:
    """One fresh process.

    Attributes:
        samples_per_s: original samples, not their masked copies.
        steps_s: of each update.
        part_s: part -> seconds of an update.
        peak_bytes: the most memory that the process held.
        flops: of this rank's part of an update, with masks, teacher and decoder.
        peak_flops: of the machine per second, measured in the same process at the same precision.
        library: what multiplied float32 matrices.
        threads: of the process.
    """

    samples_per_s: float
    steps_s: tuple[float, ...]
    part_s: dict[str, float]
    peak_bytes: int
    flops: float
    peak_flops: float
    library: str
    threads: int

    @property
    def share_of_peak(self) -> float:
        """The share of the machine's matmul peak that the training uses (MFU)."""
        return self.flops / median(self.steps_s) / self.peak_flops


def time_size(
    name: str,
    conf: Path,
    precision: str,
    seconds: float,
    changes: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Timed:
    """Build, warm up, and do updates for so many seconds, at least three.

    Args:
        name: of the size.
        conf: folder of the recipes.
        precision: fp32 or bf16.
        seconds: to spend on updates.
        changes: of its train block.
        threads: of this rank; None leaves them as they are.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    size = read_size(name, conf, precision, changes)
    env = read_dist_env()
    chosen, _ = choose_precision(precision, env.device)
    with init_process_group(env, size.recipe.distributed.timeout_s) as group:
        objective = build_objective(registry.get(size.modality), size.recipe).train()
        library, _ = group.broadcast_object(choose_matmul_backend(size.recipe.float32_matmul, chosen, env.device))
        with (
            using_matmul_backend(library),
            freed_memory_kept(env.device),
            old_objects_uncollected(),
            open_engine(objective, size.recipe, group, chosen) as engine,
        ):
            run = _Run(size, objective, engine)
            for _ in range(WARM_UP):
                run.timed_update()
            steps = run.steps(seconds)
            sections = Sections(objective, engine)
            with sections.timed():
                watched = len(run.steps(seconds / 3))
            peak_bytes = peak_memory_bytes(env.device)
            tokens = objective.student.stem.num_tokens(noise_batch(size).inputs)
            samples = size.recipe.batch_unit
            own = samples // env.world_size
            return Timed(
                samples_per_s=samples / median(steps),
                steps_s=tuple(steps),
                part_s={part: total / watched for part, total in sections.seconds.items()},
                peak_bytes=peak_bytes,
                flops=own * objective.flops_per_sample(tokens)["total"],
                peak_flops=matmul_peak(env.device, _DTYPES[chosen]),
                library=library,
                threads=torch.get_num_threads(),
            )


class _Run:
    """Updates on noise, with masks of their own each."""

    def __init__(self, size: Size, objective: Objective, engine: Engine) -> None:
        self._recipe, self._objective, self._engine, self._done = size.recipe, objective, engine, 0
        self._device = engine.env.device
        self._batch = noise_batch(size, engine.env.rank).to(self._device)

    def timed_update(self) -> float:
        """Seconds of one."""
        began = time.perf_counter()
        batch = replace(self._batch, update=self._done)
        train_step(self._recipe, self._objective, self._engine, self._done, [batch])
        self._done += 1
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter() - began

    def steps(self, seconds: float) -> list[float]:
        """Seconds of each of as many as fit, three to thirty."""
        first = [self.timed_update() for _ in range(_FEWEST_UPDATES)]
        all_ranks = self._engine.group.broadcast_object(seconds / min(first))
        more = range(_FEWEST_UPDATES, min(int(all_ranks), _MOST_UPDATES))
        return first + [self.timed_update() for _ in more]
