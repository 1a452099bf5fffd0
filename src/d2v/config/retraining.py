"""What a scheduled retraining does with new data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, PositiveInt


class DriftConfig(Block):
    """New items against the champion's own, in the champion's embedding space: maximum mean discrepancy with a Gaussian
    kernel, whose null distribution comes from permutations. Data have drifted if p is at most
    `level`."""

    items: Annotated[int, Field(ge=8)] = Field(default=500, description="of either side at most")
    min_items: Annotated[int, Field(ge=8)] = Field(default=32, description="with fewer new ones nothing is said")
    permutations: Annotated[int, Field(ge=99)] = 999
    level: Fraction = 0.01
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _level_can_be_reached(self) -> DriftConfig:
        if 1.0 / (1 + self.permutations) > self.level:
            raise ValueError(
                f"with {self.permutations} permutations p is never as small as level {self.level:g}: set permutations "
                f"to at least {round(1.0 / max(self.level, 1e-9)) - 1}"
            )
        return self


class RetrainConfig(Block):
    """Pretraining goes on from the champion where items are new (`on: new_data`), only if they have drifted (`drift`),
    or whenever it is asked for (`always`).

    The train block is changed for it: `updates_share` of its updates, a warm-up over `warmup_share` of them to
    `lr_share` of its learning rate, a teacher that starts at its highest decay, another seed. `changes` of the train
    block come on top. `carried` names keys of the prepare block that are then the champion's model folder."""

    on: Literal["new_data", "drift", "always"] = "new_data"
    min_new_items: PositiveInt = 1
    updates_share: Annotated[float, Field(gt=0.0)] = 0.25
    warmup_share: Fraction = 0.1
    lr_share: Annotated[float, Field(gt=0.0)] = 0.3
    changes: dict[str, Any] = Field(default_factory=dict)
    carried: tuple[str, ...] = ()
    drift: DriftConfig = DriftConfig()
