"""The words that a decoder may write, as a tree of their symbols.

Shapes: S states, that is, beginnings of words; C symbols of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import BOUNDARY, UNKNOWN, CtcVocabulary

ROOT = 0
NOWHERE = -1


class Lexicon:
    """A tree of symbols. Words with characters that the vocabulary lacks are left out.

    Args:
        words: normalised words.
        vocabulary: their symbols.

    Attributes:
        next_SC: the state after a symbol, NOWHERE if no word goes on so; "|" leads from the end of a word to ROOT.
        words: how many words it holds.

    Raises:
        DataError: no word can be spelled.

    Example:
        >>> tree = Lexicon(["AB", "A"], CtcVocabulary(("A", "B")))
        >>> tree.next_SC[ROOT].tolist()  # only A, symbol 5, begins a word
        [-1, -1, -1, -1, -1, 1, -1]
    """

    def __init__(self, words: Iterable[str], vocabulary: CtcVocabulary) -> None:
        spelled = sorted({tuple(ids) for ids in (vocabulary.encode(word) for word in words) if _is_one_word(ids)})
        if not spelled:
            raise DataError(
                "No word of the lexicon can be spelled with the model's symbols: give words in upper case, or leave "
                "the lexicon out"
            )
        self.words = len(spelled)
        states: dict[tuple[int, ...], int] = {(): ROOT}
        for ids in spelled:
            for stop in range(1, len(ids)):
                states.setdefault(ids[:stop], len(states))
        self.next_SC = np.full((len(states), len(vocabulary)), NOWHERE, np.int32)
        for prefix, state in states.items():
            if prefix:
                self.next_SC[states[prefix[:-1]], prefix[-1]] = state
        self.next_SC[[states[ids[:-1]] for ids in spelled], BOUNDARY] = ROOT


def _is_one_word(ids: list[int]) -> bool:
    return ids.count(BOUNDARY) == 1 and UNKNOWN not in ids
