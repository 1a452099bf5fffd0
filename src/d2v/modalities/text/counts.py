"""What counts of two and three tokens in a row foresee: plain models that an encoder of text must beat.

Shapes: W ids of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from d2v.models.kneser_ney import estimate
from d2v.models.ngram import UNKNOWN, NGramModel

NAMES = {2: "bigram counts", 3: "trigram counts"}


def count_models(sentences: Iterable[np.ndarray]) -> dict[str, NGramModel]:
    """Kneser-Ney models of token ids by their names, of orders 2 and 3.

    Args:
        sentences: ids of each, without special tokens.
    """
    spelled = [_spelled(ids) for ids in sentences]
    return {name: estimate(spelled, order) for order, name in NAMES.items()}


def log_prob(model: NGramModel, ids: np.ndarray) -> float:
    """ln p of a sentence of ids with its end."""
    return model.log_prob(_spelled(ids))


def _spelled(ids: np.ndarray) -> str:
    return " ".join(map(str, ids.tolist()))


class Between:
    """p(token | the token before it, the token after it), in proportion to p(token | before) p(after | token).

    Args:
        bigrams: a model of order 2.
        size: W.
    """

    def __init__(self, bigrams: NGramModel, size: int) -> None:
        numbers = {word: number for number, word in enumerate(bigrams.words)}
        self._number_W = np.array([numbers.get(str(token), numbers[UNKNOWN]) for token in range(size)])
        is_unknown_W = self._number_W == numbers[UNKNOWN]
        self._ln_parts_W = np.where(is_unknown_W, np.log(max(is_unknown_W.sum(), 1)), 0.0)  # they share one chance
        self._ln_p = np.array(bigrams.orders[0].log_p)
        self._ln_backoff = np.array(bigrams.orders[0].backoff)
        keys = np.fromiter(bigrams.orders[1].numbers, np.int64, len(bigrams.orders[1].numbers))
        before, after = keys // bigrams.key_base, keys % bigrams.key_base
        ln_p = np.array(bigrams.orders[1].log_p)
        self._by_before = _Grouped(before, after, ln_p, len(bigrams.words))
        self._by_after = _Grouped(after, before, ln_p, len(bigrams.words))

    def ln_p(self, before: int, after: int) -> np.ndarray:
        """(W,) ln p of every token between these two."""
        left, right = self._number_W[before], self._number_W[after]
        given_left = self._ln_backoff[left] + self._ln_p
        self._by_before.put(left, given_left)
        gives_right = self._ln_backoff + self._ln_p[right]
        self._by_after.put(right, gives_right)
        ln_W = (given_left + gives_right)[self._number_W] - self._ln_parts_W
        return ln_W - _logsumexp(ln_W)


class _Grouped:
    """The bigrams of each word, by one of their two places."""

    def __init__(self, of: np.ndarray, other: np.ndarray, ln_p: np.ndarray, size: int) -> None:
        order = np.argsort(of, kind="stable")
        self._start = np.searchsorted(of[order], np.arange(size + 1))
        self._other, self._ln_p = other[order], ln_p[order]

    def put(self, word: int, into: np.ndarray) -> None:
        part = slice(self._start[word], self._start[word + 1])
        into[self._other[part]] = self._ln_p[part]


def _logsumexp(values: np.ndarray) -> float:
    most = values.max()
    return float(most + np.log(np.exp(values - most).sum()))


def best_choice(models: dict[str, NGramModel], right: Sequence[np.ndarray], wrong: Sequence[np.ndarray]) -> np.ndarray:
    """(models, n) bool: whether each model gives the right sentence of a pair the higher probability."""
    return np.array(
        [
            [log_prob(model, a) > log_prob(model, b) for a, b in zip(right, wrong, strict=True)]
            for model in models.values()
        ]
    )
