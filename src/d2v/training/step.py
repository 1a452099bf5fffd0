"""One optimiser step over micro-batches, then the teacher's step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from d2v.config import RunConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_DROPOUT, STREAM_LAYER_DROP, seed_of
from d2v.objectives.base import Objective
from d2v.training.engine import Engine
from d2v.training.schedule import learning_rate


def _ignore(_: object) -> None: ...


def train_step(
    recipe: RunConfig,
    objective: Objective,
    engine: Engine,
    update: int,
    micro_batches: Sequence[Batch],
    note: Callable[[dict[str, Tensor]], None] = _ignore,
    begin: Callable[[str], None] = _ignore,
) -> None:
    """Update number `update`, from 0, of one rank.

    The loss is a sum over masked positions; its gradient is divided by their number over all ranks and accumulation
    steps (data2vec's sample size), so parts with different counts weigh what they should.

    Args:
        recipe: the training block.
        objective: student, teacher, decoder and loss.
        engine: runs it.
        update: updates already done.
        micro_batches: this rank's, on its device.
        note: gets the metrics of each micro-batch and of the update, as () tensors on the device.
        begin: told which phase begins.
    """
    env, group = engine.env, engine.group
    begin("forward and backward")
    objective.student.layer_drop_seed = seed_of(recipe.seed, STREAM_LAYER_DROP, update)
    masks = [objective.draw_masks(batch, recipe.seed, env.device) for batch in micro_batches]
    masked = group.all_reduce(torch.stack([m.count for m in masks]).sum())
    total = torch.zeros((), device=env.device)
    for step, (batch, mask) in enumerate(zip(micro_batches, masks, strict=True)):
        seed_dropout(recipe.seed, update, step * env.world_size + env.rank)
        loss_sum, statistics = engine.module(batch, mask)  # teacher targets, student, decoder, loss
        loss = loss_sum / masked
        engine.backward(loss)
        total += loss.detach()
        note({f"train/{name}": value for name, value in statistics.items()})
    begin("step")
    total = group.all_reduce(total)
    engine.step(update, learning_rate(recipe.schedule, recipe.optimizer.lr, update, recipe.max_updates), total)
    decay = objective.teacher_decay(update + 1)
    if decay is not None:
        objective.update_teacher(decay)
    note({"train/loss": total, "train/grad_norm": engine.grad_norm})


def seed_dropout(seed: int, update: int, piece: int) -> None:
    """Key torch's generators by (seed, update, piece), so dropout does not depend on what ran before."""
    key = seed_of(seed, STREAM_DROPOUT, update, piece)
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(key)
