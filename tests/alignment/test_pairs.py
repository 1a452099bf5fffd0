"""Which pairs are held out: no item and no text of training among those that are measured on."""

from __future__ import annotations

import numpy as np
import pytest

from d2v.alignment.pairs import HeldOut, Pairs, apart, hold_out
from d2v.errors import DataError


def made(first: list[int], second: list[int]) -> Pairs:
    return Pairs("captions", "vision", "text", np.array(first), np.array(second))


def test_groups_are_what_pairs_join():
    assert len(set(made([0, 1, 2], [5, 5, 6]).groups()[:2])) == 1
    groups = made([0, 0, 1, 2, 3], [10, 11, 11, 12, 13]).groups().tolist()
    assert groups[0] == groups[1] == groups[2]
    assert len(set(groups)) == 3


def some(items: int = 600, texts: int = 90) -> tuple[Pairs, list[str], np.ndarray]:
    second = np.random.default_rng(0).integers(0, texts, items)
    pairs = made(list(range(items)), second.tolist())
    return pairs, [f"text {number}" for number in second.tolist()], np.arange(items) >= 400


def test_neither_items_nor_texts_leak():
    pairs, keys, is_test = some()
    held = hold_out(pairs, keys, is_test, 0.25)
    assert not set(held.train.first_rows) & set(held.test.first_rows)
    assert not set(held.train.second_rows) & set(held.test.second_rows)
    assert (held.train.first_rows < 400).all()
    assert (held.test.first_rows >= 400).all()
    assert (held.known.first_rows >= 400).all()
    assert not set(held.known.second_rows) & set(held.test.second_rows)
    assert 0.1 < len(held.test) / 200 < 0.4
    assert len(held.test) + len(held.known) == 200


def test_texts_of_test_items_alone_are_new():
    pairs = made([*range(40), 50, 51, 52], [*range(40), 100, 101, 3])
    held = hold_out(pairs, [f"text {number}" for number in pairs.second_rows], np.arange(43) >= 40, 0.25)
    assert {100, 101} <= set(held.test.second_rows)
    assert set(held.known.second_rows) <= {3}


def test_more_pairs_do_not_move_what_is_held_out():
    pairs, keys, is_test = some()
    before = hold_out(pairs.select(np.arange(500)), keys[:500], is_test[:500], 0.25)
    assert set(before.test.second_rows) <= set(hold_out(pairs, keys, is_test, 0.25).test.second_rows)


def test_without_test_items_of_the_source_groups_are_held_out_whole():
    pairs, keys, _ = some()
    held = hold_out(pairs, keys, np.zeros(600, dtype=bool), 0.25)
    assert len(held.train) + len(held.test) == 600
    assert not len(held.known)
    assert not set(held.train.second_rows) & set(held.test.second_rows)


def test_pairs_that_are_all_one_group_cannot_be_parted():
    with pytest.raises(DataError, match="held_out"):
        hold_out(made([0, 1, 2], [0, 0, 0]), ["a", "a", "a"], np.zeros(3, dtype=bool), 0.25)


def test_what_another_kind_is_trained_on_is_known():
    nothing = np.zeros(0, np.int64)
    one = HeldOut(made([0, 1], [0, 1]), made([2, 3], [2, 3]), made([4], [0]))
    sounds = Pairs("transcripts", "speech", "text", np.array([0, 1]), np.array([2, 5]))
    other = HeldOut(sounds, sounds.select(nothing), sounds.select(nothing))
    other = HeldOut(sounds, Pairs("transcripts", "speech", "text", np.array([7]), np.array([8])), other.known)
    found = apart({"captions": one, "transcripts": other})
    assert found["captions"].test.second_rows.tolist() == [3]
    assert found["captions"].known.second_rows.tolist() == [0, 2]
    assert found["transcripts"].test.second_rows.tolist() == [8]
    with pytest.raises(DataError, match="one by one"):
        apart({"captions": HeldOut(one.train, one.test.select(np.array([0])), one.known), "transcripts": other})
