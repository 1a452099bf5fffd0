"""Masks over frames: published counts, inverse blocks; `test_sequence_masks.py` holds what text has too."""

import pytest
import torch

from d2v.modalities.speech.masking import draw_masks, num_masked
from d2v.modalities.speech.modality import Speech
from tests.modalities.sequences import keys, masking, runs

BASE, LARGE = {"kind": "block"}, {"kind": "block", "ratio": 0.55, "adjust": 0.1}


def test_frames_are_a_sequence_of_twenty_seconds_at_most():
    assert Speech().grid(masking(Speech(), BASE)) is None
    assert Speech().max_tokens(masking(Speech(), BASE)) == 999


@pytest.mark.parametrize(("mask", "frames", "hidden"), [(BASE, 799, 399), (LARGE, 999, 549)], ids=["base", "large"])
def test_every_row_hides_exactly_the_published_number_of_frames(mask, frames, hidden):
    recipe = masking(Speech(), mask)
    assert num_masked(recipe, frames) == hidden
    for seed in range(3):
        masks = draw_masks(recipe, keys(100, seed), frames, None)
        assert masks.shape == (100, frames)
        assert torch.equal(masks.sum(dim=1), torch.full((100,), hidden))


def test_inverse_blocks_are_what_stays_visible():
    """Runs of visible frames are then as long as the blocks. The reference, too, takes floor(500 (1 - 0.8)) for 99."""
    mask = {"kind": "block", "ratio": 0.8, "adjust": 0.05, "block": 10, "inverse": True}
    masks = draw_masks(masking(Speech(), mask), keys(500), 500, None)
    assert (masks.sum(dim=1) == 401).all()
    _, shares = runs(~masks.numpy())
    assert shares[10] == max(shares[2:])
