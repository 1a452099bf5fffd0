"""The documents of a corpus as text, and those of them that something is known of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from d2v.data.prepared import UNLABELLED, Corpus

MORE_TESTS = ("mismatched",)
"""Splits that are tests beside the test part: MNLI's genres that no training item is of."""


class LabelledText(NamedTuple):
    """A sentence or a pair with what is known of it.

    Attributes:
        first: the sentence, or the first of a pair.
        second: of a pair, else None.
        label: class id, UNLABELLED without one.
        score: a number, NaN without one.
    """

    first: str
    second: str | None = None
    label: int = UNLABELLED
    score: float = math.nan

    @property
    def text(self) -> str:
        """For people: one sentence after the other."""
        return joined(self.first, self.second)


def joined(first: str, second: str | None) -> str:
    """A sentence, or both of a pair in two lines."""
    return first if second is None else f"{first}\n{second}"


class Texts:
    """A corpus of documents, opened for reading; of a pair, one sentence is read after the other.

    Args:
        corpus: what ingest left.

    Attributes:
        parts: ascending items of "train" and of "test".
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.parts = corpus, corpus.items_by_split("documents")

    @cached_property
    def seconds(self) -> list[str | None]:
        """The second sentence of each item's pair."""
        return self.corpus.column("second")

    def read(self, items: Sequence[int] | np.ndarray) -> Iterator[str]:
        """Whole texts, one by one."""
        return (joined(first, second) for first, second in self.pairs(items))

    def pairs(self, items: Sequence[int] | np.ndarray) -> Iterator[tuple[str, str | None]]:
        """(sentence, second one or None) of some items."""
        for item, data in zip(items, self.corpus.data(items), strict=True):
            yield data.decode(), self.seconds[item]

    def shuffled(self, items: np.ndarray, seed: int) -> Iterator[str]:
        """Whole texts in an order of chance, read one by one."""
        random = np.random.Generator(np.random.Philox(key=[seed, 1]))
        yield from self.read(random.permutation(items))

    def sample(self, items: np.ndarray, characters: int, seed: int) -> Iterator[str]:
        """Texts of so many characters in an order of chance; all of them, in their order, if they are that few."""
        if self.corpus.integers("characters")[items].sum() <= characters:
            yield from self.read(items)
            return
        read = 0
        for text in self.shuffled(items, seed):
            yield text[: characters - read]
            read += len(text)
            if read >= characters:
                return

    @cached_property
    def classes(self) -> tuple[list[str], np.ndarray]:
        """Class names, and the class id of every item."""
        return self.corpus.classes()

    @cached_property
    def scores(self) -> np.ndarray:
        """(items,) float64, NaN without a score."""
        return np.array([math.nan if score is None else float(score) for score in self.corpus.column("score")])

    def labelled(self) -> dict[str, np.ndarray]:
        """All items with a class or a score: of "train" and "test", and of "val" and MORE_TESTS if they are there."""
        _, labels = self.classes
        known = (labels != UNLABELLED) | np.isfinite(self.scores)
        splits = {name: np.flatnonzero(self.corpus.splits == name) for name in MORE_TESTS}
        splits["val"] = self.corpus.validation_items()
        parts = self.parts | {name: items for name, items in splits.items() if len(items)}
        return {part: items[known[items]] for part, items in parts.items()}

    def known(self, items: np.ndarray) -> Iterator[LabelledText]:
        """Some items with what is known of them, one by one."""
        _, labels = self.classes
        for item, pair in zip(items, self.pairs(items), strict=True):
            yield LabelledText(*pair, int(labels[item]), float(self.scores[item]))
