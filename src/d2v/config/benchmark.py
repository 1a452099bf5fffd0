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

    A changed block is merged with the recipe's, and replaces it where the change gives it another `name` or `kind`."""

    objectives: dict[str, dict[str, Any]]
    """A name for each, and what it changes of the train block; `{}` is the train block itself. The others are compared
    with the first one."""
    prepare: dict[str, Any] = Field(default_factory=dict)
    """What changes of the prepare block for all objectives, such as a codebook that one of them learns. The benchmark
    then prepares data of its own, in its folder; with nothing changed it takes those of the prepare step."""
    pretraining: dict[str, Any] = Field(default_factory=dict)
    """What changes of the train block for all objectives, such as `max_updates`; applied before their own changes."""
    pretraining_seeds: PositiveInt = 1
    """Encoders of each objective; number s adds s to the train block's seed."""
    finetuning: dict[str, Any] = Field(default_factory=dict)
    """What changes of the finetune block for all task runs."""
    efficiency: EfficiencyConfig = EfficiencyConfig()
    """Amounts of labels, initialisations and seeds of the task runs; seed s starts from encoder s modulo
    `pretraining_seeds`."""

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
