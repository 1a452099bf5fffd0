"""Tables of cells as many programs write them."""

import csv
import io

import pytest

from d2v.data.sources.delimited import find_delimiter, named_rows, quoted_rows, rows_of, text_lines
from d2v.errors import DataError

CELLS = [
    "a",
    'say "hi"',
    "two\nlines",
    "a,b;c\td|e",
    "",
    " x ",
    "\u2028 \x0c \x85",
    "cr\rcr",
    'begins"',
    '"',
    "z" * 200_000,
]


def written(rows: list[list[str]], **how: object) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **how).writerows(rows)  # type: ignore[arg-type]
    return file.getvalue()


def read(text: str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    return list(rows_of(lambda: text_lines(text), delimiter, "t.csv"))


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize(
    ("end", "quoting"),
    [("\n", csv.QUOTE_ALL), ("\r", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_MINIMAL)],
)
def test_what_is_written_is_read(delimiter: str, end: str, quoting: int) -> None:
    rows = [[cell, str(number)] for number, cell in enumerate(CELLS)]
    text = written(rows, delimiter=delimiter, lineterminator=end, quoting=quoting)
    assert [row for _, row in read(text, delimiter)] == rows
    assert [row for _, row in read(text.rstrip("\r\n"), delimiter)] == rows


def test_rows_have_the_line_they_begin_in() -> None:
    assert read('a,b\n\n"c\n\nd",e\nf,g') == [(1, ["a", "b"]), (3, ["c\n\nd", "e"]), (6, ["f", "g"])]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('f,t\n1,"tis\n2,b\n3,c\n', 2),
        ('f,t\n1,a\n2,"tis', 3),
        ('f,t\n1,a\n2,"tis\n', 3),
        ('f,t\n1,"tis\n2,he said "so"\n', 2),
        ('f,t\n1,"tis\n2,"b"\n3,c\n', 2),
    ],
)
def test_an_open_quotation_mark_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(DataError, match=rf"Line {line} of t\.csv opens a quotation mark.*write \"\""):
        read(text)


def test_quotation_marks_inside_a_line_do_no_harm() -> None:
    assert [row for _, row in read('1,it is 5" long\n2,"a" b\n3,x"y"z\n')] == [
        ["1", 'it is 5" long'],
        ["2", "a b"],
        ["3", 'x"y"z'],
    ]


def test_tabs_with_quotes_and_without_them() -> None:
    rows = [["f", "t"], ["1", 'say "hi"'], ["2", "two\nlines"], ["3", "x"]]
    assert [row for _, row in read(written(rows, delimiter="\t"), "\t")] == rows
    plain = 'f\tt\n1\t"Well, then.\n2\tb\n3\tso" it is\n4\t"Yes"\n'
    assert [row for _, row in read(plain, "\t")] == [line.split("\t") for line in plain.splitlines()]
    swallows = 'f\tt\n1\t"Well\n2\tfine"\n'
    assert len(read(swallows, "\t")) == 3


@pytest.mark.parametrize(
    ("head", "found"),
    [
        ("path,text\n", (",", 0)),
        ("path;text,label\n", (";", 0)),
        ("path\ttext\n", ("\t", 0)),
        ("a|b, c, d|e\n", ("|", 0)),
        ("sep=;\r\npath;text\r\n", (";", 1)),
        ("one\n", (",", 0)),
        ("", (",", 0)),
    ],
)
def test_the_delimiter_is_found(head: str, found: tuple[str, int]) -> None:
    assert find_delimiter(head, {"path", "text"}) == found


def test_a_row_that_is_too_long_is_named_and_a_short_one_is_not() -> None:
    rows = quoted_rows(text_lines("path,text\na,x,\nb\n"), ",", "t.csv")
    assert [row for _, row in named_rows(rows, "t.csv")] == [{"path": "a", "text": "x"}, {"path": "b"}]
    rows = quoted_rows(text_lines("path,text\na,x\nb,hello, world\n"), ",", "t.csv")
    with pytest.raises(DataError, match=r"Line 3 of t\.csv has 3 cells, and the table 2 columns"):
        list(named_rows(rows, "t.csv"))
