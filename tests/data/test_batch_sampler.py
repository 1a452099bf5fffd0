from typing import Any

import numpy as np
import pytest

from d2v.config import BatchBudget
from d2v.data.batch_sampler import BucketBatchSampler, EqualBatchSampler
from d2v.errors import DataError


def test_every_epoch_visits_every_item_once() -> None:
    sampler = EqualBatchSampler(num_items=10, batch_size=4, seed=3)
    seen = [sampler.at(update) for update in range(5)]
    indices, epochs = (np.concatenate([getattr(keys, name) for keys in seen]) for name in ("indices", "epochs"))
    assert epochs.tolist() == [0] * 10 + [1] * 10
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10].tolist() != indices[10:].tolist()


def test_an_update_does_not_depend_on_what_was_asked_before() -> None:
    asked = EqualBatchSampler(num_items=7, batch_size=3, seed=1)
    for update in (9, 0, 4, 30, 2):
        fresh = EqualBatchSampler(num_items=7, batch_size=3, seed=1).at(update)
        assert np.array_equal(asked.at(update).indices, fresh.indices)
        assert np.array_equal(asked.at(update).epochs, fresh.epochs)


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert EqualBatchSampler(num_items=8, batch_size=8, seed=0).at(0).indices.tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_another_seed_gives_another_order() -> None:
    one, two = (EqualBatchSampler(num_items=100, batch_size=100, seed=seed).at(0).indices for seed in (0, 1))
    assert one.tolist() != two.tolist()


@pytest.mark.parametrize(("ranks", "steps"), [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_ranks_and_accumulation_split_the_same_batch(ranks: int, steps: int) -> None:
    sampler = EqualBatchSampler(num_items=50, batch_size=12, seed=0)
    whole = sampler.at(4)
    pieces = [sampler.micro_batch(whole, rank, ranks, step, steps) for step in range(steps) for rank in range(ranks)]
    assert np.array_equal(np.concatenate([piece.indices for piece in pieces]), whole.indices)
    assert np.array_equal(np.concatenate([piece.epochs for piece in pieces]), whole.epochs)
    assert {piece.update for piece in pieces} == {4}


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"set batch_size to at most 5"):
        EqualBatchSampler(num_items=5, batch_size=6, seed=0)


LENGTHS = np.random.default_rng(0).integers(2_000, 30_000, 500)


def buckets(seed: int = 0, **changes: Any) -> BucketBatchSampler:
    return BucketBatchSampler(LENGTHS, BatchBudget(**{"positions": 300_000, "multiple_of": 4} | changes), seed)


def test_budget_batches_fit_are_alike_and_come_in_multiples() -> None:
    sampler = buckets()
    for update in range(80):
        keys = sampler.at(update)
        count, longest = len(keys.indices), int(LENGTHS[keys.indices].max())
        assert count % 4 == 0
        assert count * longest <= 300_000
        assert keys.length == LENGTHS[keys.indices].min()
    spread = [LENGTHS[sampler.at(u).indices].max() / LENGTHS[sampler.at(u).indices].min() for u in range(80)]
    assert np.median(spread) < 1.1


def test_budget_epochs_see_every_item_once_but_a_few_short_ones() -> None:
    sampler = buckets()
    batches = len(sampler.shapes())
    for epoch in range(3):
        seen = np.concatenate([sampler.at(u).indices for u in range(epoch * batches, (epoch + 1) * batches)])
        assert len(np.unique(seen)) == len(seen) == 500
        assert {int(e) for u in range(epoch * batches, (epoch + 1) * batches) for e in sampler.at(u).epochs} == {epoch}
    assert sampler.epochs(2 * batches) == 2.0
    assert sampler.samples(batches) == 500


def test_budget_epochs_mix_differently_and_do_not_depend_on_what_was_asked_before() -> None:
    sampler, batches = buckets(), len(buckets().shapes())
    first, second = (np.concatenate([sampler.at(u).indices for u in range(s, s + batches)]) for s in (0, batches))
    assert not np.array_equal(first, second)
    assert np.array_equal(buckets().at(batches + 3).indices, sampler.at(batches + 3).indices)
    assert not np.array_equal(buckets(seed=1).at(0).indices, sampler.at(0).indices)


def test_budget_crops_can_be_multiples_that_repeat_and_those_below_one_stay() -> None:
    plain, rounded = buckets(), buckets(crop_multiple=4_000)
    for update in range(80):
        one, other = plain.at(update), rounded.at(update)
        assert np.array_equal(one.indices, other.indices)
        assert one.length is not None
        assert other.length == (one.length // 4_000 * 4_000 if one.length >= 4_000 else one.length)
    assert min(length or 0 for _, length in rounded.shapes()) < 4_000
    assert len(set(rounded.shapes())) < len(set(plain.shapes())) / 2


def test_budget_pieces_keep_the_crop_of_the_whole_update() -> None:
    sampler = buckets()
    keys = sampler.at(5)
    pieces = [sampler.micro_batch(keys, rank, 2, step, 2) for step in range(2) for rank in range(2)]
    assert np.array_equal(np.concatenate([p.indices for p in pieces]), keys.indices)
    assert {p.length for p in pieces} == {keys.length}


def test_budget_too_small_or_too_few_items_say_what_to_set() -> None:
    with pytest.raises(DataError, match="raise it to at least"):
        buckets(positions=50_000)
    with pytest.raises(DataError, match="multiple_of is 8"):
        BucketBatchSampler(LENGTHS[:5], BatchBudget(positions=10**7), 0)


def test_batches_of_one_size_are_cropped_to_their_shortest() -> None:
    sampler = EqualBatchSampler(500, 16, 0, LENGTHS)
    assert sampler.at(3).length == LENGTHS[sampler.at(3).indices].min()
