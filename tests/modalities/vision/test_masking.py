import numpy as np
import pytest
import torch

from d2v.data.random import fold_in
from d2v.modalities.vision.config import BeitMask, BlockMask
from d2v.modalities.vision.masking import beit_masks, block_masks, count_masked
from d2v.models.masking import Masks, exactly, paint_blocks


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return fold_in(seed, torch.arange(count))


@pytest.mark.parametrize(
    ("grid", "ratio", "adjust", "visible"),
    [(14, 0.80, 0.07, 39), (14, 0.75, 0.10, 49), (16, 0.75, 0.10, 64)],
    ids=["base", "large", "huge14"],
)
def test_every_row_shows_exactly_the_published_number_of_patches(grid, ratio, adjust, visible):
    config = BlockMask(kind="block", ratio=ratio, adjust=adjust, block=3)
    for seed in range(3):
        masks = block_masks(config, grid, keys(200, seed))
        assert torch.equal((~masks).sum(1), torch.full((200,), visible))
    assert count_masked(config, grid * grid) == grid * grid - visible


def test_direct_masks_hide_the_painted_blocks():
    config = BlockMask(kind="block", ratio=0.6, adjust=0.0, block=3, inverse=False)
    assert set(block_masks(config, 14, keys(50)).sum(1).tolist()) == {int(196 * 0.6)}


def test_masks_are_functions_of_their_key_alone():
    config = BlockMask(kind="block")
    all_rows = block_masks(config, 14, keys(20))
    assert torch.equal(block_masks(config, 14, keys(20)[7:9]), all_rows[7:9])
    assert not torch.equal(all_rows[0], all_rows[1])


@pytest.mark.goldens
def test_block_masks_are_distributed_like_the_references(shared_goldens):
    """Masking probability per position and blockiness, against 1000 draws of the reference."""
    golden = np.load(shared_goldens / "masks.npz")
    ours = block_masks(BlockMask(kind="block", ratio=0.8, adjust=0.07), 14, keys(4000)).numpy()
    # The border's clamping makes the position profile; a binomial error of 4000 against 3000+ draws is about 0.01.
    assert np.abs(ours.mean(0) - golden["stat:block2d_base_image:pos"]).max() < 0.045
    square = ours.reshape(-1, 14, 14)
    vertical, horizontal = (square[:, 1:] == square[:, :-1]).mean(), (square[:, :, 1:] == square[:, :, :-1]).mean()
    np.testing.assert_allclose((vertical, horizontal), golden["stat:block2d_base_image:same_nb"], atol=0.01)


def test_painted_blocks_are_clamped_at_the_border():
    painted = paint_blocks(torch.tensor([[0]]), (4, 4), 3).view(4, 4)
    assert painted[:2, :2].all()
    assert painted.sum() == 4


def test_even_blocks_reach_further_back():
    painted = paint_blocks(torch.tensor([[5]]), (10,), 4)[0]
    assert painted.nonzero().flatten().tolist() == [3, 4, 5, 6]


def test_exactly_keeps_painted_cells_first():
    painted = torch.zeros(100, 20, dtype=torch.bool)
    painted[:, :6] = True
    fewer, more = exactly(painted, 4, keys(100)), exactly(painted, 9, keys(100))
    assert not fewer[:, 6:].any()
    assert (fewer.sum(1) == 4).all()
    assert more[:, :6].all()
    assert (more.sum(1) == 9).all()
    assert (fewer[:, :6].float().mean(0) - 4 / 6).abs().max() < 0.2  # which ones is left to chance


def test_beit_masks_keep_to_their_budget():
    config = BeitMask(kind="beit", ratio=120 / 196)
    masks = beit_masks(config, 14, keys(200))
    hidden = masks.sum(1)
    assert int(hidden.max()) <= 120
    assert float(hidden.float().mean()) > 105
    assert torch.equal(beit_masks(config, 14, keys(200)[5:6])[0], masks[5])


@pytest.mark.parametrize(
    ("budget", "smallest", "share_full", "mean"),
    [(78, 15, 0.70, 77.6), (75, 16, 0.675, 74.5)],
    ids=["maskfeat", "beit"],
)
def test_beit_masks_fill_their_budget_as_often_as_the_authors_do(budget, smallest, share_full, mean):
    config = BeitMask(kind="beit", ratio=(budget + 0.5) / 196, min_patches=smallest, shrink=True)
    counts = beit_masks(config, 14, keys(1500)).sum(1)
    assert int(counts.max()) == budget
    assert float((counts == budget).float().mean()) == pytest.approx(share_full, abs=0.06)
    assert float(counts.float().mean()) == pytest.approx(mean, abs=0.3)


def test_beit_masks_hide_something_on_the_smallest_grid():
    assert (beit_masks(BeitMask(kind="beit", ratio=0.3), 2, keys(50)).sum(1) == 1).all()


def test_index_sets_are_complementary_and_ascend():
    is_masked = block_masks(BlockMask(kind="block"), 8, keys(12))
    masks = Masks.with_equal_counts(is_masked, samples=4, num_masked=count_masked(BlockMask(kind="block"), 64))
    visible, masked = masks.visible_idx.flatten(0, 1), masks.masked_idx.flatten(0, 1)
    assert not is_masked.gather(1, visible).any()
    assert is_masked.gather(1, masked).all()
    assert (visible.diff(dim=1) > 0).all()
    assert torch.cat((visible, masked), 1).sort(1).values.equal(torch.arange(64).expand(12, 64))
    assert int(masks.count) == int(is_masked.sum())
