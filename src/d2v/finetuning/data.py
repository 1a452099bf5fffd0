"""The labelled items that a task is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from d2v.config import FinetuneConfig
from d2v.data.batch import Batch, SampleKeys
from d2v.data.prepared import UNLABELLED, balanced_subset
from d2v.errors import ConfigError, DataError
from d2v.finetuning.mixup import mixed
from d2v.finetuning.tasks.base import Task
from d2v.modalities.base import LabelledSplit, Modality


def labelled_splits(
    modality: Modality, data: Any, config: Any, pretraining: Any, about: Mapping[str, Any]
) -> Mapping[str, LabelledSplit]:
    """The splits "train" and "test" of a prepared folder.

    Args:
        modality: what the data is.
        data: the prepared folder, opened.
        config: the finetune block.
        pretraining: the encoder's train block.
        about: the encoder's config.json; empty for random weights.

    Raises:
        ConfigError: the modality has no labels to fine-tune to, or the data was prepared for other encoders.
    """
    modality.check_fits(data, about)
    return modality.labelled(data, config, pretraining)


class TaskData:
    """The training items of a task, in batches.

    Args:
        split: the train split.
        rows: ascending rows of it to train on.
        task: gives targets.
        config: balance and mixtures.
        fingerprint: of the data and of the weights that training starts from.

    Attributes:
        rows: the rows.
    """

    class_names: tuple[str, ...] = ()

    def __init__(
        self, split: LabelledSplit, rows: np.ndarray, task: Task, config: FinetuneConfig, fingerprint: str
    ) -> None:
        self._split, self._task, self._config = split, task, config
        self.fingerprint, self.rows = fingerprint, rows
        self._drawn, self._repeats = rows, np.zeros(len(rows), dtype=np.int64)
        if config.balance == "sampling":
            self._drawn, self._repeats = as_often(rows, split.labels[rows])
        task.announce(split, rows)

    @property
    def num_train(self) -> int:
        """Items of an epoch; balanced sampling draws some of them several times."""
        return len(self._drawn)

    def train_lengths(self, recipe: Any) -> None:
        """None: items are padded, not cropped, so batches have a number of items."""
        return

    def batch(self, keys: SampleKeys, recipe: Any) -> Batch:
        """Augmented items with their targets; sample ids are rows of the split."""
        rows = self._drawn[keys.indices]
        rounds = 1 + int(self._repeats.max(initial=0))  # what is drawn twice in an epoch is augmented in two ways
        drawn_epochs = keys.epochs * rounds + self._repeats[keys.indices]
        inputs = self._split.augmented(SampleKeys(keys.update, rows, drawn_epochs))
        ids, epochs = torch.from_numpy(rows), torch.from_numpy(drawn_epochs)
        batch = Batch(inputs.values, ids, epochs, keys.update, inputs.lengths, self._task.targets(self._split, rows))
        return mixed(batch, self._config.mix, recipe.seed)


def as_often(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with those of smaller classes repeated until every class has as many as the largest, and how often each was
    drawn before."""
    classes, counts = np.unique(labels, return_counts=True)
    drawn = [np.resize(rows[labels == label], counts.max()) for label in classes]
    before = [np.arange(counts.max()) // count for count in counts]
    return np.concatenate(drawn), np.concatenate(before)


def chosen_rows(split: LabelledSplit, task: Task, config: FinetuneConfig) -> np.ndarray:
    """Ascending rows to train on; a smaller number of labels with the same seed is a subset of a larger one.

    Raises:
        DataError: there are none.
        ConfigError: minutes are asked for and items have no length in time.
    """
    usable, labels = task.usable(split), config.labels
    if not len(usable):
        raise DataError(
            f"No training item has what the task {config.task.name} needs: give labelled data, or choose another "
            "finetune.task.name"
        )
    if labels.minutes is not None:
        return _first_minutes(split, usable, labels.minutes, labels.seed)
    count = max(1, round(labels.share * len(usable)))
    if count == len(usable):
        return usable
    classes = split.labels[usable]
    random = np.random.Generator(np.random.Philox(key=[labels.seed, 2]))
    if (classes == UNLABELLED).any():
        return np.sort(random.permutation(usable)[:count])
    return usable[balanced_subset(classes, count, random)]


def _first_minutes(split: LabelledSplit, usable: np.ndarray, minutes: float, seed: int) -> np.ndarray:
    """Random recordings until they last so long."""
    if split.seconds is None:
        raise ConfigError("finetune.labels.minutes: these items have no length in time: set finetune.labels.share")
    order = np.random.Generator(np.random.Philox(key=[seed, 2])).permutation(usable)
    within = np.cumsum(split.seconds[order]) <= 60.0 * minutes
    return np.sort(order[: max(1, int(within.sum()))])
