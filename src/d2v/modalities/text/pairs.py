"""Pairs of runs of lines for next-sentence prediction, as BERT's data are made (Devlin et al. 2019, appendix A.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from d2v.modalities.text.packing import DOCUMENT_END, LINE_END, Tokens
from d2v.modalities.text.tokenizer import EOS

OTHERS = 1000
"""Documents before the current one that a second run may come from, which are in memory together."""
SHORT_SHARE = 0.1
"""Pairs that aim at a random length under the full one, so that short texts are seen, too."""

Document = list[np.ndarray]
"""The ids of its lines."""


class Pair(NamedTuple):
    """Two runs of lines.

    Attributes:
        ids: `A </s> B </s>`.
        is_next: whether B follows A in its document.
    """

    ids: np.ndarray
    is_next: bool


def pack_pairs(stream: Iterable[Tokens], room: int, seed: int) -> Iterator[Pair]:
    """Pairs of at most `room` tokens. Half of the second runs, and those of runs that are one line alone, begin at a
    random line of another document; lines that they took the place of begin the next pair.

    Args:
        stream: lines of documents.
        room: tokens of a pair with its two `</s>`.
        seed: of all choices.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 2]))
    others: deque[Document] = deque(maxlen=OTHERS)
    for document in _documents(stream):
        yield from _pairs(document, others, room - 2, random)
        others.append(document)


def _documents(stream: Iterable[Tokens]) -> Iterator[Document]:
    document: Document = []
    line: list[np.ndarray] = []
    for ids, end in stream:
        line.append(ids)
        if end in (LINE_END, DOCUMENT_END):
            whole, line = np.concatenate(line), []
            if len(whole):
                document.append(whole)
        if end == DOCUMENT_END and document:
            yield document
            document = []


def _pairs(document: Document, others: deque[Document], most: int, random: np.random.Generator) -> Iterator[Pair]:
    """Pairs of one document, of at most `most` tokens."""
    run: Document = []
    goal, place = _goal(most, random), 0
    while place < len(document):
        run.append(document[place])
        place += 1
        if place < len(document) and sum(map(len, run)) < goal:
            continue
        size = int(random.integers(1, len(run))) if len(run) > 1 else 1
        first, second, is_next = run[:size], run[size:], True
        if others and (not second or random.random() < 0.5):
            place -= len(second)
            second, is_next = _elsewhere(others, goal - sum(map(len, first)), random), False
        if second:
            yield Pair(_laid_out(np.concatenate(first), np.concatenate(second), most, random), is_next)
        run, goal = [], _goal(most, random)


def _goal(most: int, random: np.random.Generator) -> int:
    """Tokens that a pair is to have."""
    return int(random.integers(2, most + 1)) if random.random() < SHORT_SHARE else most


def _elsewhere(others: deque[Document], wanted: int, random: np.random.Generator) -> Document:
    """Lines of a random other document from a random one on, until there are as many tokens as wanted."""
    other = others[int(random.integers(len(others)))]
    run: Document = []
    for line in other[int(random.integers(len(other))) :]:
        run.append(line)
        if sum(map(len, run)) >= wanted:
            break
    return run


def _laid_out(first: np.ndarray, second: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Both with `</s>` behind them; the longer one loses tokens at random ends until they fit."""
    while len(first) + len(second) > most:
        at_front = random.random() < 0.5
        if len(first) > len(second):
            first = first[1:] if at_front else first[:-1]
        else:
            second = second[1:] if at_front else second[:-1]
    end = np.array([EOS], np.int32)
    return np.concatenate([first, end, second, end]).astype(np.int32)
