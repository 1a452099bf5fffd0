"""Masks over sequences, of frames and of tokens alike: purity, padding, growth, the reference's distributions."""

import numpy as np
import pytest
import torch

from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.models.masking import is_padding
from tests.modalities.sequences import keys, masking, runs

SPEECH, TEXT = registry.get("speech"), registry.get("text")
BASE, LARGE = {"kind": "block"}, {"kind": "block", "ratio": 0.55, "adjust": 0.1}
INVERSE, RANDOM, SPANS = {"kind": "block", "inverse": True}, {"kind": "random"}, {"kind": "span"}
KINDS = pytest.mark.parametrize(
    ("modality", "mask"),
    [(SPEECH, BASE), (SPEECH, LARGE), (SPEECH, INVERSE), (SPEECH, SPANS), (TEXT, RANDOM), (TEXT, SPANS)],
    ids=["speech-base", "speech-large", "speech-inverse", "speech-data2vec1", "text-data2vec2", "text-data2vec1"],
)
ROWS = 8000


@pytest.mark.parametrize(
    ("modality", "mask"),
    [
        *((SPEECH, mask) for mask in (BASE, LARGE, INVERSE)),
        *((TEXT, RANDOM | {"ratio": ratio}) for ratio in (0.48, 0.42, 0.5)),
    ],
    ids=["speech-base", "speech-large", "speech-inverse", "text-0.48", "text-0.42", "text-0.5"],
)
def test_hidden_and_visible_grow_with_the_sequence(modality, mask):
    recipe = masking(modality, mask)
    tokens = torch.arange(2, modality.max_tokens(recipe) + 1)
    hidden = modality.num_masked(recipe, tokens)
    assert hidden.tolist() == [modality.num_masked(recipe, n) for n in tokens.tolist()]
    assert bool((hidden >= 1).all())
    assert bool((hidden < tokens).all())
    assert set(hidden.diff().tolist()) <= {0, 1}


@pytest.mark.parametrize(("modality", "kind"), [(SPEECH, "block"), (TEXT, "random")], ids=["speech", "text"])
def test_spans_of_data2vec1_hide_no_fixed_number(modality, kind):
    with pytest.raises(ConfigError, match=rf"mask\.kind={kind}"):
        modality.num_masked(masking(modality, SPANS), 500)


@KINDS
def test_masks_are_functions_of_their_key_and_length_alone(modality, mask):
    """Not of the rows beside them, nor of how far the batch is padded."""
    recipe, lengths = masking(modality, mask), torch.arange(40) * 3 + 2
    masks = modality.draw_masks(recipe, keys(40), 130, lengths)
    assert torch.equal(modality.draw_masks(recipe, keys(40), 130, lengths), masks)
    assert torch.equal(modality.draw_masks(recipe, keys(40)[7:9], 130, lengths[7:9]), masks[7:9])
    for row in range(40):
        n = int(lengths[row])
        assert torch.equal(modality.draw_masks(recipe, keys(40)[row : row + 1], n, None)[0], masks[row, :n])
    same = modality.draw_masks(recipe, keys(40), 100, None)
    assert len({tuple(row.tolist()) for row in same}) == 40


@KINDS
def test_masks_keep_off_padding_and_hide_some_but_not_all(modality, mask):
    recipe, lengths = masking(modality, mask), torch.arange(200) + 2
    masks = modality.draw_masks(recipe, keys(200), 201, lengths)
    hidden = masks.sum(dim=1)
    assert not masks[is_padding(lengths, 201)].any()
    assert bool(((hidden >= 1) & (hidden < lengths)).all())
    if mask["kind"] != "span":
        assert torch.equal(hidden, modality.num_masked(recipe, lengths))


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("modality", "mask", "tokens", "name"),
    [
        (SPEECH, BASE, 499, "block1d_base_audio"),
        (SPEECH, LARGE, 499, "block1d_large_audio"),
        (SPEECH, SPANS, 499, "cmi_d2v1_audio_raw"),  # before it makes a batch's counts equal, which ours need not be
        (TEXT, RANDOM, 512, "random_masking_text"),
        (TEXT, SPANS, 512, "d2v1_text_masktokens"),
    ],
    ids=["speech-base", "speech-large", "speech-data2vec1", "text-data2vec2", "text-data2vec1"],
)
def test_masks_are_distributed_like_the_references(shared_goldens, modality, mask, tokens, name):
    """The ratio of rows, every position's rate, run lengths and numbers within sampling error of 8000 rows."""
    golden = np.load(shared_goldens / "masks.npz")
    masks = modality.draw_masks(masking(modality, mask), keys(ROWS), tokens, None).numpy()
    mean, deviation = golden[f"stat:{name}:ratio"][:2]
    ratio = masks.mean(axis=1)
    if mask["kind"] != "span":
        assert masks.sum(axis=1).tolist() == [round(tokens * mean)] * ROWS
    assert ratio.mean() == pytest.approx(mean, abs=5 * deviation * np.sqrt(2 / ROWS) + 1e-9)
    assert ratio.std() == pytest.approx(deviation, rel=0.05, abs=1e-9)
    expected = golden[f"stat:{name}:pos"]
    errors = np.abs(masks.mean(axis=0) - expected) / (np.sqrt(expected * (1 - expected) * 2 / ROWS) + 1e-9)
    assert errors.max() < 5.0
    assert errors.mean() < 1.0
    number, shares = runs(masks)
    expected_shares = golden[f"stat:{name}:runs_hist"] / golden[f"stat:{name}:runs_hist"].sum()
    assert number == pytest.approx(float(golden[f"stat:{name}:nruns_mean"]), rel=0.01)
    np.testing.assert_allclose(shares[: len(expected_shares)], expected_shares, atol=0.01)
