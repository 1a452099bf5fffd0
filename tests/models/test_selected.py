"""Where only some tokens' results are wanted, the last block computes no others, and these are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from d2v.data.batch import Batch
from d2v.modalities import registry
from d2v.models import masking
from d2v.models.blocks import DropPath, PostNormBlock, PreNormBlock
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks, Selected, rounded_up
from d2v.objectives import wav2vec2
from d2v.objectives.base import Objective, mean_masked
from d2v.objectives.build import build_objective
from d2v.objectives.data2vec1 import Data2Vec1
from tests.objectives import test_mlm, test_wav2vec2
from tests.objectives.helpers import SMALL, SMALL_V1, batch, recipe

IS_MASKED = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 0, 1, 1]]).bool()
SAME_COUNTS = torch.tensor([[0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]).bool()
VISION = registry.get("vision")


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize(
    ("masks", "is_masked"),
    [(Masks.ragged(IS_MASKED), IS_MASKED), (Masks.with_equal_counts(SAME_COUNTS, 2, 2), SAME_COUNTS)],
    ids=["ragged", "equal counts"],
)
def test_hidden_tokens_are_picked(masks: Masks, is_masked: Tensor) -> None:
    selected, x = Selected.masked(masks), normal(2, 5, 3)
    assert selected.fill == 0
    assert torch.equal(selected.of(x), x[is_masked])
    assert torch.equal(selected.row_of(), is_masked.nonzero()[:, 0])
    in_front = torch.cat((torch.zeros(2, 2, 3), x), dim=1)
    assert torch.equal(selected.behind(2).of(in_front), x[is_masked])
    assert torch.equal(selected.behind(2).row_of(), selected.row_of())


@pytest.mark.parametrize("number", [1, 2, 31, 32, 33, 100, 1000, 1023, 123_457])
def test_numbers_are_rounded_up_to_few(number: int) -> None:
    rounded = rounded_up(number)
    assert number <= rounded <= number * 17 / 16
    assert len({rounded_up(one) for one in range(number, 2 * number)}) <= 17


def test_a_ragged_number_is_filled_up() -> None:
    is_masked = torch.ones(3, 67).bool()
    is_masked[0, :2] = False
    selected, x = Selected.masked(Masks.ragged(is_masked)), normal(3, 67, 2)
    assert (len(selected.index), selected.fill) == (200, 1)
    assert torch.equal(selected.without_fill(selected.of(x)), x[is_masked])
    assert torch.equal(selected.of(x)[-1], x[0, 0])
    assert torch.equal(selected.behind(1).without_fill(selected.of(x)), x[is_masked])


def test_places_may_repeat_and_come_in_any_order() -> None:
    places, x = torch.tensor([[4, 0, 0], [1, 3, 2]]), normal(2, 5, 3)
    selected = Selected.at(places, 5).of(x).unflatten(0, (2, 3))
    assert torch.equal(selected, torch.stack((x[0, places[0]], x[1, places[1]])))


@pytest.mark.parametrize("kind", [PostNormBlock, PreNormBlock])
def test_a_block_computes_picked_tokens_as_it_computes_all(kind: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    block = kind(16, 4, 4.0, 1e-6, 0.0, 0.0, 0.5).double().train()
    x, bias, selected = normal(2, 5, 16), normal(4, 5, 5), Selected.masked(Masks.ragged(IS_MASKED))
    results = []
    for some in (None, selected):
        torch.manual_seed(3)  # of stochastic depth
        block.zero_grad()
        outputs = [y if some is not None else selected.of(y) for y in block(x, bias, some)]
        sum((y * y).sum() for y in outputs).backward()
        results.append([*outputs, *(p.grad for p in block.parameters())])
    torch.testing.assert_close(results[0], results[1])


def test_stochastic_depth_drops_picked_tokens_by_their_row() -> None:
    torch.manual_seed(0)
    selected = Selected(torch.arange(0, 8000, 2), 4000, 2)
    twice = Selected.at(torch.tensor([[0, 1]]).expand(4000, 2), 2)
    drop = DropPath(0.25).train()
    for some, times in ((selected, 1), (twice, 2)):
        y = drop(torch.ones(len(some.index), 3), some).unflatten(0, (4000, times)).flatten(1)
        assert torch.equal(y.amin(1), y.amax(1))
        assert float(y.mean()) == pytest.approx(1.0, abs=0.05)


@pytest.fixture(params=[SMALL, SMALL_V1], ids=["post-norm", "pre-norm with a class token"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    """A small one."""
    return VISION.build_encoder(recipe(request.param)).double()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("activation", ["ffn", "end_of_block"])
def test_an_encoder_gives_some_tokens_what_it_gives_all(encoder: Encoder, activation: str, checkpointing: bool) -> None:
    encoder.activation_checkpointing = checkpointing
    local, selected = normal(3, 16, 32), Selected(torch.tensor([0, 3, 20, 31, 33, 47]), 3, 16)
    whole = encoder.encode(local, activation=activation)
    expected = [selected.of(one) for one in (whole.tokens, *whole.activations)]
    tokens, activations = encoder.encode_some(local, selected, activation=activation)
    torch.testing.assert_close([tokens, *activations], expected)
    gradients = []
    for one in (expected[0], tokens):
        encoder.zero_grad()
        (one * one * one).sum().backward(retain_graph=True)
        gradients.append([p.grad for p in encoder.blocks.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_where_layer_drop_leaves_no_block_tokens_pass(encoder: Encoder) -> None:
    encoder.layer_drop = (0.0, 1.0)
    local, selected = normal(1, 16, 32), Selected(torch.tensor([2, 5]), 1, 16)
    tokens, activations = encoder.train().encode_some(local, selected, activation="ffn")
    torch.testing.assert_close(tokens, selected.of(encoder.encode(local).tokens))
    assert activations == []


# ------------------------------------------------------------------------------------------- data2vec 1.0


def data2vec1(**targets: Any) -> Data2Vec1:
    block = SMALL_V1["objective"] | {"targets": SMALL_V1["objective"]["targets"] | targets}
    objective = build_objective(VISION, recipe(SMALL_V1 | {"objective": block}))
    assert isinstance(objective, Data2Vec1)
    return objective


@pytest.mark.parametrize(
    ("norms", "alone"), [({}, True), ({"average_norms": ["instance"]}, False), ({"layer_norms": ["batch"]}, False)]
)
def test_targets_of_some_are_those_of_all(norms: dict[str, Any], alone: bool) -> None:
    objective = data2vec1(**norms).double()
    local, selected = normal(2, 16, 32), Selected(torch.tensor([1, 2, 20]), 2, 16)
    expected = selected.of(objective.targets(local, None))
    with FlopCounterMode(display=False) as all_of_them:
        objective.targets(local, None)
    with FlopCounterMode(display=False) as some:
        torch.testing.assert_close(objective.targets_of(selected, local, None), expected)
    assert (some.get_total_flops() < all_of_them.get_total_flops()) == alone


def assert_fill_changes_nothing(objective: Objective, whole: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever numbers of hidden tokens are rounded up to."""
    masks, results = objective.draw_masks(whole, 0, "cpu"), []
    for fill in (0, 5):
        for module in (masking, wav2vec2):
            monkeypatch.setattr(module, "rounded_up", lambda number, fill=fill: number + fill)
        objective.zero_grad()
        output = objective(whole, masks)
        output.loss_sum.backward()
        results.append([output.loss_sum, *output.statistics.values(), *(p.grad for p in objective.parameters())])
    torch.testing.assert_close(results[0], results[1])


def test_what_fills_up_is_no_part_of_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    assert_fill_changes_nothing(data2vec1().double(), double(batch(3)), monkeypatch)
    words = test_mlm.batch(3, lengths=torch.tensor([40, 21, 33]))
    assert_fill_changes_nothing(test_mlm.build().double().eval(), words, monkeypatch)
    waves = test_wav2vec2.batch(3, lengths=torch.tensor([8000, 6100, 7000]))
    assert_fill_changes_nothing(test_wav2vec2.build().double(), double(waves), monkeypatch)


def double(whole: Batch) -> Batch:
    return replace(whole, inputs=whole.inputs.double())


def test_masks_hide_in_the_mean_what_is_said() -> None:
    objective = data2vec1()
    drawn = [int(objective.draw_masks(batch(64, 64 * part), 0, "cpu").count) / 64 for part in range(8)]
    assert mean_masked(objective._draw, 16) == pytest.approx(sum(drawn) / 8, rel=0.03)
