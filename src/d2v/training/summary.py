"""Every derived number, before the first update."""

from __future__ import annotations

import torch

from d2v.config import RunConfig
from d2v.data.batch_sampler import BatchSampler
from d2v.models.shards import count
from d2v.objectives.base import Objective
from d2v.training.engine import Engine
from d2v.training.performance import device_name, total_flops
from d2v.training.scale import state_bytes
from d2v.training.states import trained


def summarise(
    recipe: RunConfig, objective: Objective, engine: Engine, sampler: BatchSampler, update: int, reason: str
) -> list[str]:
    """Lines for people: what will be trained, on what, for how long, from where.

    Args:
        recipe: the training block.
        objective: the built module.
        engine: where it runs.
        sampler: which items an update takes.
        update: updates already done.
        reason: why the precision is what it is.
    """
    env = engine.env
    samples, flops = sampler.samples(recipe.max_updates), total_flops(objective, sampler, recipe.max_updates)
    lines = [
        f"objective   {type(objective).__name__.lower()} | {_visible(objective)}",
        f"batch       {_batch(sampler)}; {_split(recipe, engine)}",
        f"length      {recipe.max_updates:,} updates = {samples:,} samples = "
        f"{sampler.epochs(recipe.max_updates):.1f} epochs of {sampler.num_items:,} items",
        f"parameters  {_parameters(objective)}",
        f"flops       {flops / samples:.3g} per sample ({_shares(objective)}), {flops:.3g} in all",
        f"memory      {_state_bytes(objective, engine) / 1e6:,.0f} MB a rank for weights, gradients and moments",
        f"device      {describe_device(env.device)}, {engine.precision} ({reason})",
        f"start       {_start(recipe) if update == 0 else f'resumed after update {update:,}'}",
    ]
    return [f"train: {line}" for line in lines]


def describe_device(of: torch.device) -> str:
    """What computes, for people: the last digits of a CPU's results depend on its kind and on the number of threads."""
    threads = "" if of.type == "cuda" else f", {torch.get_num_threads()} thread(s)"
    return device_name(of) + threads


def _start(recipe: RunConfig) -> str:
    """What a fresh run's weights are."""
    start = getattr(recipe, "start", None)
    return "from nothing" if start in (None, "scratch") else f"from {start}"


def _visible(objective: Objective) -> str:
    """Tokens of the longest sequence, and how many of them the student sees where that is fixed."""
    tokens, num_masked = objective.longest, getattr(objective, "num_masked", None)
    return f"{tokens} tokens" if num_masked is None else f"{tokens - num_masked(tokens)} of {tokens} tokens visible"


def _batch(sampler: BatchSampler) -> str:
    """How many samples an update has, and of what length."""
    counts, lengths = zip(*sampler.shapes(), strict=True)
    samples = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    known = [length for length in lengths if length is not None]
    return f"{samples} samples of {min(known):,} to {max(known):,} positions" if known else f"{samples} samples"


def _split(recipe: RunConfig, engine: Engine) -> str:
    """How an update is parted."""
    stage = f", ZeRO stage {engine.zero_stage}" if engine.zero_stage else ""
    return f"{engine.env.world_size} rank(s) x {recipe.accumulation_steps} accumulation step(s){stage}"


def _shares(objective: Objective) -> str:
    """What the parts of an update take of its operations, at the longest sequence."""
    flops = objective.flops_per_sample(objective.longest)
    parts = (f"{name} {count / flops['total']:.0%}" for name, count in flops.items() if name != "total" and count)
    return ", ".join(parts)


def _parameters(objective: Objective) -> str:
    """How many each part has."""
    student, every = count(objective.student.parameters()), count(objective.parameters())
    teacher = 0 if objective.teacher is None else count(objective.teacher.parameters())
    parts = {"student": student, "teacher": teacher, "decoder and heads": every - student - teacher}
    return " | ".join(f"{name} {number:,}" for name, number in parts.items() if number)


def _state_bytes(objective: Objective, engine: Engine) -> float:
    own = count(trained(objective).values())
    return state_bytes(own, count(objective.parameters()) - own, engine.zero_stage, engine.env.world_size)
