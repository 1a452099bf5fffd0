"""Features come out as the encoder gives them, and nothing of the training is disturbed."""

from __future__ import annotations

import pytest
import torch

from d2v.data.batch import Inputs
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
