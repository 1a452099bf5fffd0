"""What a study of label efficiency compares."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Positive, PositiveInt

Init = Literal["pretrained", "scratch", "frozen", "random_frozen"]

_CHANGES: dict[Init, dict[str, Any]] = {"scratch": {"layer_decay": 1.0}}


class EfficiencyConfig(Block):
    """The finetune block's task with few and with many labels, several times.

    Labels are given as `shares` of all or as `minutes` of recordings. Run s of `seeds` has the finetune block's seeds
    plus s: other labels, another order, another head. `inits`: `pretrained` and `scratch` train everything, `frozen`
    and `random_frozen` a head on an encoder that stays as it is. `changes` of the finetune block give each way its
    own settings: layer decay is for encoders that know something."""

    renamed: ClassVar = {"ways": "inits"}

    shares: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = (0.01, 0.1, 1.0)
    minutes: tuple[Positive, ...] = Field(default=(), description="instead of shares")
    seeds: PositiveInt = 3
    inits: tuple[Init, ...] = ("pretrained", "scratch", "random_frozen")
    changes: dict[Init, dict[str, Any]] = _CHANGES

    @model_validator(mode="after")
    def _compares_something(self) -> EfficiencyConfig:
        points = self.minutes or self.shares
        if not points or list(points) != sorted(set(points)):
            raise ValueError(f"amounts of labels {list(points)} do not ascend: set e.g. shares: [0.01, 0.1, 1.0]")
        if "pretrained" not in self.inits or len(set(self.inits)) != len(self.inits):
            raise ValueError(
                f"inits {list(self.inits)}: name pretrained, which the others are compared with, and each of them once"
            )
        return self
