"""Every derived number, before the first update."""

from __future__ import annotations

import torch
from torch import nn

from d2v.config import TrainConfig
from d2v.objectives.base import Objective
from d2v.training.engine import Engine

_BYTES_TRAINED = 16  # fp32 weight, gradient and two Adam moments
_BYTES_FROZEN = 4


def summarise(
    recipe: TrainConfig, objective: Objective, engine: Engine, num_items: int, update: int, reason: str
) -> list[str]:
    """Lines for people: what will be trained, on what, for how long, from where.

    Args:
        recipe: the training block.
        objective: the built module.
        engine: where it runs.
        num_items: training items.
        update: updates already done.
        reason: why the precision is what it is.
    """
    place, flops = engine.place, objective.flops_per_sample()
    samples = recipe.max_updates * recipe.batch_size
    micro = recipe.batch_size // (place.ranks * recipe.accumulation_steps)
    device = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else _cpu_name()
    lines = [
        f"objective   {recipe.objective.name} | {_visible(objective)}",
        f"batch       {recipe.batch_size} = {place.ranks} rank(s) x {recipe.accumulation_steps} step(s) x {micro}",
        f"length      {recipe.max_updates:,} updates = {samples:,} samples = {samples / num_items:.1f} epochs "
        f"of {num_items:,} items",
        f"parameters  {_parameters(objective)}",
        f"flops       {' | '.join(f'{part} {count:.3g}' for part, count in flops.items())} per sample, "
        f"{flops['total'] * samples:.3g} in all",
        f"memory      {_state_bytes(objective) / 1e6:,.0f} MB for weights, gradients and moments, beside activations",
        f"device      {device}, {engine.precision} ({reason})",
        f"start       {'from nothing' if update == 0 else f'resumed after update {update:,}'}",
    ]
    return [f"train: {line}" for line in lines]


def _visible(objective: Objective) -> str:
    """Tokens that the student sees, where the objective hides a fixed number."""
    tokens, hidden = getattr(objective, "tokens", None), getattr(objective, "hidden", None)
    if tokens is None:
        return "tokens by sample"
    return f"{tokens} tokens" if hidden is None else f"{tokens - hidden} of {tokens} tokens visible"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parameters(objective: Objective) -> str:
    student, teacher = _count(objective.student), _count(objective.teacher)
    rest = _count(objective) - student - teacher
    return f"student {student:,} | teacher {teacher:,} | decoder and heads {rest:,}"


def _state_bytes(objective: Objective) -> int:
    return sum(p.numel() * (_BYTES_TRAINED if p.requires_grad else _BYTES_FROZEN) for p in objective.parameters())


def _cpu_name() -> str:
    return f"CPU with {torch.get_num_threads()} thread(s)"
