"""The encoder that student and teacher share: a modality's stem, extra tokens, context norm, prenet, trunk.

Shape legend: B samples, M masks per sample, T tokens, V visible, E extra tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Stem(nn.Module, ABC):
    """A modality's way from inputs to tokens."""

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """Local features (B, T, D), the same for every mask."""

    @abstractmethod
    def place(self, local_BTD: Tensor, visible_idx: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Add positions and keep what is visible.

        Args:
            local_BTD: local features.
            visible_idx: (B, M, V), or None for the whole sequence.

        Returns:
            ((B*M, V, D) tokens, attention bias broadcasting to (B*M, H, E+V, E+V) or None).
        """


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns.

    Attributes:
        tokens: (rows, V, D) final features.
        extra: (rows, E, D) final features of the extra tokens.
        activations: per trunk block (rows, V, D), without extra tokens; empty unless asked for.
    """

    tokens: Tensor
    extra: Tensor
    activations: list[Tensor]


class Encoder(nn.Module):
    """Stem, extra tokens, optional context norm, prenet blocks, trunk blocks, optional final norm.

    Args:
        stem: from inputs to tokens.
        blocks: trunk blocks, each (x, bias) -> (x, ffn).
        width: D.
        prenet: blocks before the trunk whose outputs are never targets.
        extra_tokens: E learned tokens in front (a CLS token is E = 1).
        context_norm: applied before the prenet (post-norm encoders).
        final_norm: applied after the trunk (pre-norm encoders).
    """

    def __init__(
        self,
        stem: Stem,
        blocks: nn.ModuleList,
        width: int,
        prenet: nn.ModuleList | None = None,
        extra_tokens: int = 0,
        context_norm: nn.Module | None = None,
        final_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.stem = stem
        self.extra_tokens = nn.Parameter(torch.randn(1, extra_tokens, width)) if extra_tokens else None
        self.context_norm = context_norm
        self.prenet = prenet if prenet is not None else nn.ModuleList()
        self.blocks = blocks
        self.final_norm = final_norm

    @property
    def num_extra(self) -> int:
        """E, the number of extra tokens."""
        return 0 if self.extra_tokens is None else self.extra_tokens.shape[1]

    def encode(
        self,
        local_BTD: Tensor,
        visible_idx: Tensor | None = None,
        activation: str | None = None,
    ) -> Encoded:
        """Run the trunk over local features.

        Args:
            local_BTD: what the stem made.
            visible_idx: (B, M, V) tokens to keep; None keeps all, with one row per sample.
            activation: "ffn" or "end_of_block" to collect every trunk block's activation.
        """
        x, bias = self.stem.place(local_BTD, visible_idx)
        if self.extra_tokens is not None:
            x = torch.cat((self.extra_tokens.to(x.dtype).expand(x.shape[0], -1, -1), x), dim=1)
        if self.context_norm is not None:
            x = self.context_norm(x)
        for block in self.prenet:
            x, _ = block(x, bias)
        activations: list[Tensor] = []
        for block in self.blocks:
            x, ffn = block(x, bias)
            if activation is not None:
                activations.append((ffn if activation == "ffn" else x)[:, self.num_extra :])
        if self.final_norm is not None:
            x = self.final_norm(x)
        return Encoded(x[:, self.num_extra :], x[:, : self.num_extra], activations)

    def forward(self, inputs: Tensor) -> Tensor:
        """Features of the whole input: (B, T, D)."""
        return self.encode(self.stem(inputs)).tokens

    def token_features(self, inputs: Tensor) -> Tensor:
        """(B, T, D) final features without extra tokens."""
        return self(inputs)

    def features(self, inputs: Tensor) -> Tensor:
        """(B, D) final features, averaged over tokens: what probes and users take."""
        return self(inputs).mean(dim=1)

    def flops(self, tokens: int) -> float:
        """Multiply-adds times two of one forward pass of prenet and trunk over `tokens` tokens of one row."""
        n = tokens + self.num_extra
        linear = sum(p.numel() for block in (*self.prenet, *self.blocks) for p in block.parameters() if p.ndim == 2)
        return 2.0 * n * linear + 4.0 * n * n * self.width * (len(self.prenet) + len(self.blocks))
