"""What every objective is: the one module that the engine trains.

Shape legend: B samples, T tokens, D width, N masked tokens of all samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import TrainConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_MASK, fold_in
from d2v.modalities.base import Modality, PreparedData
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.targets import mean_std
from d2v.models.teacher import Teacher

DrawMasks = Callable[[Tensor, int, Tensor | None], Tensor]
"""Keys (R,), T, lengths (R,) or None -> is_masked (R, T)."""
MASKS_FOR_THE_MEAN = 256


@dataclass(frozen=True)
class LossOutput:
    """The loss of one batch.

    Attributes:
        loss_sum: () sum over masked positions; the engine divides it by the global count.
        statistics: () detached figures for the log, already means.
    """

    loss_sum: Tensor
    statistics: dict[str, Tensor]


def squared_error(name: str, prediction_NP: Tensor, target_NP: Tensor, masks: Masks) -> LossOutput:
    """The mean squared error of each masked token's P values, summed over the N tokens.

    Args:
        name: of the loss in the log.
        prediction_NP, target_NP: at all masked tokens.
        masks: that hid them.
    """
    loss = F.mse_loss(prediction_NP, target_NP, reduction="sum") / target_NP.shape[1]
    spreads = {"target_std": mean_std(target_NP), "pred_std": mean_std(prediction_NP.detach())}
    return LossOutput(loss, {name: loss.detach() / masks.count, **spreads})


class Objective(nn.Module, ABC):
    """A student and a loss.

    Args:
        student: the encoder to train.
        longest: T of the longest sequence.

    Attributes:
        teacher: what the targets come from; None where they come from the data.
    """

    teacher: Teacher | None

    def __init__(self, student: Encoder, longest: int) -> None:
        super().__init__()
        self.student, self.longest, self.teacher = student, longest, None

    @abstractmethod
    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        """The batch's masks: a pure function of (seed, update, sample id, mask index)."""

    @abstractmethod
    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        """One forward pass and its loss."""

    def take_from(self, data: PreparedData) -> None:
        """Take what prepare found for this objective, before training starts. By default there is nothing.

        Raises:
            ConfigError: it is not there, or of other sizes.
        """

    def token_losses(self, batch: Batch, masks: Masks) -> Tensor | None:
        """(N,) the loss of every masked token, row by row, in evaluation; None where an objective has no loss of single
        tokens.

        Args:
            batch: without padding.
            masks: all rows mask as many tokens.
        """
        return None

    def visible_features(self, batch: Batch, masks: Masks) -> Tensor | None:
        """(B, T, D) the student's features where it does not see masked tokens, in evaluation; what stands at these has
        no meaning. None where an objective masks nothing.

        Args:
            batch: without padding.
            masks: one per sample; all mask as many tokens.
        """
        return None

    @abstractmethod
    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Floating point operations of one training update per sample of `tokens` tokens: stem, teacher, student,
        decoder, total."""

    def part_of(self, name: str) -> str:
        """The part that a parameter belongs to; parts can have learning rates of their own."""
        return "all"

    def rate_of(self, part: str, update: int) -> float:
        """What the learning rate of a part is multiplied by at an update, from 0."""
        return 1.0

    def teacher_decay(self, update: int) -> float | None:
        """Decay of the teacher's step after optimiser update number `update`, from 1; None without a teacher."""
        return None

    def update_teacher(self, decay: float) -> None:
        """The teacher's step, after the optimiser's."""


class Pretraining(Objective):
    """An objective that a recipe names and builds.

    Attributes:
        needs: the method of a modality that the targets come from, and without which it cannot be trained; None where
            every modality will do.
    """

    needs: ClassVar[str | None] = None

    @classmethod
    @abstractmethod
    def build(cls, config: Any, student: Encoder, modality: Modality, recipe: TrainConfig) -> Pretraining:
        """The objective around a student, its other weights drawn from torch's generator.

        Args:
            config: the objective's block of the recipe.
            student: the encoder to train.
            modality: gives masks, and targets where they come from the data.
            recipe: for the modality's functions.
        """

    @classmethod
    def supply(cls, modality: Modality, recipe: TrainConfig) -> Any:
        """What the modality gives for `needs`; None if it gives nothing."""
        return getattr(modality, str(cls.needs))(recipe)


def mask_keys(batch: Batch, seed: int, device: torch.device | str) -> Tensor:
    """(B,) keys of one mask per sample."""
    return fold_in(seed, STREAM_MASK, batch.update, batch.sample_ids.to(device))


def ragged_masks(student: Encoder, draw: DrawMasks, batch: Batch, seed: int, device: torch.device | str) -> Masks:
    """One mask per sample, which may mask different numbers of tokens."""
    lengths = None if batch.lengths is None else student.token_lengths(batch.lengths.to(device))
    return Masks.ragged(draw(mask_keys(batch, seed, device), student.stem.num_tokens(batch.inputs), lengths))


@cache
def mean_masked(draw: DrawMasks, tokens: int) -> float:
    """Tokens that masks mask of `tokens`, the mean of some."""
    return float(draw(fold_in(torch.arange(MASKS_FOR_THE_MEAN)), tokens, None).sum(dim=1).float().mean())
