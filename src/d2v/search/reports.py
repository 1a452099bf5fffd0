"""Two looks at the items of an index: near-duplicates, and the least typical ones.

Both compare all vectors with one another, a block at a time: the work grows with the square of their number, and the
memory is that of the vectors and one block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2v.search.index import Hit, Index

BLOCK = 1024
NEIGHBOURS = 10


@dataclass(frozen=True)
class Pair:
    """Two items that are nearly the same, and their cosine."""

    similarity: float
    first: Hit
    second: Hit


def near_duplicates(index: Index, threshold: float = 0.95, most: int = 100) -> list[Pair]:
    """Pairs of items whose cosine is at least `threshold`, the most alike first, at most `most` of them."""
    rows, ids = index.vectors()
    values, firsts, seconds = np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for start in range(0, len(rows), BLOCK):
        product = rows[start : start + BLOCK] @ rows[start:].T
        row, column = np.nonzero(np.triu(product >= threshold, 1))
        values = np.concatenate([values, product[row, column]])
        firsts, seconds = np.concatenate([firsts, row + start]), np.concatenate([seconds, column + start])
        kept = np.argsort(-values, kind="stable")[:most]
        values, firsts, seconds = values[kept], firsts[kept], seconds[kept]
    similar = values.tolist()
    of_first, of_second = (index.hits([ids[row] for row in rows_.tolist()], similar) for rows_ in (firsts, seconds))
    return [Pair(*one) for one in zip(similar, of_first, of_second, strict=True)]


def outliers(index: Index, most: int = 20) -> list[Hit]:
    """The items that are the least like their NEIGHBOURS nearest ones: their similarity is the mean cosine to these."""
    rows, ids = index.vectors()
    near = min(NEIGHBOURS, len(rows) - 1)
    if near < 1:
        return []
    typical = np.zeros(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK):
        product = rows[start : start + BLOCK] @ rows.T
        own = np.arange(len(product))
        product[own, own + start] = -np.inf
        typical[start : start + BLOCK] = np.partition(product, -near, axis=1)[:, -near:].mean(axis=1)
    least = np.argsort(typical, kind="stable")[:most]
    return index.hits([ids[row] for row in least.tolist()], typical[least].tolist())
