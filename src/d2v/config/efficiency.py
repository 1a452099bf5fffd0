"""What a study of label efficiency compares."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Positive, PositiveInt

Init = Literal["pretrained", "scratch", "frozen", "random_frozen"]

_CHANGES: dict[Init, dict[str, Any]] = {"scratch": {"layer_decay": 1.0}}


class EfficiencyConfig(Block):
    """The finetune block's task with few and with many labels, several times."""

    renamed: ClassVar = {"ways": "inits"}

    shares: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = (0.01, 0.1, 1.0)
    """Ascending shares of all training labels (0 to 1)."""
    minutes: tuple[Positive, ...] = ()
    """Ascending minutes of labelled recordings, instead of `shares`."""
    seeds: PositiveInt = 3
    """Runs of each amount of labels. Run s adds s to the finetune block's seeds: other labels, order and head."""
    inits: tuple[Init, ...] = ("pretrained", "scratch", "random_frozen")
    """What task runs start from. `pretrained` and `scratch` train everything; `frozen` and `random_frozen` train a head
    on an encoder that stays as it is, pretrained or random."""
    changes: dict[Init, dict[str, Any]] = _CHANGES
    """What changes of the finetune block for each initialisation: layer decay, say, is for pretrained encoders."""

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
