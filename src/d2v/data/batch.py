"""What travels from the store to the training step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SampleKeys:
    """Which samples an update, or a part of it, trains on.

    Attributes:
        update: index of the optimiser update, from 0.
        indices: (B,) int64 rows of the store's training part; they are the sample ids.
        epochs: (B,) int64 epoch of each row; a batch can straddle two epochs.
    """

    update: int
    indices: np.ndarray
    epochs: np.ndarray


@dataclass
class Batch:
    """Model inputs with the keys that masks and noise are drawn from.

    Attributes:
        inputs: (B, ...) as the modality's encoder takes them.
        sample_ids: (B,) int64.
        epochs: (B,) int64.
        update: index of the optimiser update.
    """

    inputs: Tensor
    sample_ids: Tensor
    epochs: Tensor
    update: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device (without waiting for the copy)."""
        move = {name: getattr(self, name).to(device, non_blocking=True) for name in ("inputs", "sample_ids", "epochs")}
        return Batch(update=self.update, **move)
