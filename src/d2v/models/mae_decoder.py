"""The transformer decoder of masked autoencoders (He et al. 2022, section 3).

Shape legend: R rows, T tokens, V visible, E extra tokens, D width of the encoder, C of
the decoder, P values of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2v.config import MaeDecoderConfig
from d2v.models.blocks import PreNormBlock
from d2v.models.ops import LayerNorm
from d2v.models.shards import count_in_products

NORM_EPS = 1e-6


class VitBlock(PreNormBlock):
    """The pre-norm block of ViT, which gives K a bias, too."""

    key_bias = True


class MaeDecoder(nn.Module):
    """Visible tokens back in their places, a learned vector everywhere else, fixed positions, blocks, projection.

    Args:
        width: D.
        values: P.
        config: layers, width, heads.
        positions: (1, T, C) fixed positions; extra tokens have none.
    """

    def __init__(self, width: int, values: int, config: MaeDecoderConfig, positions: Tensor) -> None:
        super().__init__()
        self.tokens = positions.shape[1]
        sizes = config.width, config.heads, config.mlp_ratio, NORM_EPS
        self.embed = nn.Linear(width, config.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width).normal_(std=0.02))
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(VitBlock(*sizes) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, eps=NORM_EPS)
        self.projection = nn.Linear(config.width, values)
        self.apply(_xavier_init)

    def forward(self, visible_RVD: Tensor, extra_RED: Tensor, visible_idx_RV: Tensor) -> Tensor:
        """(R, T, C) features of all tokens, before the projection."""
        visible_RVC, extra_REC = self.embed(visible_RVD), self.embed(extra_RED)
        place = visible_idx_RV.unsqueeze(-1).expand_as(visible_RVC)
        hidden_RTC = self.mask_token.to(visible_RVC.dtype).expand(len(place), self.tokens, -1)
        x = torch.cat((extra_REC, hidden_RTC.scatter(1, place, visible_RVC) + self.positions), dim=1)
        for block in self.blocks:
            x, _ = block(x)
        return self.norm(x)[:, extra_REC.shape[1] :]

    def flops(self, visible: int, extra: int) -> float:
        """Multiply-adds times two of one row's forward pass, the projection of hidden tokens among them."""
        n, width = self.tokens + extra, self.embed.out_features
        blocks = 2.0 * n * count_in_products(self.blocks.parameters()) + 4.0 * n * n * width * len(self.blocks)
        embed = 2.0 * (visible + extra) * count_in_products(self.embed.parameters())
        return embed + blocks + 2.0 * (self.tokens - visible) * count_in_products(self.projection.parameters())


def _xavier_init(module: nn.Module) -> None:
    """As the authors' code: Xavier-uniform weights, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
