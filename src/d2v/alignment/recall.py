"""Recall at k: how often what belongs to an item is among the k nearest items of the other modality.

A query counts as answered if any of its partners is among the k nearest, so a picture with five captions has five
chances and a caption of three pictures three. `chance` takes that into account. A wrong item that is exactly as near as
the right one counts as nearer: vectors that are all alike answer nothing.

Shapes: q queries, m items of the gallery, R width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from d2v.alignment.pairs import Pairs
from d2v.statistics import Interval, accuracy_interval

AT = (1, 5, 10)
BLOCK = 1024


@dataclass(frozen=True)
class Retrieval:
    """One direction: every item of one side asks for its partners among all items of the other.

    Attributes:
        queries, gallery: rows of the two modalities' items, each once.
        right: of each query the numbers of its partners in the gallery.
    """

    queries: np.ndarray
    gallery: np.ndarray
    right: Sequence[np.ndarray]

    @classmethod
    def of(cls, pairs: Pairs, backwards: bool = False) -> Retrieval:
        """From the first items to the second ones, or backwards."""
        asking, asked = pairs.first_rows, pairs.second_rows
        if backwards:
            asking, asked = asked, asking
        queries, query_of = np.unique(asking, return_inverse=True)
        gallery, number_of = np.unique(asked, return_inverse=True)
        order = np.argsort(query_of, kind="stable")
        ends = np.cumsum(np.bincount(query_of, minlength=len(queries)))[:-1]
        return cls(queries, gallery, [np.unique(some) for some in np.split(number_of[order], ends)])

    def ranks(self, queries_qR: np.ndarray, gallery_mR: np.ndarray) -> np.ndarray:
        """(q,) int64: how many wrong items are at least as near as the nearest right one, by inner product."""
        ranks = np.zeros(len(queries_qR), np.int64)
        for start in range(0, len(queries_qR), BLOCK):
            near_bm = queries_qR[start : start + BLOCK] @ gallery_mR.T
            for row, near_m in enumerate(near_bm):
                right = self.right[start + row]
                best = near_m[right].max()
                ranks[start + row] = np.count_nonzero(near_m >= best) - np.count_nonzero(near_m[right] >= best)
        return ranks

    def chance(self, k: int) -> float:
        """Mean probability that a random order answers a query."""
        items = len(self.gallery)
        missed = []
        for right in self.right:
            drawn = np.arange(min(k, items))
            missed.append(np.prod(np.clip(items - len(right) - drawn, 0, None) / (items - drawn)))
        return float(1.0 - np.mean(missed))


def recall(ranks: np.ndarray, k: int, resamples: int = 1000, seed: int = 0) -> Interval:
    """Share of queries with a partner among the k nearest, with a bootstrap interval over queries.

    Example:
        >>> recall(np.array([0, 3, 12, 0]), 5).value
        0.75
    """
    return accuracy_interval(ranks < k, resamples, seed)
