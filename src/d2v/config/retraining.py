"""What a scheduled retraining does with new data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, PositiveInt


class DriftConfig(Block):
    """New items against the champion's own, in the champion's embedding space: maximum mean discrepancy with a Gaussian
    kernel (Gretton et al. 2012), whose null distribution comes from permutations."""

    items: Annotated[int, Field(ge=8)] = 500
    """Items of either side at most; more see smaller drifts and cost more time."""
    min_items: Annotated[int, Field(ge=8)] = 32
    """With fewer new training items drift counts as unknown."""
    permutations: Annotated[int, Field(ge=99)] = 999
    """Permutations behind the p-value, which is at least 1 / (1 + permutations)."""
    level: Fraction = 0.01
    """Data have drifted if p is at most this; larger reports drift more easily."""
    seed: NonNegativeInt = 0
    """Seed of the choice of items and of the permutations."""

    @model_validator(mode="after")
    def _level_can_be_reached(self) -> DriftConfig:
        if 1.0 / (1 + self.permutations) > self.level:
            raise ValueError(
                f"with {self.permutations} permutations p is never as small as level {self.level:g}: set permutations "
                f"to at least {round(1.0 / max(self.level, 1e-9)) - 1}"
            )
        return self


class RetrainConfig(Block):
    """How pretraining goes on from the champion. The train block is changed for it: fewer updates, a warm-up to a lower
    learning rate, a teacher that starts at its highest decay, another seed."""

    on: Literal["new_data", "drift", "always"] = "new_data"
    """When to train: where items are new, only where new items have drifted, or whenever it is asked for."""
    min_new_items: PositiveInt = 1
    """Fewer new items are left for a later retraining."""
    updates_share: Annotated[float, Field(gt=0.0)] = 0.25
    """Updates, as a share of the train block's `max_updates`."""
    warmup_share: Fraction = 0.1
    """Share of those updates that is warm-up."""
    lr_share: Annotated[float, Field(gt=0.0)] = 0.3
    """Peak and least learning rate, as a share of the train block's; larger forgets more of what was learned."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Further changes of the train block, applied last."""
    carried: tuple[str, ...] = ()
    """Keys of the prepare block that become the champion's model folder, such as the tokenizer."""
    drift: DriftConfig = DriftConfig()
    """How drift is measured."""
