"""Pictures: what is drawn where, and that each call leaves a file of the promised width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from d2v.reporting.figures import (
    draw_curves,
    draw_masks,
    draw_neighbours,
    draw_pca,
    project_to_colours,
    shade_hidden,
)

WIDTH_PX = 1200


def random_pictures(count: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def width_of(path: Path) -> int:
    with Image.open(path) as picture:
        assert np.asarray(picture.convert("L")).std() > 5.0  # something is on it
        return picture.width


def history(updates: int) -> pd.DataFrame:
    rows = np.arange(1, updates + 1) * 10
    table = pd.DataFrame({"update": rows, "train/loss": 1.0 / rows, "train/lr": 1e-3, "train/target_std": 0.5})
    table["train/pred_std"] = np.linspace(0.1, 0.4, updates)
    table.loc[updates - 1, ["online/linear", "online/knn", "online/linear_random", "online/rank"]] = [
        0.5,
        0.4,
        0.2,
        9.0,
    ]
    return table


@pytest.mark.parametrize("updates", [1, 2, 60])
def test_curves_of_short_and_long_runs(updates: int, tmp_path: Path) -> None:
    assert width_of(draw_curves(history(updates), tmp_path / "made" / "curves.png")) == WIDTH_PX


def test_curves_leave_out_what_was_not_logged(tmp_path: Path) -> None:
    full = draw_curves(history(5), tmp_path / "full.png")
    table = history(5)[["update", "train/loss"]].assign(**{"train/lr": np.nan})
    few = draw_curves(table, tmp_path / "few.png")
    with Image.open(full) as one, Image.open(few) as other:
        assert one.height > other.height
    draw_curves(pd.DataFrame({"update": []}), tmp_path / "none.png")


def test_hidden_cells_are_faded_and_visible_ones_untouched() -> None:
    pictures = random_pictures(2, 8, 8)
    is_masked = torch.zeros(2, 4, dtype=torch.bool)
    is_masked[0, 1] = True  # upper right
    shaded = shade_hidden(pictures, is_masked, (2, 2))
    assert np.array_equal(shaded[1], pictures[1])
    assert np.array_equal(shaded[0, :, :4], pictures[0, :, :4])
    assert np.array_equal(shaded[0, 4:], pictures[0, 4:])
    assert shaded[0, :4, 4:].min() >= 205


@pytest.mark.parametrize(("masks", "tokens", "grid"), [(1, 16, (4, 4)), (8, 16, (1, 16)), (3, 15, (2, 8))])
def test_masks_are_drawn(masks: int, tokens: int, grid: tuple[int, int], tmp_path: Path) -> None:
    is_masked = torch.rand(5, masks, tokens) < 0.7
    assert width_of(draw_masks(random_pictures(5), is_masked, grid, tmp_path / "masks.png")) == WIDTH_PX


def test_one_item_can_be_shown_too(tmp_path: Path) -> None:
    draw_masks(random_pictures(1), torch.ones(1, 1, 16, dtype=torch.bool), (4, 4), tmp_path / "masks.png")
    draw_pca(random_pictures(1), {"pretrained": torch.randn(1, 16, 8)}, (4, 4), tmp_path / "pca.png")
    draw_neighbours(random_pictures(1), random_pictures(1)[None], tmp_path / "neighbours.png")


def test_colours_follow_the_principal_axes() -> None:
    """Three hidden factors of falling strength come out as red, green and blue, up to sign."""
    factors = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double()
    axes = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(1)).double())[0][:3]
    tokens = (factors * torch.tensor([9.0, 4.0, 1.5])) @ axes + 7.0
    colours = project_to_colours(tokens.unflatten(0, (20, 10)).float()).flatten(0, 1).double()
    assert colours.min() == 0.0
    assert colours.max() == 1.0
    for channel in range(3):
        related = torch.corrcoef(torch.stack((colours[:, channel], factors[:, channel])))[0, 1]
        assert abs(related) > 0.9


def test_colours_do_not_flip_and_survive_constant_or_narrow_features() -> None:
    tokens = torch.randn(4, 9, 6)
    assert torch.equal(project_to_colours(tokens), project_to_colours(tokens.clone()))
    assert torch.isfinite(project_to_colours(torch.ones(2, 4, 5))).all()
    assert project_to_colours(torch.randn(2, 4, 2)).shape == (2, 4, 3)


def test_pca_is_drawn(tmp_path: Path) -> None:
    tokens = {"pretrained": torch.randn(6, 16, 8), "random": torch.randn(6, 16, 8)}
    assert width_of(draw_pca(random_pictures(6), tokens, (4, 4), tmp_path / "pca.png")) == WIDTH_PX


def test_padding_is_white_and_does_not_move_other_colours() -> None:
    tokens, lengths = torch.randn(3, 9, 6), torch.tensor([9, 4, 7])
    colours = project_to_colours(tokens, lengths)
    assert (colours[1, 4:] == 1.0).all()
    noisy = tokens.clone()
    noisy[1, 4:] = 100.0
    assert torch.equal(project_to_colours(noisy, lengths), colours)


@pytest.mark.parametrize("labelled", [True, False])
def test_neighbours_have_borders_by_class(labelled: bool, tmp_path: Path) -> None:
    queries, neighbours = np.full((2, 8, 8, 3), 255, np.uint8), np.full((2, 3, 8, 8, 3), 255, np.uint8)
    labels = {"query_labels": [0, 1], "neighbour_labels": np.array([[0, 0, 0], [0, 0, 0]])} if labelled else {}
    path = draw_neighbours(
        queries, neighbours, tmp_path / "n.png", **labels, class_names=("a long name of a class", "b")
    )
    assert width_of(path) == WIDTH_PX
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    upper, lower = pixels[: len(pixels) // 2], pixels[-int(0.4 * len(pixels)) :]
    green, red = np.array([0x1A, 0x98, 0x50]), np.array([0xD7, 0x30, 0x27])
    assert has(upper, green) == labelled
    assert has(lower, red) == labelled
    assert not has(upper, red)
    assert not has(lower, green)


def has(pixels: np.ndarray, colour: np.ndarray) -> bool:
    return bool((np.abs(pixels - colour).max(axis=-1) <= 2).any())
