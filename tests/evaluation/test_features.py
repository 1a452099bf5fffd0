"""Features come out as the encoder gives them, and nothing of the training is disturbed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from d2v.data.batch import Inputs, StoredInputs
from d2v.errors import CollapseError
from d2v.evaluation.features import extract_features, extract_tokens
from d2v.models.encoder import Encoder
from d2v.objectives.build import build_objective
from tests.evaluation.fakes import FakeData, modality, stripes
from tests.objectives.helpers import SMALL_V1, recipe


@pytest.fixture
def encoder() -> Encoder:
    return build_objective(modality(FakeData()), recipe()).student


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_do_not_matter(batch_size: int, encoder: Encoder) -> None:
    inputs, _ = stripes(20, 3, seed=0)
    with torch.no_grad():
        expected = encoder.eval().features(inputs)
    torch.testing.assert_close(extract_features(encoder, Inputs(inputs), batch_size), expected, rtol=1e-5, atol=1e-6)


def test_tokens_average_to_features(encoder: Encoder) -> None:
    inputs, _ = stripes(5, 3, seed=0)
    tokens = extract_tokens(encoder, Inputs(inputs))
    assert tokens.shape == (5, 16, 32)
    torch.testing.assert_close(tokens.mean(dim=1), extract_features(encoder, Inputs(inputs)))


def test_the_beit_encoder_works_too() -> None:
    encoder = build_objective(modality(FakeData()), recipe(SMALL_V1)).student
    assert extract_features(encoder, Inputs(stripes(3, 3, seed=0)[0])).shape == (3, 32)


def test_modes_and_random_state_are_as_before(encoder: Encoder) -> None:
    encoder.train()
    encoder.blocks[0].eval()
    modes = [module.training for module in encoder.modules()]
    state = torch.get_rng_state()
    extract_features(encoder, Inputs(stripes(3, 3, seed=0)[0]))
    assert [module.training for module in encoder.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_modes_return_after_an_error(encoder: Encoder) -> None:
    encoder.train()
    with pytest.raises(CollapseError, match="earlier checkpoint"):
        extract_features(encoder, Inputs(torch.full((2, 3, 16, 16), float("nan"))))
    assert encoder.training


def test_features_can_be_trained_on(encoder: Encoder) -> None:
    features = extract_features(encoder, Inputs(stripes(3, 3, seed=0)[0]))
    assert not features.is_inference()
    assert not features.requires_grad


def test_inputs_take_the_encoders_type(encoder: Encoder) -> None:
    features = extract_features(encoder.to(torch.bfloat16), Inputs(stripes(3, 3, seed=0)[0]))
    assert features.dtype == torch.float32


@pytest.mark.parametrize("with_lengths", [False, True])
def test_items_are_read_a_batch_at_a_time(with_lengths: bool, encoder: Encoder) -> None:
    """Subsets read nothing; features are those of items that are there."""
    whole, reads = stripes(20, 3, seed=0)[0], []

    def read(rows: np.ndarray) -> Inputs:
        reads.append(len(rows))
        return Inputs(whole[torch.from_numpy(rows)])

    few = StoredInputs(read, np.arange(2, 20), torch.full((18,), 3) if with_lengths else None).subset(
        torch.arange(1, 12)
    )
    assert not reads
    assert len(few) == 11
    assert few.lengths is None or len(few.lengths) == 11
    if not with_lengths:
        features = extract_features(encoder, few, batch_size=4)
        torch.testing.assert_close(features, extract_features(encoder, Inputs(whole[3:14])), rtol=1e-5, atol=1e-6)
        assert max(reads) <= 4
    assert torch.equal(few.values, whole[3:14])
    assert torch.equal(pickle.loads(pickle.dumps(few.select(torch.tensor([0, 2])))).values, whole[[3, 5]])
