"""What is trained: one shape for pretraining and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from d2v.config import RunConfig
from d2v.data.batch import Batch, SampleKeys
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective

Probe = Callable[[Encoder, int], dict[str, float]]
"""(student, updates done) -> metrics"""
WholeProbe = Callable[[Mapping[str, Tensor], int], dict[str, float]]
"""(weights of the objective, updates done) -> metrics"""


class TrainingData(Protocol):
    """What batches are taken from."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that the result depends on beside the recipe."""
        ...

    @property
    def num_train(self) -> int:
        """Items to train on."""
        ...

    def train_lengths(self, recipe: Any) -> np.ndarray | None:
        """(num_train,) int64 input positions of each item; None where all items are alike."""
        ...

    def batch(self, keys: SampleKeys, recipe: Any) -> Batch:
        """Some items; a pure function of (recipe.seed, epoch, sample id)."""
        ...


@dataclass(frozen=True)
class Selection:
    """How the best state of a run is found.

    Attributes:
        measure: (student, weights of all else that is trained by name, heartbeat) -> metrics; called on rank 0.
        metric: the one that decides.
        higher_is_better: False for losses and error rates.
        every_updates: updates between two measurements; the last update is always measured.
        patience: measurements in a row without a gain after which the run ends; None for never.
        min_gain: a state is better if it is better by more than this.
    """

    measure: Callable[[Encoder, Mapping[str, Tensor], Callable[[], None]], dict[str, float]]
    metric: str
    higher_is_better: bool
    every_updates: int
    patience: int | None = None
    min_gain: float = 0.0

    def is_better(self, value: float, best: float) -> bool:
        """Whether a state is better than the best one so far."""
        return (value - best if self.higher_is_better else best - value) > self.min_gain


@dataclass(frozen=True)
class Job:
    """A training to do. With more than one rank each gets a pickled copy, so the callables are functions at the top of
    a module, partials of such, or methods of objects that can be pickled.

    Attributes:
        name: `<modality>.<block of the recipe>`, such as "vision.train", for messages and tags.
        recipe: the parsed block.
        open_data: called once the ranks have met, as rank 0 may have to make the data first.
        build: makes student, teacher, decoder and loss, with the weights that a fresh run starts from.
        export: (run folder, objective, weights_of), called on every rank at the end, to write the model for users.
        probe: called with the student and the updates done, every `probe_every_updates` and at the end, on rank 0.
        whole_probe: the same with all weights of the objective, which are put together for it; its metrics are added.
        selection: how the best state is found, which is exported then; None: the last state is.
        origin: digest of the weights that `build` starts from, if they are not random: part of the run's identity.
    """

    name: str
    recipe: RunConfig
    open_data: Callable[[], TrainingData]
    build: Callable[[], Objective]
    export: Callable[[Path, Any, WeightsOf], None] | None = None
    probe: Probe | None = None
    whole_probe: WholeProbe | None = None
    origin: str = ""
    selection: Selection | None = None

    @property
    def modality(self) -> str:
        """The name of the data's modality."""
        return self.name.partition(".")[0]
