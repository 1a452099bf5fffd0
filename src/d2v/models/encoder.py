"""The encoder that student and teacher share: a modality's stem, extra tokens, context norm, prenet, trunk.

Shape legend: B samples, M masks per sample, R rows (B, or B*M with masks), T tokens, V visible, N selected, E extra
tokens, D width.
Lengths are tokens of a row that are not padding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from d2v.models.masking import Masks, Selected, is_padding
from d2v.models.ops import Dropout
from d2v.models.shards import count_matmul_parameters


class Stem(nn.Module, ABC):
    """A modality's way from inputs to tokens.

    Attributes:
        local: inputs -> local features (B, T, D), the same for every mask. A teacher that continues from its
            student's local features has none.
        width: D.
        sees_padding: whether local features depend on padding, so that items of several lengths are encoded apart.
        rounds_lengths: whether zeros behind a sequence change nothing, so that lengths may be rounded up.
    """

    local: nn.Module
    width: int
    sees_padding = False
    rounds_lengths = False

    def forward(self, inputs: Tensor) -> Tensor:
        """Local features (B, T, D)."""
        return self.local(inputs)

    @abstractmethod
    def num_tokens(self, inputs: Tensor) -> int:
        """T of the local features of such inputs."""

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) input positions that are not padding -> (B,) tokens that are not."""
        return lengths

    @abstractmethod
    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Add positions and keep what is visible.

        Args:
            local_BTD: local features.
            lengths: (B,), or None without padding.
            masks: whose `visible_idx` (B, M, V) to keep, or None for the whole sequence.

        Returns:
            ((R, V, D) tokens, attention bias broadcasting to (R, H, E+V, E+V) or None).
        """

    def mask_vector(self) -> Tensor:
        """(1, 1, D) the first value of the vector that replaces masked tokens in data2vec 1.0."""
        return nn.init.trunc_normal_(torch.zeros(1, 1, self.width), std=0.02)

    def local_flops(self, tokens: int) -> float:
        """Multiply-adds times two of making `tokens` local features."""
        return 2.0 * tokens * count_matmul_parameters(self.local.parameters())

    def positions_flops(self, tokens: int) -> float:
        """Multiply-adds times two of adding positions to one row of `tokens` tokens."""
        return 0.0


@dataclass(frozen=True)
class Encoded:
    """What an encoder returns.

    Attributes:
        tokens: (R, V, D) final features.
        extra: (R, E, D) final features of the extra tokens.
        activations: per trunk block (R, V, D), without extra tokens; empty unless asked for.
    """

    tokens: Tensor
    extra: Tensor
    activations: list[Tensor]


class Encoder(nn.Module):
    """Stem, extra tokens, optional context norm, prenet blocks, trunk blocks, optional final norm.

    Args:
        stem: from inputs to tokens.
        blocks: trunk blocks, each (x, bias) -> (x, ffn), or of selected tokens alone (x, bias, selected) -> (x, ffn).
        width: D.
        prenet: blocks before the trunk whose outputs are never targets.
        extra_tokens: E learned tokens in front (a CLS token is E = 1).
        context_norm: applied before the prenet (post-norm encoders).
        final_norm: applied after the trunk (pre-norm encoders).
        context_dropout: after the context norm.
        layer_drop: probability that training skips a block: (of the prenet, of the trunk).

    Attributes:
        num_extra: E.
        layer_drop_seed: what decides which blocks are skipped. All parts of an update must have the same: ranks that
            gather a block's shards together must not disagree about it.
        activation_checkpointing: backward computes each block's activations again instead of finding them stored.
    """

    layer_drop_seed = 0
    activation_checkpointing = False

    def __init__(
        self,
        stem: Stem,
        blocks: nn.ModuleList,
        width: int,
        prenet: nn.ModuleList | None = None,
        extra_tokens: int = 0,
        context_norm: nn.Module | None = None,
        final_norm: nn.Module | None = None,
        context_dropout: float = 0.0,
        layer_drop: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        super().__init__()
        self.width = width
        self.stem = stem
        self.num_extra = extra_tokens
        self.extra_tokens = nn.Parameter(torch.randn(1, extra_tokens, width)) if extra_tokens else None
        self.context_norm = context_norm
        self.context_dropout = Dropout(context_dropout)
        self.prenet = prenet if prenet is not None else nn.ModuleList()
        self.blocks = blocks
        self.final_norm = final_norm
        self.layer_drop = layer_drop

    def encode(
        self,
        local_BTD: Tensor,
        lengths: Tensor | None = None,
        masks: Masks | None = None,
        activation: str | None = None,
    ) -> Encoded:
        """Run the trunk over local features.

        Args:
            local_BTD: what the stem made.
            lengths: (B,) tokens that are not padding; None without padding.
            masks: keep their visible tokens, M rows per sample; None keeps all, one row per sample.
            activation: "ffn" or "end_of_block" to collect every trunk block's activation.
        """
        x, bias, trunk = self._enter(local_BTD, lengths, masks)
        x, activations = self._through(trunk, x, bias, activation)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return Encoded(
            x[:, self.num_extra :], x[:, : self.num_extra], [one[:, self.num_extra :] for one in activations]
        )

    def encode_some(
        self, local_BTD: Tensor, some: Selected, lengths: Tensor | None = None, activation: str | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the trunk over whole sequences where only some tokens' results are wanted: the last block computes them
        alone.

        Args:
            local_BTD: what the stem made.
            some: the tokens, without extra ones.
            lengths: (B,) tokens that are not padding; None without padding.
            activation: "ffn" or "end_of_block" to collect every trunk block's activation.

        Returns:
            ((N, D) final features, (N, D) activations of every trunk block); of the latter none unless asked for.
        """
        x, bias, trunk = self._enter(local_BTD, lengths, None)
        some = some.behind(self.num_extra)
        x, before = self._through(trunk[:-1], x, bias, activation)
        x, last = self._through(trunk[-1:], x, bias, activation, some) if trunk else (some.of(x), [])
        if self.final_norm is not None:
            x = self.final_norm(x)
        return x, [*(some.of(one) for one in before), *last]

    def _enter(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None, list[nn.Module]]:
        """What enters the trunk, its attention bias, and the blocks of the trunk that this pass runs."""
        x, bias = self.stem.add_positions(local_BTD, lengths, masks)
        if self.extra_tokens is not None:
            x = torch.cat((self.extra_tokens.to(x.dtype).expand(x.shape[0], -1, -1), x), dim=1)
        bias = self._without_padding(bias, lengths if masks is None else masks.visible_lengths, x.shape[1])
        if self.context_norm is not None:
            x = self.context_norm(x)
        x = self.context_dropout(x)
        prenet, trunk = self._kept()
        x, _ = self._through(prenet, x, bias, None)
        return x, bias, trunk

    def _through(
        self, blocks: Sequence[nn.Module], x: Tensor, bias: Tensor | None, activation: str | None, *some: Selected
    ) -> tuple[Tensor, list[Tensor]]:
        """What comes out of these blocks, and the activation of each if one is named."""
        activations = []
        for block in blocks:
            x, ffn = self._run(block, x, bias, *some)
            if activation is not None:
                activations.append(ffn if activation == "ffn" else x)
        return x, activations

    def _run(self, block: nn.Module, x_RTD: Tensor, bias: Tensor | None, *some: Selected) -> tuple[Tensor, Tensor]:
        if self.activation_checkpointing and torch.is_grad_enabled():
            output: tuple[Tensor, Tensor] = checkpoint(block, x_RTD, bias, *some, use_reentrant=False)
            return output
        return block(x_RTD, bias, *some)

    def _kept(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """The blocks of prenet and trunk that this pass runs (LayerDrop, Fan et al. 2020); all in evaluation."""
        if not self.training or not any(self.layer_drop):
            return list(self.prenet), list(self.blocks)
        generator = torch.Generator().manual_seed(self.layer_drop_seed)

        def drawn(blocks: nn.ModuleList, rate: float) -> list[nn.Module]:
            kept = torch.rand(len(blocks), generator=generator, device="cpu") >= rate
            return [block for block, keep in zip(blocks, kept.tolist(), strict=True) if keep]

        return drawn(self.prenet, self.layer_drop[0]), drawn(self.blocks, self.layer_drop[1])

    def _without_padding(self, bias: Tensor | None, lengths: Tensor | None, tokens: int) -> Tensor | None:
        """The bias with minus infinity for keys that are padding. Of a row without tokens the first key stays, as a
        softmax over none is NaN."""
        if lengths is None:
            return bias
        padding_R11T = is_padding((lengths + self.num_extra).clamp(min=1), tokens)[:, None, None]
        if bias is None:
            bias = torch.zeros(1, 1, 1, tokens, device=lengths.device)
        return bias.masked_fill(padding_R11T, -torch.inf)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Features of the whole input (B, T, D), without extra tokens.

        Args:
            inputs: (B, ...) as the stem takes them.
            lengths: (B,) positions along axis 1 of `inputs` that are not padding; None without padding.
        """
        return self.encode(self.stem(inputs), self.token_lengths(lengths)).tokens

    def token_lengths(self, lengths: Tensor | None) -> Tensor | None:
        """Lengths of inputs -> lengths in tokens; None stays None."""
        return None if lengths is None else self.stem.token_lengths(lengths)

    def features(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, D) final features, averaged over tokens that are not padding: what probes and users take."""
        tokens_BTD = self(inputs, lengths)
        token_lengths = self.token_lengths(lengths)
        if token_lengths is None:
            return tokens_BTD.mean(dim=1)
        padding_BT1 = is_padding(token_lengths, tokens_BTD.shape[1]).unsqueeze(-1)
        return tokens_BTD.masked_fill(padding_BT1, 0.0).sum(dim=1) / token_lengths[:, None]

    def flops(self, tokens: int, some: float | None = None) -> float:
        """Multiply-adds times two of one forward pass of prenet and trunk over one row.

        Args:
            tokens: of the row.
            some: tokens whose results are wanted; None: all.
        """
        n = tokens + self.num_extra
        linear = count_matmul_parameters((*self.prenet.parameters(), *self.blocks.parameters()))
        total = 2.0 * n * linear + 4.0 * n * n * self.width * (len(self.prenet) + len(self.blocks))
        if some is None:
            return total
        own = (p for name, p in self.blocks[-1].named_parameters() if name.startswith(("attn.proj.", "mlp.")))
        return total - 2.0 * (n - some) * count_matmul_parameters(own)
