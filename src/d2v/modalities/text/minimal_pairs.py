"""Minimal pairs made by rules from sentences as they were written, in the manner of BLiMP (Warstadt et al. 2020).

A rule changes one thing so that the sentence becomes ungrammatical: the number of a verb, a determiner, or the order of
a function word and the word after it. Rules look at words alone, so a few pairs are wrong about what is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Pair(NamedTuple):
    """A sentence and what a rule made of it."""

    right: str
    wrong: str


OTHER_NUMBER = {"is": "are", "are": "is", "was": "were", "were": "was", "has": "have", "have": "has", "does": "do"}
OTHER_DETERMINER = {"this": "these", "these": "this", "that": "those", "those": "that", "a": "an", "an": "a"}
BEFORE_A_VERB = {"to", "will", "would", "can", "could", "may", "might", "must", "should", "not", "you", "i", "who"}
FUNCTION_WORDS = {"the", "a", "an", "of", "to", "in", "for", "with", "from", "by", "at", "into", "this", "these", "its"}
WORD = re.compile(r"(?<= )[a-z]+(?= )")


def _agreement(words: Sequence[str], place: int) -> list[str] | None:
    """A verb in the other number. After "to" or "can" a verb has none, and after "you" and "I" it has the plural's."""
    changed = OTHER_NUMBER.get(words[place])
    if changed is None or place == 0 or words[place - 1].lower() in BEFORE_A_VERB:
        return None
    return [*words[:place], changed, *words[place + 1 :]]


def _determiners(words: Sequence[str], place: int) -> list[str] | None:
    """A determiner of the other number, or the other article. "That" is one only behind a preposition."""
    word = words[place]
    if word not in OTHER_DETERMINER or place + 1 == len(words) or not words[place + 1].isalpha():
        return None
    if word in ("that", "those", "this", "these") and (place == 0 or words[place - 1] not in FUNCTION_WORDS):
        return None
    return [*words[:place], OTHER_DETERMINER[word], *words[place + 1 :]]


def _word_order(words: Sequence[str], place: int) -> list[str] | None:
    """A function word behind the word that it stands before."""
    if words[place] not in FUNCTION_WORDS or place == 0 or place + 2 >= len(words):
        return None
    after = words[place + 1]
    if not (after.isalpha() and after.islower()) or after in FUNCTION_WORDS:
        return None
    return [*words[:place], after, words[place], *words[place + 2 :]]


RULES: dict[str, Callable[[Sequence[str], int], list[str] | None]] = {
    "agreement": _agreement,
    "determiners": _determiners,
    "word_order": _word_order,
}


def minimal_pairs(sentences: Sequence[str], name: str, count: int) -> list[Pair]:
    """At most `count` pairs, one a sentence, in the order of the sentences.

    Args:
        sentences: words with single spaces between.
        name: of the rule, a key of `RULES`.
        count: how many.

    Example:
        >>> minimal_pairs(["The cats are here ."], "agreement", 1)
        [Pair(right='The cats are here .', wrong='The cats is here .')]
    """
    found = (_first(sentence, RULES[name]) for sentence in sentences)
    return [pair for pair in found if pair is not None][:count]


def _first(sentence: str, rule: Callable[[Sequence[str], int], list[str] | None]) -> Pair | None:
    """The sentence changed at the first place where the rule holds."""
    words = sentence.split(" ")
    changed = (rule(words, place) for place in range(len(words)))
    return next((Pair(sentence, " ".join(new)) for new in changed if new is not None), None)
