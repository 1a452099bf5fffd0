"""Tables of delimited cells: CSV, TSV and their relatives, read row by row.

Only LF, CRLF and CR end a line, a quoted cell may hold line ends, and cells may be of any length. A quotation mark that
opens a cell and is never closed is an error that names its line, for it would swallow all rows behind it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice

from d2v.data.lines import lines_of
from d2v.errors import DataError

Rows = Iterator[tuple[int, list[str]]]
"""Line that a row begins in, from 1, and its cells; blank lines are left out."""

DELIMITERS = (",", ";", "\t", "|")
SEPARATOR_LINE = "sep="
"""Begins the line in which Excel says what the delimiter is."""
LONGEST_CELL = 2**31 - 1

csv.field_size_limit(LONGEST_CELL)  # else a cell of more than 131,072 characters is an error


def text_lines(text: str) -> Iterator[str]:
    """Lines with their ends."""
    return iter(io.StringIO(text, newline=""))


def whole_lines(head: str) -> Iterator[str]:
    """Lines with their ends of the beginning of a table, without the last, which may be cut."""
    lines = list(text_lines(head))
    return iter(lines if len(lines) < 2 else lines[:-1])


class RowTooLongError(Exception):
    """A row, or what an open quotation mark makes one, is longer than an item may be.

    Attributes:
        line: that it begins in, from 1.
    """

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


def quoted_rows(lines: Iterable[str], delimiter: str, path: str, limit: int = LONGEST_CELL) -> Rows:
    """Rows whose cells may be quoted, as RFC 4180 says.

    Args:
        lines: with their ends.
        delimiter: between cells.
        path: of the table, for messages.
        limit: characters of a row.

    Raises:
        DataError: a quotation mark that is not closed.
        RowTooLongError: a row above the limit, behind which nothing can be read, as it may be quoted.
    """
    pending: list[str] = []
    first, size = 1, 0

    def fed() -> Iterator[str]:
        nonlocal size
        for line in lines:
            pending.append(line)
            size += len(line)
            if size > limit:
                raise RowTooLongError(first)
            yield line

    for row in csv.reader(fed(), delimiter=delimiter):
        is_whole_line = len(pending) == 1 and pending[0].endswith(("\n", "\r"))
        holds_its_end = bool(row) and row[-1].endswith(("\n", "\r"))
        if (holds_its_end or not is_whole_line) and (wrong := _open_quote(pending, delimiter)):
            raise DataError(
                f'Line {first} of {path} opens a quotation mark that {wrong}: write "" for a quotation mark inside '
                "a quoted cell, or take the mark out."
            )
        if row:
            yield first, row
        first += len(pending)
        pending.clear()
        size = 0


def _open_quote(lines: Sequence[str], delimiter: str) -> str | None:
    """How the quotation marks of a row are wrong, in such a way that it swallows lines."""
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return "is not closed before the table ends"
        if len(lines) > 1:
            return f"is closed inside a cell of line +{len(lines) - 1}"
    return None


def plain_rows(lines: Iterable[str], delimiter: str) -> Rows:
    """Rows in which quotation marks mean nothing."""
    for number, line in enumerate(lines, 1):
        if cells := line.rstrip("\r\n"):
            yield number, cells.split(delimiter)


def rows_of(open_lines: Callable[[], Iterable[str]], delimiter: str, path: str) -> Rows:
    """Rows of a table. In one with tabs quotation marks are mostly characters like any other; they are taken for quotes
    if the whole table reads as one in which every cell that begins with a mark ends with one.

    Args:
        open_lines: gives the lines with their ends, from the beginning each time.
        delimiter: between cells.
        path: of the table, for messages.

    Raises:
        DataError: reading them meets a quotation mark that is not closed.
    """
    if delimiter in ",;":
        return quoted_rows(open_lines(), delimiter, path)
    is_quoted = reads_as_quoted(open_lines(), delimiter)
    return quoted_rows(open_lines(), delimiter, path) if is_quoted else plain_rows(open_lines(), delimiter)


def reads_as_quoted(lines: Iterable[str], delimiter: str) -> bool:
    """Whether every row has as many cells as the first one, with quotes that are right, and no cell of several lines
    holds the delimiter, which only a cell that swallowed the next row would."""
    width = None
    try:
        for row in csv.reader(lines, delimiter=delimiter, strict=True):
            width = width or len(row)
            if row and (len(row) != width or any("\n" in cell and delimiter in cell for cell in row)):
                return False
    except csv.Error:
        return False
    return True


def find_delimiter(head: str, known: Collection[str]) -> tuple[str, int]:
    """The delimiter of a table, and how many lines before its header are none of it.

    Args:
        head: its beginning.
        known: names of columns, in lower case; of several delimiters the one that makes the most of them wins, then one
            that prose does not have.
    """
    lines = lines_of(head[: 2**16])
    if lines and lines[0].lower().startswith(SEPARATOR_LINE) and len(lines[0]) == len(SEPARATOR_LINE) + 1:
        return lines[0][-1], 1

    def fit(delimiter: str) -> tuple[int, bool, int]:
        names = [name.strip().lower() for name in next(csv.reader(lines[:1], delimiter=delimiter), [])]
        return len(set(names) & set(known)), delimiter == "|" and len(names) > 1, len(names)

    return max(DELIMITERS, key=fit), 0


def named_rows(rows: Rows, path: str, names: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows as cells by column; cells that a row lacks are left out.

    Args:
        rows: of the table.
        path: of the table, for messages.
        names: of the columns; None: the first row has them.

    Raises:
        DataError: a row with more cells than there are columns, whose words would be lost.
    """
    if names is None:
        names = next((row for _, row in islice(rows, 1)), [])
    columns = [name.strip().lower() for name in names]
    for line, row in rows:
        if any(cell.strip() for cell in row[len(columns) :]):
            raise DataError(
                f"Line {line} of {path} has {len(row)} cells, and the table {len(columns)} columns "
                f"({', '.join(columns)}): put quotation marks around a cell that holds the delimiter."
            )
        yield line, dict(zip(columns, row, strict=False))
