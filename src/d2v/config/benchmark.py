"""What a benchmark compares."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from d2v.config.blocks import Block, PositiveInt
from d2v.config.efficiency import EfficiencyConfig

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("pretrained", "frozen", "scratch", "random_frozen", "random", "plain")


class BenchmarkConfig(Block):
    """Objectives side by side: pretrained with the same code and budget on the same data, then put to the same task.

    `objectives`: a name each, and what it changes of the train block; `{}` is the train block itself. The first one is
    what the others are compared with. A changed block is merged with the recipe's, and replaces it where the change
    gives it another `name` or `kind`. `pretraining` changes the train block of all of them, such as `max_updates`, and
    comes first; seed s of `pretraining_seeds` adds s to the train block's seed. `finetuning` changes the finetune block
    of all task runs. `efficiency` says how much labels, which ways and how many seeds; seed s of the task starts from
    encoder s modulo `pretraining_seeds`."""

    objectives: dict[str, dict[str, Any]]
    pretraining: dict[str, Any] = Field(default_factory=dict)
    pretraining_seeds: PositiveInt = 1
    finetuning: dict[str, Any] = Field(default_factory=dict)
    efficiency: EfficiencyConfig = EfficiencyConfig()

    @model_validator(mode="after")
    def _names_are_names(self) -> BenchmarkConfig:
        if not self.objectives:
            raise ValueError("objectives is empty: name at least one, such as objectives: {data2vec2: {}}")
        for name in self.objectives:
            if not _NAME.fullmatch(name) or name in _TAKEN or name.endswith("_frozen"):
                raise ValueError(
                    f"objective {name!r} would name folders and figures: take small letters, digits and _, and none of "
                    f"{', '.join(_TAKEN)}"
                )
        return self

    @model_validator(mode="after")
    def _every_encoder_is_tuned(self) -> BenchmarkConfig:
        if self.pretraining_seeds > self.efficiency.seeds:
            raise ValueError(
                f"{self.pretraining_seeds} pretraining_seeds and {self.efficiency.seeds} efficiency.seeds leave "
                "encoders without a task run: raise efficiency.seeds or lower pretraining_seeds"
            )
        return self
