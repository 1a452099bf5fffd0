"""Masks over frames: published counts, the reference's distributions, padding."""

import numpy as np
import pytest
import torch

from d2v.config import parse
from d2v.data.random import mix
from d2v.errors import ConfigError
from d2v.modalities.speech.config import SpeechTrainConfig
from d2v.modalities.speech.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.models.masking import is_padding

BASE, LARGE = {"kind": "block"}, {"kind": "block", "ratio": 0.55, "adjust": 0.1}
INVERSE, SPANS = {"kind": "block", "inverse": True}, {"kind": "span"}
KINDS = pytest.mark.parametrize("mask", [BASE, LARGE, INVERSE, SPANS], ids=["base", "large", "inverse", "data2vec1"])
ROWS = 8000


def recipe(mask) -> SpeechTrainConfig:
    version = "data2vec1" if mask["kind"] == "span" else "data2vec2"
    ema = {"decay_start": 0.999, "decay_end": 0.9999}
    values = {
        "encoder": {"layout": version},
        "mask": mask,
        "objective": {"name": version, "targets": {"top_k_layers": 8}, "ema": ema},
        "optimizer": {"lr": 1e-3},
        "batch_size": 1,
        "max_updates": 1,
    }
    return parse(SpeechTrainConfig, values)


def keys(count, seed=0):
    return mix(seed, torch.arange(count))


def test_frames_are_a_sequence_of_twenty_seconds_at_most():
    assert grid(recipe(BASE)) is None
    assert max_tokens(recipe(BASE)) == 999


@pytest.mark.parametrize(("mask", "frames", "hidden"), [(BASE, 799, 399), (LARGE, 999, 549)], ids=["base", "large"])
def test_every_row_hides_exactly_the_published_number_of_frames(mask, frames, hidden):
    assert hidden_tokens(recipe(mask), frames) == hidden
    for seed in range(3):
        masks = draw_masks(recipe(mask), keys(100, seed), frames, None)
        assert masks.shape == (100, frames)
        assert torch.equal(masks.sum(dim=1), torch.full((100,), hidden))


@pytest.mark.parametrize("mask", [BASE, LARGE, INVERSE], ids=["base", "large", "inverse"])
def test_hidden_and_visible_grow_with_the_sequence(mask):
    frames = torch.arange(2, 1000)
    hidden = hidden_tokens(recipe(mask), frames)
    assert hidden.tolist() == [hidden_tokens(recipe(mask), n) for n in frames.tolist()]
    assert bool((hidden >= 1).all())
    assert bool((hidden < frames).all())
    assert set(hidden.diff().tolist()) <= {0, 1}


def test_spans_of_data2vec1_hide_no_fixed_number():
    with pytest.raises(ConfigError, match=r"mask\.kind=block"):
        hidden_tokens(recipe(SPANS), 799)


@KINDS
def test_masks_are_functions_of_their_key_and_length_alone(mask):
    """Not of the rows beside them, nor of how far the batch is padded."""
    lengths = torch.arange(40) * 3 + 2
    masks = draw_masks(recipe(mask), keys(40), 130, lengths)
    assert torch.equal(draw_masks(recipe(mask), keys(40), 130, lengths), masks)
    assert torch.equal(draw_masks(recipe(mask), keys(40)[7:9], 130, lengths[7:9]), masks[7:9])
    for row in range(40):
        n = int(lengths[row])
        assert torch.equal(draw_masks(recipe(mask), keys(40)[row : row + 1], n, None)[0], masks[row, :n])
    same = draw_masks(recipe(mask), keys(40), 100, None)
    assert len({tuple(row.tolist()) for row in same}) == 40


@KINDS
def test_masks_keep_off_padding_and_hide_some_but_not_all(mask):
    lengths = torch.arange(200) + 2
    masks = draw_masks(recipe(mask), keys(200), 201, lengths)
    hidden = masks.sum(dim=1)
    assert not masks[is_padding(lengths, 201)].any()
    assert bool(((hidden >= 1) & (hidden < lengths)).all())
    if mask["kind"] == "block":
        assert torch.equal(hidden, hidden_tokens(recipe(mask), lengths))


def _runs(masks):
    """How many runs of hidden frames a row has on average, and the share of each length among them."""
    edges = np.diff(np.pad(masks.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    counts = np.bincount(lengths, minlength=masks.shape[1] + 1)
    return counts.sum() / len(masks), counts / counts.sum()


def assert_distributed_like(masks, golden, name):
    """Every position's rate, run lengths and numbers within sampling error of the reference's 8000 rows."""
    expected = golden[f"stat:{name}:pos"]
    error = np.sqrt(expected * (1 - expected) * 2 / ROWS)
    assert (np.abs(masks.mean(axis=0) - expected) / (error + 1e-9)).max() < 5.0
    assert np.mean(np.abs(masks.mean(axis=0) - expected) / (error + 1e-9)) < 1.0
    number, shares = _runs(masks)
    expected_shares = golden[f"stat:{name}:runs_hist"] / golden[f"stat:{name}:runs_hist"].sum()
    assert number == pytest.approx(float(golden[f"stat:{name}:nruns_mean"]), rel=0.01)
    np.testing.assert_allclose(shares[: len(expected_shares)], expected_shares, atol=0.01)


@pytest.mark.goldens
@pytest.mark.parametrize(("mask", "name"), [(BASE, "block1d_base_audio"), (LARGE, "block1d_large_audio")])
def test_blocks_are_distributed_like_the_references(shared_goldens, mask, name):
    golden = np.load(shared_goldens / "masks.npz")
    masks = draw_masks(recipe(mask), keys(ROWS), 499, None).numpy()
    assert masks.sum(axis=1).tolist() == [round(499 * golden[f"stat:{name}:ratio"][0])] * ROWS
    assert_distributed_like(masks, golden, name)


@pytest.mark.goldens
def test_spans_are_distributed_like_the_references(shared_goldens):
    """Against the reference's spans before it makes the counts of a batch equal, which ours need not be."""
    golden = np.load(shared_goldens / "masks.npz")
    masks = draw_masks(recipe(SPANS), keys(ROWS), 499, None).numpy()
    name, ratio = "cmi_d2v1_audio_raw", masks.mean(axis=1)
    mean, deviation = golden[f"stat:{name}:ratio"][:2]
    assert ratio.mean() == pytest.approx(mean, abs=5 * deviation * np.sqrt(2 / ROWS))
    assert ratio.std() == pytest.approx(deviation, rel=0.05)
    assert_distributed_like(masks, golden, name)


def test_inverse_blocks_are_what_stays_visible():
    """Runs of visible frames are then as long as the blocks. The reference, too, takes floor(500 (1 - 0.8)) for 99."""
    mask = {"kind": "block", "ratio": 0.8, "adjust": 0.05, "block": 10, "inverse": True}
    masks = draw_masks(recipe(mask), keys(500), 500, None)
    assert (masks.sum(dim=1) == 401).all()
    _, shares = _runs(~masks.numpy())
    assert shares[10] == max(shares[2:])
