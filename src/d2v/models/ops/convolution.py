"""Convolutions of sequences whose channels run fastest, as transformers have them.

Shape legend: R rows, S and T positions before and after, C and E channels before and after, K kernel.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenConv1d(nn.Conv1d):
    """A convolution of stride 1 with K // 2 zeros at both ends: (R, S, C) -> (R, T, E).

    torch's one-dimensional convolution would copy the sequence to channels first and back. Its two-dimensional one
    takes channels that run fastest as they are; on a CPU that is up to 2.5 times as fast.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x_RSC: Tensor) -> Tensor:
        plane, weight, padding = x_RSC.transpose(1, 2).unsqueeze(2), self.weight.unsqueeze(2), (0, *self.padding)
        return F.conv2d(plane, weight, self.bias, padding=padding, groups=self.groups).squeeze(2).transpose(1, 2)


class TokenConv2d(nn.Conv2d):
    """The same over a grid: (R, h, w, C) -> (R, h', w', E)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups)

    def forward(self, x_RhwC: Tensor) -> Tensor:
        return super().forward(x_RhwC.movedim(-1, 1)).movedim(1, -1)


class StridedConv1d(nn.Conv1d):
    """A convolution without padding and bias: (R, S, C) -> (R, T, E).

    On a CPU as products of matrices, one for every `stride` taps: the inputs under so many taps lie side by side, so
    that little need be copied to multiply them. With its backward that is 1.6 times as fast as torch's convolution.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, bias=False)

    def forward(self, x_RSC: Tensor) -> Tensor:
        if x_RSC.device.type != "cpu":
            return super().forward(x_RSC.transpose(1, 2)).transpose(1, 2)
        (kernel,), (stride,) = self.kernel_size, self.stride
        outputs = (x_RSC.shape[1] - kernel) // stride + 1
        taps_EKC = self.weight.transpose(1, 2)
        products = [
            F.linear(_under(x_RSC, first, taps.shape[1], stride, outputs), taps.flatten(1))
            for first, taps in zip(range(0, kernel, stride), taps_EKC.split(stride, dim=1), strict=True)
        ]
        return functools.reduce(torch.add, products)


def _under(x_RSC: Tensor, first: int, taps: int, stride: int, outputs: int) -> Tensor:
    """(R, T, taps * C) the inputs under taps `first` to `first + taps` of every output."""
    if taps == stride:
        return x_RSC[:, first : first + stride * outputs].reshape(len(x_RSC), outputs, -1)
    end = stride * (outputs - 1) + 1
    return torch.cat([x_RSC[:, tap : tap + end : stride] for tap in range(first, first + taps)], dim=-1)
