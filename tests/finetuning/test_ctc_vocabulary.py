"""Transcripts to ids and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2v.errors import CheckpointError, DataError
from d2v.finetuning.ctc_vocabulary import (
    BLANK,
    BOUNDARY,
    PAD,
    UNKNOWN,
    CtcVocabulary,
    dropped_characters,
    frames_needed,
    normalised,
)

FAIRSEQ_DICT = ["<s>", "<pad>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]


def test_the_fixed_vocabulary_is_fairseqs() -> None:
    vocabulary = CtcVocabulary.fairseq()
    assert list(vocabulary.symbols) == FAIRSEQ_DICT
    assert len(vocabulary) == 32
    assert [vocabulary.symbols[i] for i in (BLANK, PAD, UNKNOWN, BOUNDARY)] == ["<s>", "<pad>", "<unk>", "|"]


def test_every_word_ends_with_a_boundary_as_in_ltr_files() -> None:
    vocabulary = CtcVocabulary.fairseq()
    assert [vocabulary.symbols[i] for i in vocabulary.encode("CAT SAT")] == list("CAT|SAT|")
    assert vocabulary.encode("") == []


@pytest.mark.parametrize("text", ["", "A", "DON'T STOP", "ZEBRAS QUIT"])
def test_text_comes_back_from_its_ids(text: str) -> None:
    assert CtcVocabulary.fairseq().decode(CtcVocabulary.fairseq().encode(text)) == text


def test_decoding_passes_over_specials_and_empty_words() -> None:
    vocabulary = CtcVocabulary(("A", "B"))
    assert vocabulary.decode([4, 4, 5, 1, 2, 3, 6, 4, 4, 5]) == "AB A"


def test_transcripts_are_normalised() -> None:
    assert (
        normalised("  Is that Anna\N{RIGHT SINGLE QUOTATION MARK}s\twell-known  basket?\n")
        == "IS THAT ANNA'S WELL KNOWN BASKET"
    )
    assert normalised("Über 25 cafés \N{EM DASH} ' \N{LATIN SMALL LIGATURE FI}n") == "ÜBER 25 CAFÉS FIN"
    librispeech = "'TIS THE BOYS' HOUSE AND IT ISN'T MINE"
    assert normalised(librispeech) == librispeech
    assert normalised(" ?! ") == ""


def test_the_vocabulary_of_transcripts_holds_their_letters_by_frequency() -> None:
    vocabulary = CtcVocabulary.of_transcripts(["A bee, a b!", "be'e"])
    assert vocabulary.characters == ("E", "B", "A", "'")
    assert vocabulary == CtcVocabulary.of_transcripts(["be'e", "a b a bee"])
    with pytest.raises(DataError, match="no letters"):
        CtcVocabulary.of_transcripts(["...", ""])


def test_unknown_letters_and_dropped_characters_are_counted() -> None:
    vocabulary = CtcVocabulary.fairseq()
    assert vocabulary.unknown_characters([normalised("Café 5 5")]) == {"É": 1, "5": 2}
    assert vocabulary.encode("CAFÉ")[3] == UNKNOWN
    assert dropped_characters(["Well-known, isn\N{RIGHT SINGLE QUOTATION MARK}t it?", "a-b"]) == {
        "-": 2,
        ",": 1,
        "?": 1,
    }


def test_frames_needed_counts_a_blank_between_equal_neighbours() -> None:
    vocabulary = CtcVocabulary.fairseq()
    assert frames_needed(vocabulary.encode("BEE")) == 5
    assert frames_needed([]) == 0


def test_a_vocabulary_is_saved_with_the_model(tmp_path: Path) -> None:
    vocabulary = CtcVocabulary.of_transcripts(["ÄÖ ß 'x"])
    vocabulary.save(tmp_path / "letters.json")
    assert CtcVocabulary.load(tmp_path / "letters.json") == vocabulary


@pytest.mark.parametrize("content", [None, "{", "[]", '{"letters": ["A", "A"]}', '{"words": []}', '{"letters": 5}'])
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "letters.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CheckpointError, match="holds no vocabulary"):
        CtcVocabulary.load(path)


@pytest.mark.parametrize("characters", [(), ("A", "A"), ("AB",), ("|",), (" ",)])
def test_impossible_vocabularies_are_refused(characters: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="single characters"):
        CtcVocabulary(characters)


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u200f"])
def test_invisible_characters_do_not_part_words(joiner: str) -> None:
    assert normalised(f"co{joiner}operate at{joiner} once") == "COOPERATE AT ONCE"
    assert not dropped_characters([f"co{joiner}operate"])


@pytest.mark.parametrize("gap", ["\u00a0", "\u200b", "\u2028", "\x85", "\r\n"])
def test_white_space_of_any_kind_parts_words(gap: str) -> None:
    assert normalised(f"ten{gap}thousand") == "TEN THOUSAND"
