"""Masks over tokens: published counts, the reference's distributions, padding."""

import numpy as np
import pytest
import torch

from d2v.config import parse
from d2v.data.random import mix
from d2v.errors import ConfigError
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.masking import draw_masks, grid, hidden_tokens, max_tokens
from d2v.models.masking import is_padding

RANDOM, SPANS = {"kind": "random"}, {"kind": "span"}
KINDS = pytest.mark.parametrize("mask", [RANDOM, SPANS], ids=["data2vec2", "data2vec1"])
ROWS = 8000


def recipe(mask) -> TextTrainConfig:
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
    return parse(TextTrainConfig, values)


def keys(count, seed=0):
    return mix(seed, torch.arange(count))


def test_tokens_are_a_sequence():
    assert grid(recipe(RANDOM)) is None
    assert max_tokens(recipe(RANDOM)) == 512


@pytest.mark.parametrize(("ratio", "visible"), [(0.48, 266), (0.42, 296), (0.5, 256)])
def test_every_row_shows_exactly_the_published_number_of_tokens(ratio, visible):
    published = recipe({"kind": "random", "ratio": ratio})
    assert hidden_tokens(published, 512) == 512 - visible
    for seed in range(3):
        masks = draw_masks(published, keys(100, seed), 512, None)
        assert torch.equal((~masks).sum(dim=1), torch.full((100,), visible))


@pytest.mark.parametrize("ratio", [0.48, 0.42, 0.5])
def test_hidden_and_visible_grow_with_the_sequence(ratio):
    published, tokens = recipe({"kind": "random", "ratio": ratio}), torch.arange(2, 513)
    hidden = hidden_tokens(published, tokens)
    assert hidden.tolist() == [hidden_tokens(published, n) for n in tokens.tolist()]
    assert bool((hidden >= 1).all())
    assert bool((hidden < tokens).all())
    assert set(hidden.diff().tolist()) <= {0, 1}


def test_spans_of_data2vec1_hide_no_fixed_number():
    with pytest.raises(ConfigError, match=r"mask\.kind=random"):
        hidden_tokens(recipe(SPANS), 512)


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
    if mask["kind"] == "random":
        assert torch.equal(hidden, hidden_tokens(recipe(mask), lengths))


def _runs(masks):
    """How many runs of hidden tokens a row has on average, and the share of each length among them."""
    edges = np.diff(np.pad(masks.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    counts = np.bincount(lengths, minlength=masks.shape[1] + 1)
    return counts.sum() / len(masks), counts / counts.sum()


@pytest.mark.goldens
@pytest.mark.parametrize(
    ("mask", "name"), [(RANDOM, "random_masking_text"), (SPANS, "d2v1_text_masktokens")], ids=["random", "spans"]
)
def test_masks_are_distributed_like_the_references(shared_goldens, mask, name):
    """Every position's rate, the ratio of rows, run lengths and numbers within sampling error of 8000 rows."""
    golden = np.load(shared_goldens / "masks.npz")
    masks = draw_masks(recipe(mask), keys(ROWS), 512, None).numpy()
    mean, deviation = golden[f"stat:{name}:ratio"][:2]
    ratio = masks.mean(axis=1)
    assert ratio.mean() == pytest.approx(mean, abs=5 * deviation * np.sqrt(2 / ROWS) + 1e-9)
    assert ratio.std() == pytest.approx(deviation, rel=0.05, abs=1e-9)
    expected = golden[f"stat:{name}:pos"]
    errors = np.abs(masks.mean(axis=0) - expected) / np.sqrt(expected * (1 - expected) * 2 / ROWS)
    assert errors.max() < 5.0
    assert errors.mean() < 1.0
    number, shares = _runs(masks)
    expected_shares = golden[f"stat:{name}:runs_hist"] / golden[f"stat:{name}:runs_hist"].sum()
    assert number == pytest.approx(float(golden[f"stat:{name}:nruns_mean"]), rel=0.01)
    np.testing.assert_allclose(shares[: len(expected_shares)], expected_shares, atol=0.01)
