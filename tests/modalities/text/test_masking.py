"""Masks over tokens: published counts; `test_sequence_masks.py` holds what speech has too."""

import pytest
import torch

from d2v.modalities.text.masking import draw_masks, num_masked
from d2v.modalities.text.modality import Text
from tests.modalities.sequences import keys, masking


def test_tokens_are_a_sequence():
    recipe = masking(Text(), {"kind": "random"})
    assert Text().grid(recipe) is None
    assert Text().max_tokens(recipe) == 512


@pytest.mark.parametrize(("ratio", "visible"), [(0.48, 266), (0.42, 296), (0.5, 256)])
def test_every_row_shows_exactly_the_published_number_of_tokens(ratio, visible):
    recipe = masking(Text(), {"kind": "random", "ratio": ratio})
    assert num_masked(recipe, 512) == 512 - visible
    for seed in range(3):
        masks = draw_masks(recipe, keys(100, seed), 512, None)
        assert torch.equal((~masks).sum(dim=1), torch.full((100,), visible))
