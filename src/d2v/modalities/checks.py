"""What the recipes of several modalities check. A check raises ValueError, which `d2v.config.parse` reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from d2v.config import TrainConfig


def check_heads(width: int, heads: int) -> None:
    """The encoder's width splits into its heads."""
    if width % heads:
        raise ValueError(f"width {width} does not split into {heads} heads: change encoder.heads")


def check_targets(recipe: TrainConfig, depth: int) -> None:
    """Targets that are made of a teacher's blocks are made of no more than the trunk has."""
    targets = getattr(recipe.objective, "targets", None)
    layers = 0 if targets is None else targets.top_k_layers
    if layers > depth:
        raise ValueError(
            f"objective.targets.top_k_layers {layers} is more than encoder.depth {depth}: set it to at most {depth}"
        )


def check_no_budget(recipe: TrainConfig, items: str) -> None:
    """Items that are all alike come in batches of one size."""
    if recipe.batch_budget is not None:
        raise ValueError(f"batch_budget is for items of different lengths, and {items} are alike: set batch_size")


def check_goes_with(recipe: TrainConfig, key: str, value: str, fitting: Mapping[str, Sequence[str]]) -> None:
    """A choice suits the objective.

    Args:
        recipe: its objective.
        key: of the choice, such as "mask.kind".
        value: what was chosen.
        fitting: objective -> what can be chosen with it.
    """
    objective = recipe.objective.name
    if value in fitting.get(objective, ()):
        return
    changed, options = (key, fitting[objective]) if objective in fitting else ("objective.name", [*fitting])
    raise ValueError(f"objective {objective} does not go with {key} {value}: set {changed}={' or '.join(options)}")
