"""The series encoder: patches of steps, fixed positions, a post-norm transformer.

Shape legend: B series, M masks, R rows, S steps, C channels, T tokens, V visible tokens, D width, p steps of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2v.modalities.series.config import SeriesEncoderConfig, SeriesTrainConfig
from d2v.models.blocks import PostNormBlock, bert_init
from d2v.models.encoder import Encoder, Stem
from d2v.models.masking import Masks, gather_tokens


def sincos_positions(tokens: int, width: int) -> Tensor:
    """(T, D) sines and cosines of the position at wavelengths from 2 pi to 10000 x 2 pi."""
    omega = 10000.0 ** (-torch.arange(width // 2) / (width // 2))
    angles = torch.arange(tokens)[:, None] * omega
    return torch.cat((angles.sin(), angles.cos()), dim=1)


class Patches(nn.Module):
    """Steps that do not overlap through one linear map: (B, S, C) -> (B, S // p, D)."""

    def __init__(self, config: SeriesEncoderConfig) -> None:
        super().__init__()
        self.steps = config.patch_steps
        self.projection = nn.Linear(config.patch_steps * config.channels, config.width)

    def forward(self, values_BSC: Tensor) -> Tensor:
        tokens = values_BSC.shape[1] // self.steps
        return self.projection(values_BSC[:, : tokens * self.steps].unflatten(1, (tokens, self.steps)).flatten(2))


class SeriesStem(Stem):
    """Patches, to which positions are added before anything is masked."""

    local: Patches
    positions: Tensor

    def __init__(self, config: SeriesEncoderConfig) -> None:
        super().__init__()
        self.width, self.steps = config.width, config.patch_steps
        self.local = Patches(config)
        self.register_buffer("positions", sincos_positions(config.max_tokens, config.width), persistent=False)

    def num_tokens(self, inputs: Tensor) -> int:
        """Whole patches of a series."""
        return inputs.shape[1] // self.steps

    def token_lengths(self, lengths: Tensor) -> Tensor:
        """(B,) steps -> (B,) patches without padding."""
        return lengths // self.steps

    def add_positions(
        self, local_BTD: Tensor, lengths: Tensor | None, masks: Masks | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens with positions, the visible ones if there are masks; no attention bias."""
        x_BTD = local_BTD + self.positions[: local_BTD.shape[1]]
        return (x_BTD if masks is None else gather_tokens(x_BTD, masks.visible())), None


def build_encoder(recipe: SeriesTrainConfig) -> Encoder:
    """The recipe's encoder, initialised from torch's generator."""
    c = recipe.encoder
    blocks = [PostNormBlock(c.width, c.heads, c.mlp_ratio, c.norm_eps, c.dropout) for _ in range(c.depth)]
    norm = nn.LayerNorm(c.width, eps=c.norm_eps)
    return Encoder(SeriesStem(c), nn.ModuleList(blocks), c.width, context_norm=norm).apply(bert_init)
