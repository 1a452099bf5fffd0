"""One optimiser step over micro-batches, then the teacher's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from d2v.config import RunConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_DROPOUT, STREAM_LAYER_DROP, seed_of
from d2v.objectives.base import Objective
from d2v.training.engine import Engine
from d2v.training.schedule import learning_rate


def _ignore(_: object) -> None: ...


@dataclass
class Updates:
    """The updates of one rank.

    Attributes:
        recipe: the training block.
        objective: student, teacher, decoder and loss.
        engine: runs it.
        note: gets the figures of each micro-batch and of the update, as () tensors on the device.
        beat: told what begins.
    """

    recipe: RunConfig
    objective: Objective
    engine: Engine
    note: Callable[[dict[str, Tensor]], None] = _ignore
    beat: Callable[[str], None] = _ignore

    def do(self, update: int, micro_batches: Sequence[Batch]) -> None:
        """Update number `update`, from 0.

        The loss is a sum over masked positions; its gradient is divided by their number over all ranks and
        accumulation steps (data2vec's sample size), so parts with different counts weigh what they should.
        """
        place, ranks, config = self.engine.place, self.engine.ranks, self.recipe
        self.beat("forward and backward")
        self.objective.student.layer_drop_seed = seed_of(config.seed, STREAM_LAYER_DROP, update)
        masks = [self.objective.draw_masks(batch, config.seed, place.device) for batch in micro_batches]
        masked = ranks.sum(torch.stack([m.count for m in masks]).sum())
        total = torch.zeros((), device=place.device)
        for step, (batch, mask) in enumerate(zip(micro_batches, masks, strict=True)):
            seed_dropout(config.seed, update, step * place.ranks + place.rank)
            output = self.engine.forward(batch, mask)
            loss = output.loss_sum / masked
            self.engine.backward(loss)
            total += loss.detach()
            self.note({f"train/{name}": figure for name, figure in output.statistics.items()})
        self.beat("step")
        total = ranks.sum(total)
        self.engine.step(update, learning_rate(config.schedule, config.optimizer.lr, update, config.max_updates), total)
        self.update_teacher(update)
        self.note({"train/loss": total, "train/grad_norm": self.engine.grad_norm})

    def update_teacher(self, update: int) -> None:
        """The teacher's step of update number `update`, if there is a teacher."""
        decay = self.objective.teacher_decay(update + 1)
        if decay is not None:
            self.objective.update_teacher(decay)


def seed_dropout(seed: int, update: int, piece: int) -> None:
    """Key torch's generators by (seed, update, piece), so dropout does not depend on what ran before."""
    key = seed_of(seed, STREAM_DROPOUT, update, piece)
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(key)
