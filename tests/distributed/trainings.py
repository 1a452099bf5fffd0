"""Tiny trainings of the modalities' contract cases, to be run by several ranks at once."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2v.config import DistributedConfig, TrainConfig, parse
from d2v.distributed.launch import launch
from d2v.errors import Interrupted
from d2v.modalities import registry
from d2v.model_folder import save_encoder
from d2v.tracker import NullTracker
from d2v.training.history import History
from d2v.training.train import train
from tests.checkpoints import stored
from tests.modalities.contract.case import RUN, find_case
from tests.training.jobs import plain_job

UPDATES = 6


class StopsItself(NullTracker):
    """SIGTERM to its own process when an update is logged."""

    def __init__(self, after: int | None) -> None:
        self._after = after

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        if update == self._after:
            signal.raise_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Training:
    """One training of a contract case.

    Attributes:
        prepared: what prepare left.
        out: run folder.
        modality: registry name.
        objective: key of the case's recipes.
        distributed: ranks and how the work is parted between them.
        changes: of the recipe.
        stop_after: rank 0 gets a SIGTERM after so many updates.
    """

    prepared: Path
    out: Path
    modality: str
    objective: str = "data2vec2"
    distributed: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    stop_after: int | None = None

    def on_two_ranks(self, out: Path, **distributed: Any) -> Training:
        """The same with its work parted between two ranks."""
        return replace(self, out=out, distributed={"ranks": 2, **distributed})

    def alone(self, out: Path) -> Training:
        """The same on one rank, in as many parts as two ranks make."""
        return replace(self, out=out, distributed={}, changes={**self.changes, "accumulation_steps": 2})

    def recipe(self) -> TrainConfig:
        """Its train block."""
        case = find_case(self.modality)
        assert case is not None
        run = {"max_updates": UPDATES, "checkpoint": {"every_updates": 2}, "distributed": self.distributed}
        values = {**RUN, **case.recipes[self.objective], **run, **self.changes}
        recipe: Any = parse(registry.get(self.modality).train_config, values)
        return recipe

    def run(self) -> None:
        """Train, or go on training, as one rank."""
        recipe = self.recipe()
        job = plain_job(
            registry.get(self.modality), recipe, self.prepared, export=partial(_export, self.modality, recipe)
        )
        try:
            train(job, self.out, StopsItself(self.stop_after))
        except Interrupted:
            if self.stop_after is None:
                raise

    def result(self) -> dict[str, Tensor]:
        """What the last checkpoint holds."""
        return stored(self.out / f"checkpoints/update-{self.recipe().max_updates:08d}")

    def figures(self) -> list[dict[str, float]]:
        """History without times."""
        rows = History.read(self.out / "history.csv").rows
        return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def _export(name: str, recipe: TrainConfig, out: Path, objective: Any, weights_of: Any) -> None:
    save_encoder(out / "encoder", objective, name, recipe, weights_of=weights_of)


def run_all(trainings: Iterable[Training]) -> None:
    """One after the other, in the processes that are there: to start new ones takes longer than to train."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for training in trainings:
        print(training.out.name, file=sys.stderr, flush=True)
        training.run()
    torch.set_num_threads(threads)


def start_two_ranks(trainings: Sequence[Training], logs: Path, target: Callable[..., None] = run_all) -> None:
    """Run trainings that are parted between two ranks."""
    launch(DistributedConfig(ranks=2, timeout_s=60), logs, target, trainings=trainings)


def furthest(one: dict[str, Tensor], two: dict[str, Tensor]) -> tuple[float, str]:
    """The largest absolute difference, and where it is."""
    assert one.keys() == two.keys()
    return max((float((one[name].double() - two[name].double()).abs().max()), name) for name in one)
