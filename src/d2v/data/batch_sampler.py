"""Which samples an update trains on: a pure function of (seed, update), whatever the ranks or workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from d2v.config import BatchBudget, RunConfig
from d2v.data.batch import SampleKeys
from d2v.data.random import STREAM_ORDER
from d2v.errors import DataError

_CACHED_EPOCHS = 2  # a batch straddles at most two epochs


class BatchSampler(ABC):
    """Endless shuffled epochs, cut into the batches of updates.

    Attributes:
        num_items: items to train on.
        seed: the recipe's seed.
    """

    num_items: int
    seed: int

    @abstractmethod
    def at(self, update: int) -> SampleKeys:
        """The samples of one update, all ranks together; `update` counts from 0."""

    @abstractmethod
    def shapes(self) -> list[tuple[int, int | None]]:
        """(samples, input positions of each, or None where all items are alike) of updates, in the shares in which they
        come."""

    @abstractmethod
    def epochs(self, updates: int) -> float:
        """How often the first `updates` updates have gone through the items."""

    def samples(self, updates: int) -> int:
        """Samples of the first `updates` updates; where batches differ, by their mean."""
        return round(updates * sum(count for count, _ in self.shapes()) / len(self.shapes()))

    @staticmethod
    def micro_batch(keys: SampleKeys, rank: int, world_size: int, step: int, steps: int) -> SampleKeys:
        """The micro-batch of `rank` at accumulation step `step`.

        Piece `step * world_size + rank` of equal contiguous pieces, so 1 rank x 2 steps trains on the same pieces as
        2 ranks x 1 step.
        """
        size = len(keys.indices) // (world_size * steps)
        start = (step * world_size + rank) * size
        own = slice(start, start + size)
        return SampleKeys(keys.update, keys.indices[own], keys.epochs[own], keys.length)


def open_batch_sampler(recipe: RunConfig, num_items: int, lengths: np.ndarray | None) -> BatchSampler:
    """The order that a recipe asks for.

    Args:
        recipe: its batch size or budget, and its seed.
        num_items: items to train on.
        lengths: (num_items,) input positions; None where all items are alike.

    Raises:
        DataError: a batch holds more samples than there are, or less than one item.
    """
    if recipe.batch_budget is None:
        return EqualBatchSampler(num_items, recipe.batch_unit, recipe.seed, lengths)
    if lengths is None:
        raise DataError(
            "train.batch_budget is for items of different lengths, and these are alike: set train.batch_size"
        )
    return BucketBatchSampler(lengths, recipe.batch_budget, recipe.seed)


@dataclass
class _Shuffles:
    """Permutations by epoch: sorts raw Philox words, which NumPy guarantees for ever (its `permutation` only within a
    version)."""

    seed: int
    stream: int
    _made: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def of(self, epoch: int, make: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
        """`make(words)` of an epoch's `size` random words, kept for the last epochs asked for."""
        if epoch not in self._made:
            while len(self._made) >= _CACHED_EPOCHS:
                del self._made[min(self._made)]
            key = np.array([self.seed, (epoch << 8) | self.stream], dtype=np.uint64)
            self._made[epoch] = make(np.random.Philox(key=key).random_raw(size))
        return self._made[epoch]


def _by_word(words: np.ndarray) -> np.ndarray:
    return np.argsort(words, kind="stable")


class EqualBatchSampler(BatchSampler):
    """Batches of equal size.

    The samples are one long sequence of epochs, each a permutation of all items; update u takes positions
    u * batch_size and following. A batch may end one epoch and begin the next, so no item is ever dropped.

    Args:
        num_items: items to train on.
        batch_size: samples per update, over all ranks and accumulation steps.
        seed: the recipe's seed.
        lengths: (num_items,) input positions; every batch is cropped to its shortest item. None: items are alike.

    Raises:
        DataError: a batch holds more samples than there are.

    Example:
        >>> EqualBatchSampler(num_items=4, batch_size=2, seed=0).at(5).epochs.tolist()
        [2, 2]
    """

    def __init__(self, num_items: int, batch_size: int, seed: int, lengths: np.ndarray | None = None) -> None:
        self.num_items, self.batch_size, self.seed, self.lengths = num_items, batch_size, seed, lengths
        self._shuffles = _Shuffles(seed, STREAM_ORDER)
        if batch_size > num_items:
            raise DataError(
                f"batch_size {batch_size} is larger than the data, which has {num_items} training "
                f"items, so one update would see an item twice: set batch_size to at most {num_items}, "
                "or ingest more data."
            )

    def at(self, update: int) -> SampleKeys:
        """The samples of one update."""
        positions = np.arange(update * self.batch_size, (update + 1) * self.batch_size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_items)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = self._shuffles.of(int(epoch), _by_word, self.num_items)[offsets[here]]
        length = None if self.lengths is None else int(self.lengths[indices].min())
        return SampleKeys(update, indices, epochs, length)

    def shapes(self) -> list[tuple[int, int | None]]:
        """One shape; of items that differ, the batches that begin in the first epoch."""
        if self.lengths is None:
            return [(self.batch_size, None)]
        return [(self.batch_size, self.at(update).length) for update in range(-(-self.num_items // self.batch_size))]

    def epochs(self, updates: int) -> float:
        """Samples seen over items."""
        return updates * self.batch_size / self.num_items


class BucketBatchSampler(BatchSampler):
    """Batches of items of like length, as many as a budget of input positions holds.

    Items stand sorted by length, longest first, in buckets within which each epoch shuffles them anew; batches are cut
    off that line, so their sizes are the same in every epoch, and then come in an order that is shuffled too. Every
    batch is cropped to its shortest item, rounded down to a multiple of `crop_multiple`. Up to `multiple_of` - 1 of the
    shortest items wait in an epoch, others in the next.

    Args:
        lengths: (items,) int64 input positions of each item.
        budget: positions per update, the multiples of batch sizes and of crops, and the width of buckets.
        seed: the recipe's seed.

    Raises:
        DataError: the budget does not hold `multiple_of` of the longest items, or there are fewer items than that.
    """

    def __init__(self, lengths: np.ndarray, budget: BatchBudget, seed: int) -> None:
        self.lengths, self.seed, self.num_items = np.asarray(lengths, dtype=np.int64), seed, len(lengths)
        self._buckets = np.floor(np.log(np.maximum(self.lengths, 1)) / np.log(budget.bucket_ratio)).astype(np.int64)
        self._crop_multiple = budget.crop_multiple
        self._shuffles = _Shuffles(seed, STREAM_ORDER)
        self._bounds = _cut(self.lengths, self._buckets, budget)

    def at(self, update: int) -> SampleKeys:
        """The samples of one update, with the length to crop them to."""
        epoch, number = divmod(update, len(self._bounds))
        line = self._shuffles.of(epoch, self._shuffle, self.num_items + len(self._bounds))
        start, stop = self._bounds[line[self.num_items + number]]
        indices = line[start:stop]
        shortest = int(self.lengths[indices].min())
        length = shortest // self._crop_multiple * self._crop_multiple or shortest
        return SampleKeys(update, indices, np.full(len(indices), epoch, np.int64), length)

    def _shuffle(self, words: np.ndarray) -> np.ndarray:
        """All items, longest bucket first and random within buckets; then all batches, in random order."""
        items = np.lexsort((words[: self.num_items], -self._buckets))
        return np.concatenate((items, _by_word(words[self.num_items :])))

    def shapes(self) -> list[tuple[int, int | None]]:
        """Every batch of the first epoch."""
        keys = [self.at(update) for update in range(len(self._bounds))]
        return [(len(one.indices), one.length) for one in keys]

    def epochs(self, updates: int) -> float:
        """Updates over batches of an epoch."""
        return updates / len(self._bounds)


def _cut(lengths: np.ndarray, buckets: np.ndarray, budget: BatchBudget) -> list[tuple[int, int]]:
    """(start, stop) of each batch in the line of all items, longest bucket first.

    A batch takes as many as fit if all were as long as the longest of the bucket that its first item is in, so that
    the cut does not depend on how buckets are shuffled.
    """
    order = np.argsort(-buckets, kind="stable")
    longest = {int(bucket): int(lengths[buckets == bucket].max()) for bucket in np.unique(buckets)}
    bounds, start, unit = [], 0, budget.multiple_of
    while len(order) - start >= unit:
        most = budget.positions // longest[int(buckets[order[start]])] // unit * unit
        if not most:
            need = longest[int(buckets[order[start]])] * unit
            raise DataError(
                f"train.batch_budget.positions {budget.positions:,} does not hold {unit} items of {need // unit:,} "
                f"positions: raise it to at least {need:,}, or lower the longest crop or train.batch_budget.multiple_of"
            )
        stop = start + min(most, (len(order) - start) // unit * unit)
        bounds.append((start, stop))
        start = stop
    if not bounds:
        raise DataError(
            f"The data has {len(order)} training items and train.batch_budget.multiple_of is {unit}: set it to at most "
            f"{len(order)}, or ingest more data."
        )
    return bounds
