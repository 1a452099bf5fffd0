"""The convolutional decoders of data2vec 2.0.

Shape legend: R rows (B*M), T tokens, C channels, h x w grid.
Tokens stay channels-last throughout, so that neither the norm nor the projection copies.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from d2v.config import DecoderConfig
from d2v.models.blocks import bert_init
from d2v.models.ops import Dropout, TokenConv1d, TokenConv2d, norm_gelu
from d2v.models.shards import count_in_products

NORM_EPS = 1e-5


class ConvLayer(nn.Module):
    """Grouped convolution over the token grid, parameter-free LayerNorm over channels, GELU."""

    def __init__(self, channels_in: int, channels_out: int, config: DecoderConfig, dims: int) -> None:
        super().__init__()
        conv = (TokenConv1d, TokenConv2d)[dims - 1]
        self.conv = conv(channels_in, channels_out, config.kernel, config.groups)
        self.even = config.kernel % 2 == 0
        self.residual = config.residual and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (R, T, C) or (R, h, w, C)."""
        y = self.conv(x)
        for axis in range(1, y.ndim - 1) if self.even else ():
            y = y.narrow(axis, 0, y.shape[axis] - 1)
        y = norm_gelu(y, eps=NORM_EPS)
        return x + y if self.residual else y


class ConvDecoder(nn.Module):
    """Convolutions over all positions, then a projection to the targets' width.

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
            hidden += [nn.Linear(size_in, size_out), nn.GELU()]
        last = nn.Linear(sizes[-1], width)
        projection = nn.Sequential(*hidden, last)
        if hidden:  # as the reference: text alone has hidden layers
            projection.apply(bert_init)
        with torch.no_grad():
            last.weight.mul_(config.projection_scale)
        return projection

    def fill_in(self, x_RTD: Tensor) -> Tensor:
        """(R, T, D) encoder outputs and noise -> (R, T, C), before the projection."""
        x = x_RTD if self.grid is None else x_RTD.unflatten(1, self.grid)
        for layer in self.layers:
            x = layer(x)
        return x if self.grid is None else x.flatten(1, 2)

    def forward(self, x_RTD: Tensor) -> Tensor:
        """(R, T, D) -> (R, T, D) predictions at every position."""
        return self.projection(self.fill_in(x_RTD))

    def flops(self, tokens: int, predicted: int) -> float:
        """Multiply-adds times two of one row's forward pass, the projection of as many tokens as are `predicted`."""
        convolutions = tokens * count_in_products(self.layers.parameters())
        return 2.0 * (convolutions + predicted * count_in_products(self.projection.parameters()))
