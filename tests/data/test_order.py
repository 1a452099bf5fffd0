import numpy as np
import pytest

from d2v.data.order import BatchOrder
from d2v.errors import DataError


def test_every_epoch_visits_every_item_once() -> None:
    order = BatchOrder(num_items=10, batch_size=4, seed=3)
    seen = [order.at(update) for update in range(5)]
    indices, epochs = (np.concatenate([getattr(keys, name) for keys in seen]) for name in ("indices", "epochs"))
    assert epochs.tolist() == [0] * 10 + [1] * 10
    assert sorted(indices[:10]) == sorted(indices[10:]) == list(range(10))
    assert indices[:10].tolist() != indices[10:].tolist()


def test_an_update_does_not_depend_on_what_was_asked_before() -> None:
    asked = BatchOrder(num_items=7, batch_size=3, seed=1)
    for update in (9, 0, 4, 30, 2):
        fresh = BatchOrder(num_items=7, batch_size=3, seed=1).at(update)
        assert np.array_equal(asked.at(update).indices, fresh.indices)
        assert np.array_equal(asked.at(update).epochs, fresh.epochs)


def test_the_order_is_the_same_on_every_machine_and_version() -> None:
    assert BatchOrder(num_items=8, batch_size=8, seed=0).at(0).indices.tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_another_seed_gives_another_order() -> None:
    one, two = (BatchOrder(num_items=100, batch_size=100, seed=seed).at(0).indices for seed in (0, 1))
    assert one.tolist() != two.tolist()


@pytest.mark.parametrize(("ranks", "steps"), [(1, 1), (1, 4), (4, 1), (2, 2)])
def test_ranks_and_accumulation_split_the_same_batch(ranks: int, steps: int) -> None:
    order = BatchOrder(num_items=50, batch_size=12, seed=0)
    whole = order.at(4)
    pieces = [order.slice(whole, rank, ranks, step, steps) for step in range(steps) for rank in range(ranks)]
    assert np.array_equal(np.concatenate([piece.indices for piece in pieces]), whole.indices)
    assert np.array_equal(np.concatenate([piece.epochs for piece in pieces]), whole.epochs)
    assert {piece.update for piece in pieces} == {4}


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"set train.batch_size to at most 5"):
        BatchOrder(num_items=5, batch_size=6, seed=0)
