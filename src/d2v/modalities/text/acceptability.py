"""The probe for text without labels: a sentence as it was written, or with some of its words exchanged for each other.

The words of a sentence are the same in both cases, and so are its tokens, for only words in lower case between a space
and a space or punctuation change positions: a bag of words is at chance, and only what knows about their order is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from textwrap import dedent

import numpy as np

CLASS_NAMES = ["unacceptable", "acceptable"]
FEWEST_WORDS, MOST_WORDS = 4, 30
PLAIN_SHARE = 0.7  # of the words that must be letters only: leaves out tables, formulas and code
EXCHANGED_SHARE = 0.5  # of the words that can be exchanged; two at least
POOL_FACTOR = 10  # sentences looked at for each that is drawn
MOST_CHARACTERS = 50_000_000  # read in search of sentences

OPENING, CLOSING = "\"'(\u201c\u2018", "\"')\u201d\u2019"
PARAGRAPH_END = re.compile(r"\n\s*\n")
SENTENCE_END = re.compile(rf"(?:(?<=[.!?])|(?<=[.!?][{CLOSING}]))\s+(?=[{OPENING}]?[^\W\d_a-z])")
NO_END = re.compile(r"(?:^|\W)(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Col|Gen|Rev|Hon|No|vs|cf|e\.g|i\.e|[^\W\d_])\.$")
WHOLE = re.compile(rf"[{OPENING}]?[^\W\d_].*[.!?][{CLOSING}]*")
CODE = re.compile(r">>>|::|==|->|__|[{}|\\`]")
WORD = re.compile(r"(?<= )[^\W\d_]+(?=[ ,;:.!?])")


def sentences(text: str) -> Iterator[str]:
    """Sentences of 4 to 30 words that words can be exchanged in, with single spaces.

    A sentence stands in a paragraph whose lines are indented alike (else it is code or a table), begins with a capital
    and ends with a full stop, question or exclamation mark before a capital; a full stop after an abbreviation such as
    "Mr." or an initial ends none.
    """
    for paragraph in plain_paragraphs(text):
        yield from (one for one in split_sentences(paragraph) if _is_good(one))


def plain_paragraphs(text: str) -> Iterator[str]:
    """Paragraphs that are neither code nor tables, each in one line with single spaces."""
    for paragraph in PARAGRAPH_END.split(text):
        lines = dedent(paragraph).strip("\n").split("\n")
        if not any(line[:1].isspace() for line in lines) and not CODE.search(paragraph):
            yield " ".join(" ".join(lines).split())


def split_sentences(line: str) -> Iterator[str]:
    """A paragraph in one line, cut behind every mark that ends a sentence."""
    ends = [0]
    for match in SENTENCE_END.finditer(line):
        if not NO_END.search(line, ends[-1], match.start()):
            ends.append(match.end())
    yield from (line[start:end].rstrip() for start, end in pairwise([*ends, len(line)]))


def _is_good(sentence: str) -> bool:
    words = sentence.split()
    if not FEWEST_WORDS <= len(words) <= MOST_WORDS or not WHOLE.fullmatch(sentence):
        return False
    plain = sum(word.strip(f"{OPENING}{CLOSING},;:.!?").isalpha() for word in words)
    return plain >= PLAIN_SHARE * len(words) and len({match.group() for match in _exchangeable(sentence)}) >= 2


def _exchangeable(sentence: str) -> list[re.Match[str]]:
    return [match for match in WORD.finditer(sentence) if match.group().islower()]


def exchange(sentence: str, random: np.random.Generator) -> str:
    """The sentence with half of its exchangeable words, two at least, moved to each other's positions; never the same.

    Args:
        sentence: one that `sentences` gave.
        random: draws the words and their new positions.
    """
    words = _exchangeable(sentence)
    different = {words[position].group(): words[position] for position in random.permutation(len(words))}
    count = max(2, round(EXCHANGED_SHARE * len(words)))
    chosen = list(different.values())[:count]
    moved = dict(zip((match.start() for match in chosen), (*chosen[1:], chosen[0]), strict=True))
    parts, end = [], 0
    for match in words:
        parts += [sentence[end : match.start()], moved.get(match.start(), match).group()]
        end = match.end()
    return "".join([*parts, sentence[end:]])


def draw_sentences(documents: Iterable[str], count: int, seed: int, without: Iterable[str] = ()) -> list[str]:
    """At most `count` different sentences.

    Args:
        documents: in an order that does not depend on their content; only as many are read as hold enough sentences.
        count: how many.
        seed: another one draws others.
        without: sentences that must not be among them.
    """
    pool = _pool(documents, POOL_FACTOR * count, set(without))
    return sorted(pool, key=lambda sentence: _key(sentence, seed))[:count]


def as_items(sentences: Sequence[str], seed: int) -> tuple[list[str], np.ndarray]:
    """Half of them, chosen at random, with words exchanged.

    Returns:
        (n texts, labels (n,) int64: 1 acceptable, 0 with words exchanged).
    """
    labels = np.random.Generator(np.random.Philox(key=[seed, 2])).permutation(np.arange(len(sentences)) % 2)
    items = zip(sentences, labels, strict=True)
    return [sentence if label else exchanged(sentence, seed) for sentence, label in items], labels


def exchanged(sentence: str, seed: int) -> str:
    """`exchange` by a draw that depends on the sentence and the seed alone."""
    return exchange(sentence, np.random.Generator(np.random.Philox(key=_key(sentence, seed))))


def _pool(documents: Iterable[str], count: int, without: set[str]) -> list[str]:
    """At least `count` different sentences, if there are so many."""
    found: dict[str, None] = {}
    characters = 0
    for document in documents:
        characters += len(document)
        found.update(dict.fromkeys(one for one in sentences(document) if one not in without))
        if len(found) >= count or characters > MOST_CHARACTERS:
            break
    return list(found)


def _key(sentence: str, seed: int) -> int:
    digest = hashlib.blake2b(sentence.encode(), digest_size=8, salt=seed.to_bytes(8, "big"))
    return int.from_bytes(digest.digest(), "big")
