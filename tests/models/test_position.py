"""How much of targets is position: against known variance components."""

import pytest
import torch
from torch import Tensor

from d2v.config import TargetConfig
from d2v.models.position import position_share, predicted_beyond_position
from d2v.models.targets import centre_positions, make_targets


def targets(samples: int, share: float, seed: int, positions: int = 20, width: int = 16) -> Tensor:
    """(B, T, D) of variance 1, of which the position explains `share`."""
    generator = torch.Generator().manual_seed(seed)
    of_position = torch.randn(1, positions, width, generator=generator)
    of_sample = torch.randn(samples, positions, width, generator=generator)
    return share**0.5 * of_position + (1.0 - share) ** 0.5 * of_sample


@pytest.mark.parametrize("samples", [2, 4, 32])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_share_of_position_does_not_depend_on_the_batch(samples: int, share: float) -> None:
    found = [float(position_share(targets(samples, share, seed))) for seed in range(60)]
    assert sum(found) / len(found) == pytest.approx(share, abs=0.015)


def test_padding_is_no_target() -> None:
    whole = targets(8, 0.5, seed=1)
    valid = torch.arange(20) < torch.tensor([20, 20, 15, 12, 9, 7, 3, 2])[:, None]
    spoiled = torch.where(valid.unsqueeze(-1), whole, 1e3)
    assert position_share(spoiled, valid) == pytest.approx(float(position_share(whole, valid)), abs=1e-5)
    found = [float(position_share(targets(8, 0.5, seed), valid)) for seed in range(60)]
    assert sum(found) / len(found) == pytest.approx(0.5, abs=0.03)


def test_without_two_targets_at_a_position_the_share_is_zero() -> None:
    alone = torch.eye(4, dtype=torch.bool)
    assert position_share(torch.randn(4, 4, 3), alone) == 0.0


def beyond(prediction: Tensor, target: Tensor) -> float:
    samples, positions, width = target.shape
    index = torch.arange(samples * positions)
    flat = (prediction.reshape(-1, width), target.reshape(-1, width))
    return float(predicted_beyond_position(*flat, index, samples, positions))


def test_what_is_predicted_beyond_position() -> None:
    target = targets(8, 0.7, seed=2)
    mean = target.mean(dim=0, keepdim=True).expand_as(target)
    assert beyond(target, target) == pytest.approx(1.0)
    assert beyond(mean, target) == pytest.approx(0.0, abs=1e-5)
    assert beyond(mean + 5.0, target) == pytest.approx(
        0.0, abs=1e-5
    )  # what is wrong at all samples alike does not count
    assert beyond(mean + 0.5 * (target - mean), target) == pytest.approx(0.75, abs=1e-5)
    assert beyond(2.0 * mean - target, target) == pytest.approx(-3.0, abs=1e-4)


def test_some_tokens_are_enough_to_tell() -> None:
    target = targets(16, 0.4, seed=3)
    some = torch.rand(16, 20, generator=torch.Generator().manual_seed(0)) < 0.5
    index = some.flatten().nonzero().squeeze(1)
    flat = target.flatten(0, 1)[index]
    assert float(predicted_beyond_position(flat, flat, index, 16, 20)) == pytest.approx(1.0)
    assert float(predicted_beyond_position(torch.zeros_like(flat), flat, index, 16, 20)) == pytest.approx(0.0, abs=1e-5)


def test_the_norm_takes_position_out_of_the_average() -> None:
    activations = [targets(8, 0.8, seed) for seed in (4, 5)]
    config = TargetConfig(top_k_layers=2, layer_norms=("instance",), average_norms=("position",))
    made = make_targets(activations, config)
    torch.testing.assert_close(made.mean(dim=0), torch.zeros(20, 16), atol=1e-6, rtol=0)
    plain = make_targets(activations, config.model_copy(update={"average_norms": ()}))
    torch.testing.assert_close(made, plain - plain.mean(dim=0))
    assert not config.by_token


def test_the_norm_passes_padding_over() -> None:
    x, valid = targets(3, 0.5, seed=6), (torch.arange(20) < torch.tensor([20, 10, 5])[:, None]).unsqueeze(-1)
    made = centre_positions(torch.where(valid, x, 1e3), valid)
    torch.testing.assert_close(made[:2, 5:10], x[:2, 5:10] - x[:2, 5:10].mean(dim=0))
    torch.testing.assert_close(made[0, 10:], torch.zeros(10, 16))
