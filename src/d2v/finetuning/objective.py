"""Fine-tuning an encoder to a task: the one module that the engine trains, beside those of pretraining.

Shape legend: B items, T tokens, D width.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d2v.config import FeatureMaskConfig, FinetuneConfig
from d2v.data.batch import Batch
from d2v.data.random import STREAM_FEATURE_MASK, fold_in, normal
from d2v.finetuning.tasks.base import Task
from d2v.models.blocks import PreNormBlock
from d2v.models.encoder import Encoder
from d2v.models.masking import random_spans
from d2v.objectives.base import LossOutput, Objective

HEAD, LOCAL, REST = "head", "local", "rest"
"""Parameter groups with learning rates of their own, beside `block-<n>`."""


@dataclass(frozen=True)
class FeatureMasks:
    """Masks over the local features, and what the loss is divided by.

    Attributes:
        count: () units of the loss.
        keys: (B,) what noise is drawn from.
        tokens_BT: True where a token is masked, or None.
        channels_BD: True where a channel is masked, or None.
    """

    count: Tensor
    keys: Tensor
    tokens_BT: Tensor | None = None
    channels_BD: Tensor | None = None


class FineTuning(Objective):
    """An encoder, a head and the task's loss.

    Args:
        config: the recipe's finetune block.
        student: the encoder to start from.
        head: (Encoded, token lengths) -> outputs.
        task: targets, loss and units.
        longest: T of the longest input, for the cost that is announced.
    """

    def __init__(self, config: FinetuneConfig, student: Encoder, head: nn.Module, task: Task, longest: int) -> None:
        super().__init__(student, longest)
        self.config, self.head, self.task = config, head, task
        if config.trained == "head":
            student.requires_grad_(False)
        elif config.frozen_local:
            local = student.stem.local
            getattr(local, "extractor", local).requires_grad_(False)  # what follows an extractor is trained

    def train(self, mode: bool = True) -> FineTuning:
        """A frozen encoder stays in evaluation mode, as a probe's must."""
        super().train(mode)
        if self.config.trained == "head":
            self.student.eval()
        return self

    # ------------------------------------------------------------------------------------ learning rates

    def part_of(self, name: str) -> str:
        """The head, the local encoder with tokens' own weights, one block, or the rest."""
        if name.startswith("head."):
            return HEAD
        blocks = [f"student.prenet.{n}." for n in range(len(self.student.prenet))]
        blocks += [f"student.blocks.{n}." for n in range(len(self.student.blocks))]
        for number, prefix in enumerate(blocks):
            if name.startswith(prefix):
                return f"block-{number:03d}"
        return LOCAL if name.startswith(("student.stem.local.", "student.extra_tokens")) else REST

    def rate_of(self, part: str, update: int) -> float:
        """Layer decay: block i of N has decay^(N - i). Of BEiT's encoders the local encoder and the extra tokens are
        the layer below, with decay^(N + 1); those of data2vec 2.0 have the full rate there, as head and norms have
        everywhere. While the encoder is frozen only the head has any."""
        if part == HEAD:
            return 1.0
        if update < self.config.frozen_updates:
            return 0.0
        blocks = len(self.student.prenet) + len(self.student.blocks)
        if part == LOCAL and isinstance(self.student.blocks[0], PreNormBlock):
            return self.config.layer_decay ** (blocks + 1)
        if not part.startswith("block-"):
            return 1.0
        return self.config.layer_decay ** (blocks - int(part.removeprefix("block-")))

    # ----------------------------------------------------------------------------------------- one step

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Any:
        """Masks over tokens and channels: a pure function of (seed, update, sample id)."""
        assert batch.targets is not None
        count, mask = self.task.units(batch.targets).to(device), self.config.mask
        keys = fold_in(seed, STREAM_FEATURE_MASK, batch.update, batch.sample_ids.to(device))
        tokens = self.student.stem.num_tokens(batch.inputs)
        lengths = self.student.token_lengths(batch.lengths)
        lengths = None if lengths is None else lengths.to(device)
        tokens_BT = _spans(keys, tokens, mask.time_ratio, mask.time_span, lengths)
        width = self.student.width
        channels_BD = _spans(fold_in(keys, 1), width, mask.channel_ratio, mask.channel_span, None)
        return FeatureMasks(count, fold_in(keys, 2), tokens_BT, channels_BD)

    def forward(self, batch: Batch, masks: Any) -> LossOutput:
        """Local features, masks over them, encoder, head, loss."""
        assert batch.targets is not None
        lengths = self.student.token_lengths(batch.lengths)
        with torch.no_grad() if self.config.trained == "head" else contextlib.nullcontext():
            local_BTD = _mask(self.student.stem(batch.inputs), masks, self.config.mask)
            encoded = self.student.encode(local_BTD, lengths)
        outputs = self.head(encoded, lengths).float()
        loss = self.task.loss(outputs, batch.targets, lengths)
        return LossOutput(loss, {"task_loss": loss.detach() / masks.count})

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        """Forward, and backward as two forwards where there is one; the head is left out."""
        student, stem = self.student, self.student.stem
        passes = 1.0 if self.config.trained == "head" else 3.0
        of_stem = 1.0 if self.config.frozen_local else passes
        parts = {
            "stem": of_stem * stem.local_flops(tokens),
            "student": passes * (student.flops(tokens) + stem.positions_flops(tokens)),
        }
        return parts | {"total": sum(parts.values())}


def _spans(keys: Tensor, length: int, ratio: float, span: int, lengths: Tensor | None) -> Tensor | None:
    """(B, length) bool, spans under each key; None if there are none."""
    return None if ratio == 0.0 else random_spans(keys, length, ratio, span, whole=False, lengths=lengths)


def _mask(local_BTD: Tensor, masks: FeatureMasks, config: FeatureMaskConfig) -> Tensor:
    """Replace masked tokens, then zero masked channels."""
    if masks.tokens_BT is not None:
        replacement = torch.zeros_like(local_BTD)
        if config.replacement == "noise":
            noise = normal(masks.keys, local_BTD[0].numel()).view_as(local_BTD)
            replacement = (config.noise_std * noise).to(local_BTD.dtype)
        local_BTD = torch.where(masks.tokens_BT.unsqueeze(-1), replacement, local_BTD)
    if masks.channels_BD is not None:
        local_BTD = local_BTD.masked_fill(masks.channels_BD.unsqueeze(1), 0.0)
    return local_BTD
