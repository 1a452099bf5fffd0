"""Decoders: data2vec 2.0's convolutions, and the transformer of masked autoencoders (He et al. 2022, section 3).

Shape legend: R rows (B*M), T tokens, V visible, E extra tokens, D width of the encoder, C of the decoder, h x w grid,
P values of a patch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from d2v.config import DecoderConfig, MaeDecoderConfig
from d2v.models.blocks import VitBlock, bert_init
from d2v.models.ops import Dropout, LayerNorm, Linear, TokenConv1d, TokenConv2d, add_norm_gelu, norm_gelu
from d2v.models.shards import count_matmul_parameters

CONV_NORM_EPS, VIT_NORM_EPS = 1e-5, 1e-6


class ConvLayer(nn.Module):
    """Grouped convolution over the token grid, parameter-free LayerNorm over channels, GELU."""

    def __init__(self, channels_in: int, channels_out: int, config: DecoderConfig, dims: int) -> None:
        super().__init__()
        conv = (TokenConv1d, TokenConv2d)[dims - 1]
        self.conv = conv(channels_in, channels_out, config.kernel, config.groups)
        self.even = config.kernel % 2 == 0
        self.residual = config.residual and channels_in == channels_out

    def forward(self, x: Tensor, rounded: Tensor) -> tuple[Tensor, Tensor]:
        """`x` is (R, T, C) or (R, h, w, C), `rounded` the same in the type that the convolution computes in; so are
        both results."""
        y = self.conv(rounded)
        for axis in range(1, y.ndim - 1) if self.even else ():
            y = y.narrow(axis, 0, y.shape[axis] - 1)
        if self.residual:
            return add_norm_gelu(x, y, CONV_NORM_EPS)
        y = norm_gelu(y, eps=CONV_NORM_EPS)
        return y, y


class ConvDecoder(nn.Module):
    """data2vec 2.0's decoder: convolutions over all positions, then a projection to the targets' width. Tokens stay
    channels-last throughout, so that neither the norm nor the projection copies.

    Args:
        width: D of encoder and targets.
        config: layers, width, kernel, groups, residuals, projection.
        grid: (h, w) of tokens that lie in a plane, row by row; None for a sequence of any length.
    """

    def __init__(self, width: int, config: DecoderConfig, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.grid = grid
        channels = [width] + [config.width] * config.layers
        dims = 1 if grid is None else 2
        self.layers = nn.ModuleList([ConvLayer(a, b, config, dims) for a, b in pairwise(channels)])
        self.dropout = Dropout(config.input_dropout)
        self.projection = self._make_projection(width, config)

    @staticmethod
    def _make_projection(width: int, config: DecoderConfig) -> nn.Sequential:
        sizes = [config.width] + [int(config.width * config.projection_ratio)] * (config.projection_layers - 1)
        hidden: list[nn.Module] = []
        for size_in, size_out in pairwise(sizes):
            hidden += [Linear(size_in, size_out), nn.GELU()]
        last = Linear(sizes[-1], width)
        projection = nn.Sequential(*hidden, last)
        if hidden:  # as the reference: text alone has hidden layers
            projection.apply(bert_init)
        with torch.no_grad():
            last.weight.mul_(config.projection_scale)
        return projection

    def fill_in(self, x_RTD: Tensor) -> Tensor:
        """(R, T, D) encoder outputs and noise -> (R, T, C), before the projection."""
        x = x_RTD if self.grid is None else x_RTD.unflatten(1, self.grid)
        rounded = x
        for layer in self.layers:
            x, rounded = layer(x, rounded)
        return rounded if self.grid is None else rounded.flatten(1, 2)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """(R, T, D) -> (R, T, D) predictions at every position."""
        return self.projection(self.fill_in(x_RTD))

    def flops(self, tokens: int, predicted: int) -> float:
        """Multiply-adds times two of one row's forward pass, the projection of as many tokens as are `predicted`."""
        convolutions = tokens * count_matmul_parameters(self.layers.parameters())
        return 2.0 * (convolutions + predicted * count_matmul_parameters(self.projection.parameters()))


class MaeDecoder(nn.Module):
    """Masked autoencoders' decoder: visible tokens back at their positions, a learned vector everywhere else, fixed
    positions, blocks, projection.

    Args:
        width: D.
        values: P.
        config: layers, width, heads.
        positions: (1, T, C) fixed positions; extra tokens have none.
    """

    def __init__(self, width: int, values: int, config: MaeDecoderConfig, positions: Tensor) -> None:
        super().__init__()
        self.tokens = positions.shape[1]
        sizes = config.width, config.heads, config.mlp_ratio, VIT_NORM_EPS
        self.embed = Linear(width, config.width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, config.width).normal_(std=0.02))
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(VitBlock(*sizes) for _ in range(config.layers))
        self.norm = LayerNorm(config.width, eps=VIT_NORM_EPS)
        self.projection = Linear(config.width, values)
        self.apply(_xavier_init)

    def forward(self, visible_RVD: Tensor, extra_RED: Tensor, visible_idx_RV: Tensor) -> Tensor:
        """(R, T, C) features of all tokens, before the projection."""
        visible_RVC, extra_REC = self.embed(visible_RVD), self.embed(extra_RED)
        index_RVC = visible_idx_RV.unsqueeze(-1).expand_as(visible_RVC)
        masked_RTC = self.mask_token.to(visible_RVC.dtype).expand(len(index_RVC), self.tokens, -1)
        x = torch.cat((extra_REC, masked_RTC.scatter(1, index_RVC, visible_RVC) + self.positions), dim=1)
        for block in self.blocks:
            x, _ = block(x)
        return self.norm(x)[:, extra_REC.shape[1] :]

    def flops(self, visible: int, extra: int) -> float:
        """Multiply-adds times two of one row's forward pass, the projection of masked tokens among them."""
        n, width = self.tokens + extra, self.embed.out_features
        blocks = 2.0 * n * count_matmul_parameters(self.blocks.parameters()) + 4.0 * n * n * width * len(self.blocks)
        embed = 2.0 * (visible + extra) * count_matmul_parameters(self.embed.parameters())
        return embed + blocks + 2.0 * (self.tokens - visible) * count_matmul_parameters(self.projection.parameters())


def _xavier_init(module: nn.Module) -> None:
    """As the authors' code: Xavier-uniform weights, zero biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
