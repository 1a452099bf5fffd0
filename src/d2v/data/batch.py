"""Batches and their keys, from the store to the training step, and the inputs of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # ingest does not wait for torch
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class SampleKeys:
    """Which samples an update, or a micro-batch of it, trains on.

    Attributes:
        update: index of the optimiser update, from 0.
        indices: (B,) int64 rows of the store's train split; they are the sample ids.
        epochs: (B,) int64 epoch of each row; a batch can straddle two epochs.
        length: input positions to crop every row to; None where all items are alike or are padded instead.
    """

    update: int
    indices: np.ndarray
    epochs: np.ndarray
    length: int | None = None


@dataclass
class Batch:
    """Model inputs with the keys that masks and noise are drawn from.

    Attributes:
        inputs: (B, ...) as the modality's encoder takes them.
        sample_ids: (B,) int64.
        epochs: (B,) int64.
        update: index of the optimiser update.
        lengths: (B,) int64 positions along axis 1 of `inputs` that are not padding; None if there is no padding.
        targets: (B, ...) what is right, where that comes from labels, or in pretraining from codes that prepare stored;
            None elsewhere.
    """

    inputs: Tensor
    sample_ids: Tensor
    epochs: Tensor
    update: int
    lengths: Tensor | None = None
    targets: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The fields that live on a device, by name."""
        fields = {name: getattr(self, name) for name in ("inputs", "sample_ids", "epochs", "lengths", "targets")}
        return {name: value for name, value in fields.items() if value is not None}

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device (without waiting for the copy)."""
        moved = {name: value.to(device, non_blocking=True) for name, value in self.tensors().items()}
        return Batch(update=self.update, **moved)


@dataclass(frozen=True)
class Inputs:
    """Items side by side, padded to one shape.

    Attributes:
        values: (n, ...) as the modality's encoder takes them.
        lengths: (n,) int64 positions along axis 1 that are not padding; None if there is no padding.
        cut_off: (n,) int64 tokens that each item has beyond what the encoder takes, which are not in `values`; None:
            nothing is missing.
        owners: (n,) int64 item that each row is a window of, ascending from 0; None where every row is an item.
    """

    values: Tensor
    lengths: Tensor | None = None
    cut_off: Tensor | None = None
    owners: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values)

    def select(self, rows: Tensor) -> Inputs:
        """Some items, without padding that none of them needs."""
        if self.lengths is None or not len(rows):
            return Inputs(self.values[rows], None if self.lengths is None else self.lengths[rows])
        lengths = self.lengths[rows]
        return Inputs(self.values[rows, : int(lengths.max())], lengths)

    def subset(self, rows: Tensor) -> Inputs:
        """Some items that may be many: what `select` gives, unless items are read when they are selected."""
        return self.select(rows)

    def split(self, batch_size: int) -> Iterator[Inputs]:
        """Batches in order, each without padding that none of its items needs."""
        import torch

        for rows in torch.arange(len(self)).split(batch_size):
            yield self.select(rows)

    def merged(self, rows: Tensor) -> Tensor:
        """What was computed of each row (n, ...) as one row an item (items, ...): the mean over its windows, weighted
        by their lengths."""
        if self.owners is None or self.lengths is None:
            return rows
        owners, lengths = (one.to(rows.device) for one in (self.owners, self.lengths))
        weights = lengths.to(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
        shape = (int(owners[-1]) + 1 if len(owners) else 0, *rows.shape[1:])
        sums = rows.new_zeros(shape).index_add_(0, owners, rows * weights)
        totals = rows.new_zeros((shape[0], *weights.shape[1:])).index_add_(0, owners, weights)
        return sums / totals

    def to(self, like: Tensor) -> Inputs:
        """On the device of `like`, and in its type if the values are floating point."""
        values = self.values.to(like.device, like.dtype if self.values.is_floating_point() else None)
        return Inputs(values, None if self.lengths is None else self.lengths.to(like.device))


class StoredInputs(Inputs):
    """Items that are read when they are selected, so that a probe holds no more than a batch of them.

    Args:
        read: rows of the store (n,) -> these items.
        rows: (n,) int64 rows of the store.
        lengths: as of `Inputs`.
    """

    _read: Callable[[np.ndarray], Inputs]
    _rows: np.ndarray

    def __init__(self, read: Callable[[np.ndarray], Inputs], rows: np.ndarray, lengths: Tensor | None = None) -> None:
        for name, value in {"_read": read, "_rows": rows, "lengths": lengths, "cut_off": None, "owners": None}.items():
            object.__setattr__(self, name, value)

    @property
    def values(self) -> Tensor:
        """(n, ...) all of them, read again each time."""
        return self._read(self._rows).values

    def __len__(self) -> int:
        return len(self._rows)

    def select(self, rows: Tensor) -> Inputs:
        """Some items, read."""
        return self._read(self._rows[rows.numpy()])

    def subset(self, rows: Tensor) -> StoredInputs:
        """Some items, not read yet."""
        return StoredInputs(self._read, self._rows[rows.numpy()], None if self.lengths is None else self.lengths[rows])
