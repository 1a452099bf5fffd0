"""Recall at k, its chance, and the baseline."""

from __future__ import annotations

import numpy as np
import pytest

from d2v.alignment.baseline import BagOfWords
from d2v.alignment.pairs import Pairs
from d2v.alignment.recall import Retrieval, recall


def pairs(first: list[int], second: list[int]) -> Pairs:
    return Pairs("captions", "vision", "text", np.array(first), np.array(second))


def test_a_perfect_space_has_a_recall_of_one_in_both_directions():
    some = pairs([0, 1, 2, 3], [3, 2, 1, 0])
    for backwards in (False, True):
        retrieval = Retrieval.of(some, backwards)
        ranks = retrieval.ranks(np.eye(4), np.eye(4)[::-1])
        assert recall(ranks, 1).value == 1.0


def test_any_of_the_texts_of_an_item_counts():
    retrieval = Retrieval.of(pairs([7, 7, 9], [0, 1, 2]))
    np.testing.assert_array_equal(retrieval.queries, [7, 9])
    assert [right.tolist() for right in retrieval.right] == [[0, 1], [2]]
    texts = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]])
    assert retrieval.ranks(np.array([[1.0, 0.1], [1.0, 0.0]]), texts).tolist() == [0, 2]


def test_a_text_of_several_items_is_one_query_that_any_of_them_answers():
    retrieval = Retrieval.of(pairs([0, 1, 2], [5, 5, 6]), backwards=True)
    np.testing.assert_array_equal(retrieval.queries, [5, 6])
    assert [right.tolist() for right in retrieval.right] == [[0, 1], [2]]


def test_vectors_that_are_all_alike_answer_nothing():
    retrieval = Retrieval.of(pairs(list(range(20)), list(range(20))))
    ranks = retrieval.ranks(np.ones((20, 3)), np.ones((20, 3)))
    assert recall(ranks, 10).value == 0.0
    assert recall(ranks, 20).value == 1.0


def test_chance_counts_how_many_items_are_right():
    assert Retrieval.of(pairs(list(range(50)), list(range(50)))).chance(5) == pytest.approx(0.1)
    texts_of_one = Retrieval.of(pairs([0, 0, 1], [0, 1, 2]))
    assert texts_of_one.chance(1) == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert texts_of_one.chance(10) == 1.0


def test_random_vectors_are_at_chance():
    rng = np.random.default_rng(0)
    retrieval = Retrieval.of(pairs(list(range(1500)), [row // 3 for row in range(1500)]))
    ranks = retrieval.ranks(rng.standard_normal((1500, 8)), rng.standard_normal((500, 8)))
    interval = recall(ranks, 10)
    assert interval.low < retrieval.chance(10) < interval.high


def test_the_baseline_finds_texts_by_their_words():
    rng = np.random.default_rng(1)
    words, colours = ["b", "c", "d", "e"], ["red", "green", "blue"]
    chosen = rng.integers(0, 12, 300)
    texts = [f"a {colours[one % 3]} {words[one // 3]}" for one in chosen.tolist()]
    features = np.eye(4)[chosen // 3] @ rng.standard_normal((4, 10)) + np.eye(3)[chosen % 3] @ rng.standard_normal(
        (3, 10)
    )
    features += 0.05 * rng.standard_normal(features.shape)
    known = ~np.isin(chosen, (0, 5))  # these two texts are new, though all of their words are not
    baseline = BagOfWords(features[known], [text for text, one in zip(texts, known, strict=True) if one])
    distinct = sorted(set(texts))
    retrieval = Retrieval.of(pairs(list(range(300)), [distinct.index(text) for text in texts]))
    ranks = retrieval.ranks(baseline.of_items(features), baseline.of_texts(distinct))
    assert recall(ranks[~known], 1).value > 0.9
