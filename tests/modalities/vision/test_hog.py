"""Histograms of oriented gradients: worked examples, and what leaves them alone."""

from __future__ import annotations

import pytest
import torch

from d2v.modalities.vision.config import HogConfig
from d2v.modalities.vision.hog import hog, hog_of_patches

HOG = HogConfig()


def ramp(axis: int, side: int = 32) -> torch.Tensor:
    """An image whose values are those of one axis."""
    values = torch.arange(side, dtype=torch.float32)
    return values.view((side, 1) if axis == 0 else (1, side)).expand(1, 3, side, side)


def test_shapes_are_those_of_cells_and_patches() -> None:
    images = torch.rand(2, 3, 224, 224)
    assert hog(images, HOG).shape == (2, 3, 9, 28, 28)
    assert hog_of_patches(images, HOG, 16).shape == (2, 196, 108)


def test_a_constant_image_has_no_gradients() -> None:
    assert (hog_of_patches(torch.full((1, 3, 32, 32), 0.7), HOG, 16) == 0.0).all()


def test_every_cell_that_is_not_empty_has_length_one() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(hog(images, HOG).norm(dim=2), torch.ones(2, 3, 4, 4))
    torch.testing.assert_close(hog_of_patches(images, HOG, 16).square().sum(dim=2), torch.full((2, 4), 12.0))


@pytest.mark.parametrize(("axis", "bin_number"), [(1, 4), (0, 0)], ids=["x", "y"])
def test_a_ramp_has_one_orientation(axis: int, bin_number: int) -> None:
    found = hog(ramp(axis), HOG)
    expected = torch.zeros_like(found)
    expected[:, :, bin_number] = 1.0
    torch.testing.assert_close(found, expected)


def test_values_of_a_small_image() -> None:
    images = ((7 * torch.arange(3 * 16 * 16)) % 13).view(1, 3, 16, 16) / 13.0
    cells = hog(images, HOG)
    expected = torch.tensor([0.790159, 0.0, 0.233066, 0.0, 0.224432, 0.0, 0.0, 0.0, 0.520537])
    torch.testing.assert_close(cells[0, 0, :, 0, 0], expected, atol=1e-6, rtol=0)
    patch = hog_of_patches(images, HOG, 16)
    assert float(patch.sum()) == pytest.approx(20.9774, abs=1e-4)
    assert torch.equal(patch.view(3, 9, 2, 2), cells[0]), "channel, bin, row and column of the cell"


def test_patches_come_row_by_row() -> None:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    whole, patches = hog(images, HOG), hog_of_patches(images, HOG, 16)
    assert torch.equal(patches[0, 1].view(3, 9, 2, 2), whole[0, :, :, :2, 2:])


def test_normalised_images_have_the_same_orientations() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    scale = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(hog((images - 0.4) / scale, HOG), hog(images, HOG))


def test_a_window_weighs_gradients_by_their_place() -> None:
    """Where several orientations meet in a cell, the shares change; where there is one, nothing does."""
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    windowed = hog(images, HogConfig(gaussian_window=16))
    assert not torch.allclose(windowed, hog(images, HOG), atol=1e-3)
    torch.testing.assert_close(hog(ramp(1), HogConfig(gaussian_window=16)), hog(ramp(1), HOG))
