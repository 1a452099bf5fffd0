"""Which samples an update trains on: a pure function of (seed, update), whatever the ranks or workers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from d2v.data.batch import SampleKeys
from d2v.data.random import STREAM_ORDER
from d2v.errors import DataError

_CACHED_EPOCHS = 2  # a batch straddles at most two epochs


@dataclass
class BatchOrder:
    """Endless shuffled epochs, cut into batches of equal size.

    The samples are one long sequence of epochs, each a permutation of all items; update u takes positions
    u * batch_size and following. A batch may end one epoch and begin the next, so no item is ever dropped.

    Args:
        num_items: items to train on.
        batch_size: samples per update, over all ranks and accumulation steps.
        seed: the recipe's seed.

    Raises:
        DataError: a batch holds more samples than there are.

    Example:
        >>> BatchOrder(num_items=4, batch_size=2, seed=0).at(5).epochs.tolist()
        [2, 2]
    """

    num_items: int
    batch_size: int
    seed: int
    _permutations: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size > self.num_items:
            raise DataError(
                f"train.batch_size {self.batch_size} is larger than the data, which has {self.num_items} training "
                f"items, so one update would see an item twice: set train.batch_size to at most {self.num_items}, "
                "or ingest more data."
            )

    def at(self, update: int) -> SampleKeys:
        """The samples of one update, all ranks together; `update` counts from 0."""
        positions = np.arange(update * self.batch_size, (update + 1) * self.batch_size, dtype=np.int64)
        epochs, offsets = np.divmod(positions, self.num_items)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = self._permutation(int(epoch))[offsets[here]]
        return SampleKeys(update, indices, epochs)

    def slice(self, keys: SampleKeys, rank: int, ranks: int, step: int, steps: int) -> SampleKeys:
        """The micro-batch of `rank` at accumulation step `step`.

        Piece `step * ranks + rank` of equal contiguous pieces, so 1 rank x 2 steps trains on the same pieces as
        2 ranks x 1 step.
        """
        size = len(keys.indices) // (ranks * steps)
        start = (step * ranks + rank) * size
        return SampleKeys(keys.update, keys.indices[start : start + size], keys.epochs[start : start + size])

    def _permutation(self, epoch: int) -> np.ndarray:
        """Sorts raw Philox words: NumPy guarantees those for ever, its `permutation` only within a version."""
        if epoch not in self._permutations:
            while len(self._permutations) >= _CACHED_EPOCHS:
                del self._permutations[min(self._permutations)]
            key = np.array([self.seed, (epoch << 8) | STREAM_ORDER], dtype=np.uint64)
            words = np.random.Philox(key=key).random_raw(self.num_items)
            self._permutations[epoch] = np.argsort(words, kind="stable")
        return self._permutations[epoch]
