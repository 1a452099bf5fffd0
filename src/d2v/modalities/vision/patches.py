"""What a masked autoencoder reconstructs of an image.

Shape legend: B images, T patches, p patch side, P = 3 p^2 values of a patch.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from d2v.modalities.base import Patches
from d2v.modalities.vision.config import VisionTrainConfig
from d2v.modalities.vision.encoder import CHANNELS, sincos_positions


def patches(recipe: VisionTrainConfig) -> Patches:
    """The pixels of each patch, and fixed 2-D positions."""
    encoder = recipe.encoder
    return Patches(
        values=CHANNELS * encoder.patch_px**2,
        cut=partial(cut, patch_px=encoder.patch_px),
        positions=partial(sincos_positions, grid=encoder.grid),
    )


def cut(images_BCHW: Tensor, patch_px: int) -> Tensor:
    """(B, 3, S, S) -> (B, T, P), row by row; in a patch the channel runs fastest."""
    rows = images_BCHW.unfold(2, patch_px, patch_px).unfold(3, patch_px, patch_px)  # (B, 3, g, g, p, p)
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
