"""Counts of tokens in a row: what stands between two tokens, against sums over the whole vocabulary."""

import numpy as np
import pytest

from d2v.modalities.text.counts import NAMES, Between, best_choice, count_models

SENTENCES = [np.array(ids) for ids in ([4, 5, 6, 4, 5, 7], [4, 5, 6, 8], [9, 5, 6, 4], [4, 5, 7, 8, 9])]


def test_between_is_the_product_of_both_bigrams() -> None:
    bigrams = count_models(SENTENCES)[NAMES[2]]
    ln_W = Between(bigrams, 10).ln_p(4, 6)

    def score(word: int) -> float:
        left = bigrams.score((bigrams.words.index("4"),), str(word))[0]
        return left + bigrams.score((bigrams.words.index(str(word)),), "6")[0]

    known = np.array([score(word) for word in range(4, 10)])
    assert ln_W[4:10] - ln_W[4] == pytest.approx(known - known[0])
    assert np.exp(ln_W).sum() == pytest.approx(1.0)
    assert int(ln_W.argmax()) == 5


def test_tokens_that_were_never_seen_share_one_chance() -> None:
    bigrams = count_models(SENTENCES)[NAMES[2]]
    few, many = (Between(bigrams, size).ln_p(4, 6) for size in (11, 30))
    unseen = lambda ln_W: np.exp(ln_W[[0, 1, 2, 3, *range(10, len(ln_W))]]).sum()  # noqa: E731
    assert unseen(few) == pytest.approx(unseen(many))


def test_both_orders_choose() -> None:
    models = count_models(SENTENCES)
    chosen = best_choice(models, [np.array([4, 5, 6])], [np.array([6, 5, 4])])
    assert chosen.tolist() == [[True], [True]]
