"""Lines and words: one rule for tables, transcripts, documents and scores."""

import io

import pytest

from d2v.data.lines import byte_lines, decoded, lines_of, single_spaced, words_of

NO_ENDS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.mark.parametrize("inside", NO_ENDS)
def test_only_three_ends_end_a_line(inside: str) -> None:
    assert lines_of(f"a{inside}b\nc\r\nd\re") == [f"a{inside}b", "c", "d", "e"]
    assert lines_of(f"{inside}\n") == [inside]


def test_blank_lines_are_lines_and_the_last_end_begins_none() -> None:
    assert lines_of("a\n\n\r\n\rb\n") == ["a", "", "", "", "b"]
    assert lines_of("") == []


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 100])
def test_lines_of_bytes_are_those_of_the_text_wherever_chunks_end(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2v.data.lines.CHUNK_BYTES", chunk)
    text = "one\u2028two\r\nthree\r\rfour\n\nfive \x0c\x85\r\n\nsix"
    found = [line for line, _ in byte_lines(io.BytesIO(text.encode()), 100)]
    assert b"".join(found) == text.encode()
    assert [line.decode().rstrip("\r\n") for line in found] == lines_of(text)


def test_a_line_that_is_too_long_is_empty_and_those_around_it_are_whole() -> None:
    found = list(byte_lines(io.BytesIO(b"ab\n" + b"x" * 50 + b"\ncd"), 10))
    assert found == [(b"ab\n", 3), (b"", 51), (b"cd", 2)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_tables_of_other_programs_are_decoded(encoding: str) -> None:
    assert decoded("é\n".encode(encoding)) == "é\n"


@pytest.mark.parametrize("gap", ["\u00a0", "\u2009", "\u202f", "\u3000", "\u2028", "\x85", "\t", "\r\n", "\u200b"])
def test_white_space_of_any_kind_parts_words(gap: str) -> None:
    assert words_of(f"one{gap}two") == ["one", "two"]
    assert single_spaced(f" one{gap}{gap}two\n") == "one two"


@pytest.mark.parametrize(
    "joiner", ["\u200c", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u200e", "\u200f", "\u202b", "\ufe0f"]
)
def test_what_is_invisible_parts_no_word(joiner: str) -> None:
    assert words_of(f"one{joiner}two {joiner}") == ["onetwo"]
    assert single_spaced(f"one{joiner}two") == f"one{joiner}two"
