"""The cost of every ZeRO stage, measured: memory, communication and time of a small vision training on this machine."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from benchmarks.sizes import NOISE
from benchmarks.traffic import Traffic
from d2v.config import DistributedConfig, TrainConfig, parse
from d2v.data.batch import Batch
from d2v.distributed.environment import read_dist_env
from d2v.distributed.process_group import ProcessGroup, init_process_group
from d2v.distributed.supervisor import Supervisor
from d2v.modalities import registry
from d2v.models.shards import count, held
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.training.engine import MOMENTS, Engine, open_engine
from d2v.training.states import trained
from d2v.training.step import train_step

WARM_UP = 2
"""Updates before the first that is looked at. DeepSpeed learns in which order parameters are needed from the first."""

MODALITY = "vision"
MODEL: dict[str, Any] = {
    "encoder": {"image_px": 64, "patch_px": 8, "width": 384, "depth": 6, "heads": 6},
    "mask": {"kind": "block", "ratio": 0.8, "adjust": 0.07, "block": 3},
    "objective": {
        "name": "data2vec2",
        "masks_per_sample": 4,
        "decoder": {"layers": 3, "width": 384, "groups": 16},
        "targets": {"top_k_layers": 4, "average_norms": ["layer"]},
        "ema": {"decay_start": 0.999, "decay_end": 0.999},
    },
    "optimizer": {"lr": 1e-4},
    "batch_size": 16,
    "max_updates": 1000,
    "precision": "fp32",
}
"""The measured training: data2vec 2.0 with a small vision transformer, on noise."""

TINY: dict[str, Any] = MODEL | {
    "encoder": {"image_px": 16, "patch_px": 4, "width": 32, "depth": 2, "heads": 2},
    "objective": MODEL["objective"] | {"decoder": {"layers": 1, "width": 32}, "targets": {"top_k_layers": 2}},
}
"""Loads libraries and starts threads before anything is measured."""


def scaled(model: dict[str, Any], ranks: int, stage: int, **changes: Any) -> TrainConfig:
    """The recipe of a model on so many ranks at a stage of ZeRO."""
    distributed = {"ranks": ranks, "zero_stage": stage}
    return parse(registry.get(MODALITY).train_config, {**model, "distributed": distributed, **changes})


@dataclass(frozen=True)
class Held:
    """Bytes that a rank holds between updates.

    Attributes:
        weights: of student and decoder.
        teacher: its weights, and fixed positions of the student.
        masters: the copies of the weights that the optimiser updates, where it has any.
        moments: AdamW's.
    """

    weights: int
    teacher: int
    masters: int
    moments: int


@dataclass(frozen=True)
class Measured:
    """One training.

    Attributes:
        recipe: what was trained.
        trained: parameters of student and decoder.
        frozen: all others, the teacher's.
        held: by rank.
        peak_bytes: by rank, resident memory at its highest beyond that before the model was built.
        sent_bytes: what rank 0 sent in one update, by collective.
        ema_calls: collectives that the teacher's step called.
        step_ms: of each timed update.
    """

    recipe: TrainConfig
    trained: int
    frozen: int
    held: tuple[Held, ...]
    peak_bytes: tuple[int, ...]
    sent_bytes: Counter[str]
    ema_calls: int
    step_ms: tuple[float, ...]

    @property
    def ranks(self) -> int:
        """How many."""
        return self.recipe.distributed.ranks

    @property
    def stage(self) -> int:
        """Of ZeRO."""
        return self.recipe.distributed.zero_stage

    @property
    def median_ms(self) -> float:
        """Time of an update."""
        return statistics.median(self.step_ms)


def measure_stages(
    ranks: int, stages: Iterable[int], updates: int, logs: Path, model: dict[str, Any] = MODEL
) -> list[Measured]:
    """Train at each stage, in fresh processes so that their memory is their own, also that of a single rank.

    Args:
        ranks: how many.
        stages: of ZeRO.
        updates: to be timed.
        logs: folder for the ranks' output.
        model: a vision recipe's train block, without `distributed`.

    Raises:
        LaunchError: a rank died.
    """
    results = []
    for stage in stages:
        recipes = [scaled(kind, ranks, stage) for kind in (TINY, model)]
        supervisor = Supervisor(DistributedConfig(ranks=ranks), logs)
        results.append(supervisor.run(measure, {"recipes": recipes, "updates": updates})[-1])
    return results


def measure(recipes: Sequence[TrainConfig], updates: int) -> list[Measured]:
    """Train one recipe after the other as one of their ranks, on a single thread."""
    torch.set_num_threads(1)
    return [_measure(recipe, updates) for recipe in recipes]


def _measure(recipe: TrainConfig, updates: int) -> Measured:
    env = replace(read_dist_env(), device_type="cpu")
    with init_process_group(env, recipe.distributed.timeout_s) as group:
        before = psutil.Process().memory_info().rss
        objective = build_objective(registry.get(MODALITY), recipe)
        with open_engine(objective.train(), recipe, group, "fp32") as engine:
            run = _Run(recipe, objective, engine, group)
            for _ in range(WARM_UP):
                run.update()
            with Traffic(env.world_size) as traffic:
                run.update()
            with Traffic(env.world_size) as ema_traffic:
                run.update_teacher()
            step_ms = tuple(run.timed_update() for _ in range(updates))
            return Measured(
                recipe=recipe,
                trained=count(trained(objective).values()),
                frozen=count(_frozen(objective)),
                held=tuple(group.all_gather_object(_held(objective, engine))),
                peak_bytes=tuple(group.all_gather_object(_peak_bytes() - before)),
                sent_bytes=traffic.sent_bytes,
                ema_calls=ema_traffic.calls.total(),
                step_ms=step_ms,
            )


class _Run:
    """Updates of one rank on noise, as `d2v.training.loop` does them."""

    def __init__(self, recipe: TrainConfig, objective: Objective, engine: Engine, group: ProcessGroup) -> None:
        self._recipe, self._group, self._objective, self._engine = recipe, group, objective, engine
        self._done = 0

    def update(self) -> None:
        """One of them, with its teacher's step."""
        batches = [self._batch(part) for part in range(self._recipe.accumulation_steps)]
        train_step(self._recipe, self._objective, self._engine, self._done, batches)
        self._done += 1

    def update_teacher(self) -> None:
        """A teacher's step alone."""
        decay = self._objective.teacher_decay(self._done + 1)
        if decay is not None:
            self._objective.update_teacher(decay)

    def timed_update(self) -> float:
        """Milliseconds of an update with its teacher's step."""
        began = time.perf_counter()
        self.update()
        return 1e3 * (time.perf_counter() - began)

    def _batch(self, part: int) -> Batch:
        """This rank's rows of one accumulation step."""
        env = self._group.env
        rows = self._recipe.batch_unit // self._recipe.accumulation_steps // env.world_size
        first = (part * env.world_size + env.rank) * rows
        ids = torch.arange(first, first + rows)
        inputs = NOISE[MODALITY](self._recipe, rows, torch.Generator().manual_seed(first))
        return Batch(inputs, ids, torch.zeros_like(ids), self._done)


def _frozen(objective: Objective) -> list[nn.Parameter]:
    return [parameter for parameter in objective.parameters() if not parameter.requires_grad]


def _held(objective: Objective, engine: Engine) -> Held:
    states = engine.optimizer.state
    return Held(
        weights=_bytes(map(held, trained(objective).values())),
        teacher=_bytes(map(held, _frozen(objective))),
        masters=_bytes(states) if engine.zero_stage else 0,
        moments=_bytes(state[moment] for state in states.values() for moment in MOMENTS),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def _peak_bytes() -> int:
    """The process's resident memory at its highest, which Linux tells in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
