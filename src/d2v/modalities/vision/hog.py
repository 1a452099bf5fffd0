"""Histograms of oriented gradients (Dalal and Triggs 2005) as MaskFeat predicts them (Wei et al. 2021, section 3.1).

They follow the authors' code. scikit-image's `hog` has other gradients, another border and another first bin.

Shape legend: B images, C channels, S side, N bins, h cells along a side, T patches, P values of a patch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.modalities.vision.config import HogConfig

EPS = 1e-12


def hog(images_BCSS: Tensor, config: HogConfig) -> Tensor:
    """The orientations of each cell's gradients, weighted by their size: (B, C, N, h, h), of length 1 over N in every
    cell and channel; zeros where nothing changes.

    A constant and a positive factor on a channel change nothing, so images may be normalised or not.

    Args:
        images_BCSS: of a side that `config.cell_px` divides.
        config: bins, cells, window.
    """
    images = images_BCSS.to(torch.promote_types(images_BCSS.dtype, torch.float32))
    x_gradient, y_gradient = _sobel(images)
    size = (x_gradient.square() + y_gradient.square()).sqrt()
    if config.gaussian_window:
        copies = size.shape[-1] // config.gaussian_window
        size = size * _gaussian(config.gaussian_window).to(size).repeat(copies, copies)
    angle = torch.atan2(x_gradient, y_gradient)  # from the y axis
    bin_BCSS = torch.floor(angle / math.pi * config.bins).remainder(config.bins)
    of_bins = [_sums_of_cells(size * (bin_BCSS == number), config.cell_px) for number in range(config.bins)]
    return F.normalize(torch.stack(of_bins, dim=2), dim=2, eps=EPS)


def hog_of_patches(images_BCSS: Tensor, config: HogConfig, patch_px: int) -> Tensor:
    """(B, T, P) the same patch by patch, row by row; in a patch channel, bin, row and column of the cell."""
    cells_BCNhh = hog(images_BCSS, config)
    cells = patch_px // config.cell_px
    patches = cells_BCNhh.unflatten(4, (-1, cells)).unflatten(3, (-1, cells))  # (B, C, N, g, cells, g, cells)
    return patches.permute(0, 3, 5, 1, 2, 4, 6).flatten(3).flatten(1, 2)


def _sobel(images_BCSS: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients along x and y (Sobel's kernels, not turned over), with the border mirrored."""
    x = F.pad(images_BCSS, (1, 1, 1, 1), mode="reflect")
    along_x, along_y = x[..., :-2] - x[..., 2:], x[..., :-2, :] - x[..., 2:, :]
    return (
        along_x[..., :-2, :] + 2.0 * along_x[..., 1:-1, :] + along_x[..., 2:, :],
        along_y[..., :-2] + 2.0 * along_y[..., 1:-1] + along_y[..., 2:],
    )


def _sums_of_cells(x_BCSS: Tensor, cell_px: int) -> Tensor:
    return x_BCSS.unflatten(3, (-1, cell_px)).unflatten(2, (-1, cell_px)).sum(dim=(3, 5))


def _gaussian(side: int) -> Tensor:
    """(side, side) a window whose standard deviation is half its side, of sum 1."""
    place = torch.arange(side) - (side - 1) / 2
    one = torch.exp(-0.5 * (place / (side / 2)).square())
    window = one[:, None] * one
    return window / window.sum()
