"""What a benchmark compares."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from d2v.config.blocks import Block, NonNegativeInt, PositiveInt
from d2v.config.efficiency import EfficiencyConfig

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN = ("pretrained", "frozen", "scratch", "random_frozen", "random", "plain")


class TrialsConfig(Block):
    """Short pretrainings that choose the settings of each objective before the comparison, by the online probe's
    held-out training items."""

    changes: dict[str, list[dict[str, Any]]]
    """For each objective, alternative changes of its train block, on top of its own; `{}` is as it is. All objectives
    named here have as many. One that costs more for each update should name fewer `max_updates`."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.25
    """Updates of a trial, as a share of those of its settings."""
    seed: NonNegativeInt = 1000
    """Added to the train block's seed; the compared pretrainings have other seeds."""

    @model_validator(mode="after")
    def _are_as_many(self) -> TrialsConfig:
        counts = {name: len(alternatives) for name, alternatives in self.changes.items()}
        if not counts or len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(f"every objective needs as many trials, at least one, not {counts}: add or remove some")
        return self


class BenchmarkConfig(Block):
    """Objectives side by side: pretrained with the same code and budget on the same data, then put to the same task.

    A changed block is merged with the recipe's, and replaces it where the change gives it another `name` or `kind`."""

    objectives: dict[str, dict[str, Any]]
    """A name for each, and what it changes of the train block; `{}` is the train block itself. The others are compared
    with the first one."""
    prepare: dict[str, Any] = Field(default_factory=dict)
    """What changes of the prepare block for all objectives, such as a codebook that one of them learns. The benchmark
    then prepares data of its own, in its folder; with nothing changed it takes those of the prepare step."""
    trials: TrialsConfig | None = None
    """Chooses settings of the objectives first; null: they are compared as they are."""
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
        if self.trials and not self.trials.changes.keys() <= self.objectives.keys():
            unknown = ", ".join(sorted(self.trials.changes.keys() - self.objectives.keys()))
            raise ValueError(f"trials of {unknown}, which is no objective: name one of {', '.join(self.objectives)}")
        return self

    @model_validator(mode="after")
    def _every_encoder_is_tuned(self) -> BenchmarkConfig:
        if self.pretraining_seeds > self.efficiency.seeds:
            raise ValueError(
                f"{self.pretraining_seeds} pretraining_seeds and {self.efficiency.seeds} efficiency.seeds leave "
                "encoders without a task run: raise efficiency.seeds or lower pretraining_seeds"
            )
        return self
