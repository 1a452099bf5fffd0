"""The letters that a speech recogniser writes: text to symbol ids and back, and what a transcript is made into first.

The layout is fairseq's (its dict.ltr.txt): four specials, then "|", which ends every word, then the letters.
"""

from __future__ import annotations

import functools
import itertools
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2v.data.disk import write_json
from d2v.errors import CheckpointError, DataError

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
BLANK, PAD, END, UNKNOWN, BOUNDARY = range(5)
"""Ids that are the same in every alphabet; `<s>` is the blank of CTC and BOUNDARY is "|"."""

FAIRSEQ_LETTERS = tuple("ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""By frequency in LibriSpeech, as in fairseq's dict.ltr.txt."""

APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MODIFIER LETTER APOSTROPHE}": "'"})


@dataclass(frozen=True)
class Alphabet:
    """The symbols of a CTC head, by id: the specials, "|", and the letters.

    Args:
        letters: what follows "|", each once.

    Raises:
        DataError: a letter that stands twice, is no single character, or is "|" or white space.

    Example:
        >>> alphabet = Alphabet.fairseq()
        >>> alphabet.encode("A CAT")
        [7, 4, 19, 7, 6, 4]
        >>> alphabet.decode([7, 4, 19, 7, 6, 4])
        'A CAT'
    """

    letters: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [a for a in self.letters if len(a) != 1 or a == "|" or a.isspace()]
        if wrong or len(set(self.letters)) < len(self.letters) or not self.letters:
            raise DataError(
                f"An alphabet needs single letters, each once, without | and white space, not {list(self.letters)}: "
                "make it from transcripts, or take fairseq's"
            )

    @staticmethod
    def fairseq() -> Alphabet:
        """The 32 symbols of the published LibriSpeech models."""
        return Alphabet(FAIRSEQ_LETTERS)

    @staticmethod
    def of_transcripts(transcripts: Iterable[str]) -> Alphabet:
        """The letters of normalised transcripts, the most frequent first.

        Raises:
            DataError: no letters at all.
        """
        counts = Counter(letter for text in transcripts for letter in normalised(text) if letter != " ")
        if not counts:
            raise DataError(
                "The training transcripts hold no letters, so there is nothing to learn to write: choose a source "
                "with transcripts in ingest.source"
            )
        return Alphabet(tuple(sorted(counts, key=lambda letter: (-counts[letter], letter))))

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol by id."""
        return (*SPECIALS, "|", *self.letters)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        """Ids of a normalised text; every word, the last too, is followed by "|". Letters that the alphabet lacks
        become `<unk>`."""
        return [self._ids.get(letter, UNKNOWN) for word in text.split() for letter in (*word, "|")]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids without blanks: words with single spaces between; specials are left out."""
        written = "".join(self.symbols[i] for i in ids if i >= BOUNDARY)
        return " ".join(word for word in written.split("|") if word)

    def unknown_letters(self, texts: Iterable[str]) -> Counter[str]:
        """How often the normalised texts hold each letter that the alphabet lacks."""
        return Counter(a for text in texts for a in text if a != " " and a not in self._ids)

    def save(self, path: Path) -> None:
        """Write the alphabet as JSON."""
        write_json(path, {"letters": list(self.letters)})

    @staticmethod
    def load(path: Path) -> Alphabet:
        """Read what `save` wrote.

        Raises:
            CheckpointError: there is no such file, or it holds no alphabet.
        """
        try:
            return Alphabet(tuple(json.loads(path.read_text())["letters"]))
        except (OSError, ValueError, KeyError, TypeError, DataError) as error:
            raise CheckpointError(
                f"{path} holds no alphabet ({error}), and without it the model's outputs cannot be read: take the "
                "file from the folder of the fine-tuned model again, or repeat finetune"
            ) from error


def normalised(transcript: str) -> str:
    """A transcript as it is trained on and scored: upper-case letters, digits and apostrophes, single spaces. Other
    characters, such as commas and hyphens, part words. LibriSpeech's own transcripts stay as they are.

    Example:
        >>> normalised("Don't  stop -- well-known words, please!")
        "DON'T STOP WELL KNOWN WORDS PLEASE"
    """
    text = unicodedata.normalize("NFKC", transcript.translate(APOSTROPHES)).upper()
    parted = "".join(a if _is_spoken(a) else " " for a in text)
    return " ".join(word for word in parted.split() if word.strip("'"))


def dropped_characters(transcripts: Iterable[str]) -> Counter[str]:
    """How often each character that `normalised` takes for a gap between words stands in the transcripts; white space
    is not counted."""
    return Counter(
        a
        for transcript in transcripts
        for a in unicodedata.normalize("NFKC", transcript.translate(APOSTROPHES))
        if not _is_spoken(a) and not a.isspace()
    )


def frames_needed(ids: Sequence[int]) -> int:
    """The fewest frames that can spell `ids` under CTC: one each, and a blank between equal neighbours. Shorter
    recordings have an infinite loss."""
    return len(ids) + sum(a == b for a, b in itertools.pairwise(ids))


def _is_spoken(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LMN"
