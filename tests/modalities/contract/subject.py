"""One modality under one objective, and what many checks do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2v.config import TrainConfig, parse
from d2v.data.batch import Batch, Inputs
from d2v.data.batch_sampler import BatchSampler, open_batch_sampler
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.training.engine import parameter_groups
from d2v.training.train import TrainResult, train
from tests.modalities.contract.case import RUN, Prepared
from tests.training.jobs import plain_job


class Subject:
    """One modality under one objective.

    Args:
        prepared: its data.
        objective: key of the case's recipes.
        folder: scratch place.
    """

    def __init__(self, prepared: Prepared, objective: str, folder: Path) -> None:
        self.prepared, self.modality, self.folder = prepared, prepared.modality, folder
        self.values: dict[str, Any] = {
            "ingest": prepared.ingest.model_dump(),
            "prepare": prepared.prepare.model_dump(),
            "train": {**RUN, **prepared.case.recipes[objective]},
        }
        recipe: Any = parse(self.modality.recipe, self.values, at=self.modality.name)
        self.recipe: TrainConfig = recipe.train
        self.data = self.modality.open(prepared.path)
        self.lengths = self.data.train_lengths(self.recipe)

    def sampler(self) -> BatchSampler:
        """Which samples an update trains on."""
        return open_batch_sampler(self.recipe, self.data.num_train, self.lengths)

    def build(self, **changes: Any) -> Objective:
        """A new objective, with changes to its block where it has such keys."""
        known = {key: value for key, value in changes.items() if hasattr(self.recipe.objective, key)}
        changed = self.recipe.objective.model_copy(update=known)
        return build_objective(self.modality, self.recipe.model_copy(update={"objective": changed}))

    def batch(self, update: int = 0) -> Batch:
        """What an update trains on."""
        return self.data.batch(self.sampler().at(update), self.recipe)

    def items(self, count: int = 6) -> Inputs:
        """Whole items, as they are looked at and served; side by side with padding where they differ in length."""
        inputs = self.data.probe_set(self.recipe).test_inputs
        return inputs.select(torch.arange(min(count, len(inputs))))

    def items_batch(self) -> Batch:
        """Whole items as a batch."""
        inputs = self.items()
        ids = torch.arange(len(inputs))
        return Batch(inputs.values, ids, torch.zeros_like(ids), 0, inputs.lengths, self._codes(inputs))

    def _codes(self, inputs: Inputs) -> Tensor | None:
        """(n, T) some codes, where the objective learns what prepare found for training items alone."""
        codes = getattr(self.recipe.objective, "codes", None)
        tokens = self.build().student.stem.num_tokens(inputs.values)
        return None if codes is None else torch.arange(len(inputs) * tokens).view(-1, tokens) % codes

    @property
    def has_batch_norm(self) -> bool:
        """Whether targets depend on the other samples of a batch."""
        targets = getattr(self.recipe.objective, "targets", None)
        return targets is not None and "batch" in targets.layer_norms

    def counts(self) -> list[int]:
        """Numbers of tokens that inputs can have: one of tokens in a plane, many of a sequence."""
        longest = self.modality.max_tokens(self.recipe)
        return [longest] if self.modality.grid(self.recipe) else list(range(2, longest + 1))

    @cached_property
    def run(self) -> Path:
        """The folder of a training that nothing interrupted."""
        self.train(self.folder / "run")
        return self.folder / "run"

    def train(self, out: Path, fail_at: int | None = None) -> TrainResult:
        """Train through the real engine, or go on; `fail_at` makes the probe of that update fail."""

        def probe(encoder: Any, update: int) -> dict[str, float]:
            raise ProbeError

        recipe = self.recipe.model_copy(update={"probe_every_updates": fail_at or 0})
        job = plain_job(self.modality, recipe, self.prepared.path, probe=probe if fail_at else None)
        return train(job, out)


class ProbeError(Exception):
    """What stops a training that `fail_at` an update."""


def select(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch."""
    return replace(batch, **{name: tensor[rows] for name, tensor in batch.tensors().items()})


def differing(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> set[str]:
    """Names whose tensors are not the same bits."""
    return {name for name in one.keys() | two.keys() if not torch.equal(one[name], two[name])}


def train_step(subject: Subject, objective: Objective, update: int, decay: float) -> float:
    """One plain update, as the loop does it; returns its loss."""
    batch = subject.batch(update)
    masks = objective.draw_masks(batch, subject.recipe.seed, "cpu")
    optimizer = torch.optim.AdamW(parameter_groups(objective, subject.recipe.optimizer), lr=1e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(update)
        loss = objective.train()(batch, masks).loss_sum / masks.count
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if objective.teacher is not None:
        objective.update_teacher(decay)
    return loss.item()
