"""The primitives that masks are drawn with, and masks as index sets."""

import pytest
import torch

from d2v.data.random import fold_in
from d2v.models.masking import (
    Masks,
    exactly,
    floor_share,
    gather_tokens,
    is_padding,
    random_spans,
    some_but_not_all,
    tokens_at,
)


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return fold_in(seed, torch.arange(count))


def runs(row: torch.Tensor) -> list[tuple[int, int]]:
    """(first, length) of every run of True."""
    edges = torch.diff(torch.nn.functional.pad(row.int(), (1, 1))).nonzero().flatten().tolist()
    return [(first, end - first) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def test_tokens_are_selected_by_row_and_position_and_gradients_of_those_taken_twice_add_up() -> None:
    x_BTD = torch.randn(3, 5, 2, dtype=torch.float64).requires_grad_()
    row, at = torch.tensor([2, 0, 2, 1]), torch.tensor([4, 1, 4, 0])
    taken = tokens_at(x_BTD, row * 5 + at)
    assert torch.equal(taken, x_BTD[row, at])
    (gradient,) = torch.autograd.grad(taken.sum(), x_BTD)
    expected = torch.zeros(3, 5, 2, dtype=torch.float64)
    expected[2, 4], expected[0, 1], expected[1, 0] = 2.0, 1.0, 1.0
    assert torch.equal(gradient, expected)


# ------------------------------------------------------------------------------------------ counts


@pytest.mark.parametrize("share", [0.07, 0.29, 0.5, 0.52, 0.55, 1.0 - 0.42])
def test_a_share_is_the_same_for_a_number_and_a_tensor(share):
    tokens = torch.arange(1, 1200)
    assert floor_share(tokens, share).tolist() == [floor_share(n, share) for n in tokens.tolist()]


def test_some_but_not_all():
    assert [some_but_not_all(n, 5) for n in (0, 1, 4, 5, 9)] == [1, 1, 4, 4, 4]
    assert some_but_not_all(torch.tensor([0, 3, 9]), torch.tensor([5, 5, 5])).tolist() == [1, 3, 4]


def test_padding_begins_at_the_length():
    assert is_padding(torch.tensor([0, 2, 3]), 3).tolist() == [[True] * 3, [False, False, True], [False] * 3]


# ------------------------------------------------------------------------------------------ exact numbers


def test_exactly_counts_by_row_and_keeps_off_padding():
    painted = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) < 0.4
    lengths, goal = torch.arange(50) % 20 + 10, torch.arange(50) % 9
    chosen = exactly(painted, goal, keys(50), lengths)
    assert torch.equal(chosen.sum(dim=1), goal)
    assert not chosen[is_padding(lengths, 30)].any()
    available = (painted & ~is_padding(lengths, 30)).sum(dim=1)
    assert torch.equal((chosen & painted).sum(dim=1), torch.minimum(goal, available))


def test_exactly_does_not_depend_on_how_goals_are_given():
    painted = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) < 0.4
    lengths = torch.full((50,), 30)
    expected = exactly(painted, 7, keys(50))
    assert torch.equal(exactly(painted, torch.full((50,), 7), keys(50)), expected)
    assert torch.equal(exactly(painted, 7, keys(50), lengths), expected)
    assert torch.equal(exactly(painted[3:5], 7, keys(50)[3:5]), expected[3:5])


# ------------------------------------------------------------------------------------------ spans


def test_spans_that_must_be_whole_are():
    masks = random_spans(keys(300), 50, ratio=0.3, span=6, whole=True)
    for row in masks:
        assert all(length >= 6 for _, length in runs(row))
    assert not masks[:, 49].any()  # starts lie in [0, T - span), as in the reference
    assert masks[:, 48].any()
    assert masks[:, 0].any()


def test_other_spans_may_be_cut_off_at_the_end():
    masks = random_spans(keys(300), 50, ratio=0.3, span=6, whole=False)
    short = [(first, length) for row in masks for first, length in runs(row) if length < 6]
    assert short
    assert all(first + length == 50 for first, length in short)


def test_the_number_of_spans_is_rounded_by_chance():
    """floor(0.4 * 30 / 5 + u) = 2 with probability 0.6, else 3; starts differ, so spans of one token count them."""
    numbers = random_spans(keys(4000), 30, ratio=2.4 / 30, span=1, whole=False).sum(dim=1)
    assert set(numbers.tolist()) == {2, 3}
    assert float((numbers == 2).float().mean()) == pytest.approx(0.6, abs=0.03)


def test_starts_are_uniform():
    masks = random_spans(keys(8000), 20, ratio=0.05, span=1, whole=False)
    assert float((masks.float().mean(dim=0) - 0.05).abs().max()) < 0.012


def test_fewest_spans():
    assert random_spans(keys(200), 40, ratio=0.0, span=4, whole=True).any(dim=1).all()
    masks = random_spans(keys(200), 40, ratio=0.0, span=1, whole=False, min_spans=5)
    assert (masks.sum(dim=1) == 5).all()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("ratio", [0.01, 0.65, 1.0])
@pytest.mark.parametrize("tokens", [2, 3, 9, 10, 11, 12, 40])
def test_never_none_and_never_all(tokens, ratio, whole):
    hidden = random_spans(keys(300), tokens, ratio, span=10, whole=whole).sum(dim=1)
    assert int(hidden.min()) >= 1
    assert int(hidden.max()) <= tokens - 1


@pytest.mark.parametrize("whole", [True, False])
def test_spans_keep_off_padding_and_depend_on_a_row_alone(whole):
    lengths = torch.arange(60) % 30 + 2
    masks = random_spans(keys(60), 40, ratio=0.5, span=4, whole=whole, lengths=lengths)
    hidden = masks.sum(dim=1)
    assert not masks[is_padding(lengths, 40)].any()
    assert bool(((hidden >= 1) & (hidden < lengths)).all())
    for row in range(60):
        n = int(lengths[row])
        alone = random_spans(keys(60)[row : row + 1], n, ratio=0.5, span=4, whole=whole)
        assert torch.equal(masks[row, :n], alone[0])


def test_rows_too_short_to_hide_anything():
    masks = random_spans(keys(3), 4, ratio=0.5, span=2, whole=True, lengths=torch.tensor([0, 1, 2]))
    assert masks.sum(dim=1).tolist() == [0, 0, 1]


# ------------------------------------------------------------------------------------------ index sets


def test_gathering_tokens():
    x = torch.arange(2 * 4 * 3).view(2, 4, 3)
    index = torch.tensor([[[0, 1], [2, 3]], [[3, 1], [0, 0]]])
    gathered = gather_tokens(x, index)
    assert gathered.shape == (4, 2, 3)
    for row, (sample, places) in enumerate([(0, [0, 1]), (0, [2, 3]), (1, [3, 1]), (1, [0, 0])]):
        assert torch.equal(gathered[row], x[sample, places])


def test_equal_counts_give_index_sets_that_ascend():
    is_masked = exactly(torch.zeros(6, 10, dtype=torch.bool), 4, keys(6))
    masks = Masks.with_equal_counts(is_masked, samples=2, num_masked=4)
    assert (masks.visible_idx.shape, masks.masked_idx.shape) == ((2, 3, 6), (2, 3, 4))
    assert (int(masks.count), masks.visible_lengths) == (24, None)
    for row in range(6):
        assert masks.visible_idx[row // 3, row % 3].tolist() == (~is_masked[row]).nonzero().flatten().tolist()
        assert masks.masked_idx[row // 3, row % 3].tolist() == is_masked[row].nonzero().flatten().tolist()


def test_with_padding_visible_tokens_come_first():
    """Rows of one sample share its length; what follows a row's visible tokens stands in for padding."""
    lengths = torch.tensor([10, 4])
    is_masked = torch.zeros(4, 10, dtype=torch.bool)
    is_masked[0, :5] = is_masked[1, 5:] = is_masked[2, 1:3] = is_masked[3, [0, 3]] = True
    masks = Masks.with_padding(is_masked, lengths, num_masked=5)
    assert masks.visible_idx.shape == (2, 2, 5)
    assert masks.visible_lengths.tolist() == [5, 5, 2, 2]
    assert [masks.visible_idx.flatten(0, 1)[row, :n].tolist() for row, n in enumerate(masks.visible_lengths)] == [
        [5, 6, 7, 8, 9],
        [0, 1, 2, 3, 4],
        [0, 3],
        [1, 2],
    ]
    assert bool((masks.visible_idx[1, :, 2:] >= 4).all())
    assert (int(masks.count), masks.masked_idx) == (14, None)


def test_without_padding_both_kinds_show_the_same():
    is_masked = exactly(torch.zeros(6, 10, dtype=torch.bool), 4, keys(6))
    plain = Masks.with_equal_counts(is_masked, samples=2, num_masked=4)
    padded = Masks.with_padding(is_masked, torch.tensor([10, 10]), num_masked=4)
    assert torch.equal(padded.visible_idx, plain.visible_idx)
    assert padded.visible_lengths.tolist() == [6] * 6


def test_ragged_masks_have_no_index_sets():
    masks = Masks.ragged(torch.tensor([[True, False], [True, True]]))
    assert int(masks.count) == 3
    with pytest.raises(ValueError, match="equal counts"):
        masks.visible()
