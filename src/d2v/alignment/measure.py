"""How well aligned heads find partners, beside a bag of words and chance, on held-out pairs.

Shapes: n items, D width of features, R width of the shared space.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d2v.alignment.baseline import BagOfWords
from d2v.alignment.heads import Head
from d2v.alignment.pairs import HeldOut, Pairs
from d2v.alignment.recall import AT, Retrieval, recall
from d2v.statistics import Interval, Score

NEW, KNOWN = "new texts", "known texts"
"""Held-out items with texts that no pair of training has, and new items with texts of training."""


@dataclass(frozen=True)
class Direction:
    """Recall from one modality to another.

    Attributes:
        kind: of the pairs.
        asking, asked: modalities.
        texts: NEW or KNOWN.
        queries, gallery: how many items ask, and how many are asked for.
        ranks: (queries,) of the heads, see `Retrieval.ranks`.
        aligned, baseline, chance: recall by k; no baseline where neither side is text.
    """

    kind: str
    asking: str
    asked: str
    texts: str
    queries: int
    gallery: int
    ranks: np.ndarray
    aligned: Mapping[int, Interval]
    baseline: Mapping[int, Interval]
    chance: Mapping[int, float]

    @property
    def name(self) -> str:
        """For metrics, such as `vision_to_text`."""
        return f"{self.asking}_to_{self.asked}"


def encode(heads: Mapping[str, Head], features: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Modality -> (n, R) vectors of its items, by heads in evaluation mode."""
    with torch.no_grad():
        return {name: heads[name](rows_nD).numpy() for name, rows_nD in features.items()}


def measure(
    vectors: Mapping[str, np.ndarray],
    features: Mapping[str, Tensor],
    kinds: Mapping[str, HeldOut],
    texts: Mapping[str, Sequence[str]],
    resamples: int = 1000,
    with_baseline: bool = True,
) -> list[Direction]:
    """Recall in both directions of every kind of pairs.

    Args:
        vectors: modality -> (n, R) of length one.
        features: modality -> (n, D) what the baseline reads.
        kinds: pairs, parted.
        texts: modality -> (n,) its items where they are texts.
        resamples: of the bootstrap.
        with_baseline: whether to compute it.
    """
    found: list[Direction] = []
    for kind, held in kinds.items():
        words = _BaselineOf(held.train, features, texts) if with_baseline and held.train.second in texts else None
        for name, pairs in ((NEW, held.test), (KNOWN, held.known)):
            if len(pairs):
                found += _both(kind, name, pairs, vectors, words, resamples)
    return found


def _both(
    kind: str,
    texts: str,
    pairs: Pairs,
    vectors: Mapping[str, np.ndarray],
    words: _BaselineOf | None,
    resamples: int,
) -> Iterator[Direction]:
    for backwards in (False, True):
        retrieval = Retrieval.of(pairs, backwards)
        asking, asked = (pairs.second, pairs.first) if backwards else (pairs.first, pairs.second)
        ranks = retrieval.ranks(vectors[asking][retrieval.queries], vectors[asked][retrieval.gallery])
        baseline: dict[int, Interval] = {}
        if words is not None:
            of_first = words.of_first(retrieval.gallery if backwards else retrieval.queries)
            of_second = words.of_second(retrieval.queries if backwards else retrieval.gallery)
            sides = (of_second, of_first) if backwards else (of_first, of_second)
            plain = retrieval.ranks(*sides)
            baseline = {k: recall(plain, k, resamples) for k in AT}
        aligned = {k: recall(ranks, k, resamples) for k in AT}
        counts = len(retrieval.queries), len(retrieval.gallery)
        chance = {k: retrieval.chance(k) for k in AT}
        yield Direction(kind, asking, asked, texts, *counts, ranks, aligned, baseline, chance)


class _BaselineOf:
    """The bag of words of a kind of pairs."""

    def __init__(self, train: Pairs, features: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]]) -> None:
        self._features, self._texts = features[train.first].numpy(), texts[train.second]
        said = [self._texts[row] for row in train.second_rows.tolist()]
        self._bag = BagOfWords(self._features[train.first_rows], said)

    def of_first(self, rows: np.ndarray) -> np.ndarray:
        return self._bag.of_items(self._features[rows])

    def of_second(self, rows: np.ndarray) -> np.ndarray:
        return self._bag.of_texts([self._texts[row] for row in rows.tolist()])


def mean_recall(directions: Sequence[Direction], k: int = 5) -> Score:
    """The mean recall over all directions with new texts, ready for resampling: items are the queries of all of them,
    one direction after the other."""
    new = [one for one in directions if one.texts == NEW]
    ends = np.cumsum([one.queries for one in new])[:-1]

    def of_counts(counts_RN: np.ndarray) -> np.ndarray:
        parts = np.split(counts_RN, ends, axis=1)
        of_each = [part @ (one.ranks < k) / part.sum(axis=1).clip(1) for one, part in zip(new, parts, strict=True)]
        mean_R: np.ndarray = np.mean(of_each, axis=0)
        return mean_R

    return Score(sum(one.queries for one in new), of_counts)
