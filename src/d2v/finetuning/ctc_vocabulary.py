"""The vocabulary of a CTC head: text to symbol ids and back, and the normalisation of transcripts.

The layout is fairseq's (its dict.ltr.txt): four specials, then "|", which ends every word, then the characters.
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
from d2v.data.lines import INVISIBLE, ZERO_WIDTH_SPACE
from d2v.errors import CheckpointError, DataError

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
BLANK, PAD, END, UNKNOWN, BOUNDARY = range(5)
"""Ids that are the same in every vocabulary; `<s>` is the blank of CTC and BOUNDARY is "|"."""

FAIRSEQ_CHARACTERS = tuple("ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""By frequency in LibriSpeech, as in fairseq's dict.ltr.txt."""

APOSTROPHES = str.maketrans({"\N{RIGHT SINGLE QUOTATION MARK}": "'", "\N{MODIFIER LETTER APOSTROPHE}": "'"})


@dataclass(frozen=True)
class CtcVocabulary:
    """The symbols of a CTC head, by id: the specials, "|", and the characters.

    Args:
        characters: the symbols after "|", each once.

    Raises:
        DataError: an entry that stands twice, is not a single character, or is "|" or white space.

    Example:
        >>> vocabulary = CtcVocabulary.fairseq()
        >>> vocabulary.encode("A CAT")
        [7, 4, 19, 7, 6, 4]
        >>> vocabulary.decode([7, 4, 19, 7, 6, 4])
        'A CAT'
    """

    characters: tuple[str, ...]

    def __post_init__(self) -> None:
        wrong = [a for a in self.characters if len(a) != 1 or a == "|" or a.isspace()]
        if wrong or len(set(self.characters)) < len(self.characters) or not self.characters:
            raise DataError(
                f"A vocabulary needs single characters, each once, without | and white space, not "
                f"{list(self.characters)}: make it from transcripts, or take fairseq's"
            )

    @staticmethod
    def fairseq() -> CtcVocabulary:
        """The 32 symbols of the published LibriSpeech models."""
        return CtcVocabulary(FAIRSEQ_CHARACTERS)

    @staticmethod
    def of_transcripts(transcripts: Iterable[str]) -> CtcVocabulary:
        """The characters of normalised transcripts, the most frequent first.

        Raises:
            DataError: there are none.
        """
        counts = Counter(character for text in transcripts for character in normalised(text) if character != " ")
        if not counts:
            raise DataError(
                "The training transcripts hold no letters, so there is nothing to learn to write: choose a source "
                "with transcripts in ingest.source"
            )
        return CtcVocabulary(tuple(sorted(counts, key=lambda character: (-counts[character], character))))

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol by id."""
        return (*SPECIALS, "|", *self.characters)

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> list[int]:
        """Ids of a normalised text; every word, the last too, is followed by "|". Characters that the vocabulary
        lacks become `<unk>`."""
        return [self._ids.get(character, UNKNOWN) for word in text.split() for character in (*word, "|")]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids without blanks: words with single spaces between; specials are left out."""
        written = "".join(self.symbols[i] for i in ids if i >= BOUNDARY)
        return " ".join(word for word in written.split("|") if word)

    def unknown_characters(self, texts: Iterable[str]) -> Counter[str]:
        """How often the normalised texts hold each character that the vocabulary lacks."""
        return Counter(a for text in texts for a in text if a != " " and a not in self._ids)

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        write_json(path, {"letters": list(self.characters)})

    @staticmethod
    def load(path: Path) -> CtcVocabulary:
        """Read what `save` wrote.

        Raises:
            CheckpointError: there is no such file, or it holds no vocabulary.
        """
        try:
            return CtcVocabulary(tuple(json.loads(path.read_text())["letters"]))
        except (OSError, ValueError, KeyError, TypeError, DataError) as error:
            raise CheckpointError(
                f"{path} holds no vocabulary ({error}), and without it the model's outputs cannot be read: take the "
                "file from the folder of the fine-tuned model again, or repeat finetune"
            ) from error


def normalised(transcript: str) -> str:
    """A transcript as it is trained on and scored: upper-case letters, digits and apostrophes, single spaces. Other
    characters, such as commas and hyphens, part words; invisible ones, such as soft hyphens and joiners, do not.
    LibriSpeech's own transcripts stay as they are.

    Example:
        >>> normalised("Don't  stop -- well-known words, please!")
        "DON'T STOP WELL KNOWN WORDS PLEASE"
    """
    parted = "".join(a if _is_spoken(a) else " " for a in _plain(transcript).upper())
    return " ".join(word for word in parted.split() if word.strip("'"))


def dropped_characters(transcripts: Iterable[str]) -> Counter[str]:
    """How often each character that `normalised` takes for a gap between words stands in the transcripts; white space
    and invisible characters are not counted."""
    return Counter(
        a
        for transcript in transcripts
        for a in _plain(transcript)
        if not _is_spoken(a) and not a.isspace() and a != ZERO_WIDTH_SPACE
    )


def _plain(transcript: str) -> str:
    """A transcript with one form of each character, and without invisible ones."""
    return unicodedata.normalize("NFKC", transcript.translate(APOSTROPHES).translate(INVISIBLE))


def frames_needed(ids: Sequence[int]) -> int:
    """The fewest frames that can spell `ids` under CTC: one each, and a blank between equal neighbours. Shorter
    recordings have an infinite loss."""
    return len(ids) + sum(a == b for a, b in itertools.pairwise(ids))


def _is_spoken(character: str) -> bool:
    return character == "'" or unicodedata.category(character)[0] in "LMN"
