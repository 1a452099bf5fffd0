"""From the body of a request to its rows, or to a refusal.

Bodies are those of MLflow's server: JSON with one of `FORMATS`, CSV, or Parquet. What MLflow would guess is refused:
unknown keys and columns, a row of another length, numbers that are not JSON.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from d2v.modalities.requests import Limits, higher, named
from d2v.serving.refused import Refused, bad

PARAMS = ("space",)
"""Of encoders: `plain` features, or vectors of the space to `search` in."""
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MAX_VALUES = 1_000_000
"""Commas and opening brackets of a JSON body: each is at most one value of some 100 bytes in memory."""
MAX_DIGITS = 400
"""Of a number: the largest double has 309."""
SHOWN = 60
"""Characters of a name that a message repeats."""

Row = dict[str, Any]


def read_rows(body: bytes, content_type: str, columns: Sequence[str], limits: Limits) -> tuple[list[Row], Row]:
    """The rows of a request, cells by column, and its `params`, which JSON can have.

    Args:
        body: as it came.
        content_type: the header.
        columns: that the model knows; the first one must be there.
        limits: how many rows may come.

    Raises:
        Refused: 400, 413 or 415 with the reason.
    """
    content = _kind_of(content_type)
    params: Row = {}
    if content == JSON:
        rows, params = _from_json(body, columns)
    else:
        rows = {CSV: _from_csv, PARQUET: _from_parquet}[content](body, columns, limits)
    _check_columns({column for row in rows for column in row}, columns)
    if len(rows) > limits.items:
        raise bad(_too_many(len(rows), limits))
    return rows, params


def _kind_of(header: str) -> str:
    kind = media_type(header)
    if kind not in (JSON, CSV, PARQUET):
        given = f"the content type {shortened(kind)}" if kind else "no content type"
        raise unsupported(f"The request has {given}: send the header Content-Type: {JSON} (or {CSV}, {PARQUET})")
    return kind


def media_type(header: str) -> str:
    """Of a header Content-Type, in lower case. Raises Refused (415) for another charset than UTF-8."""
    kind, *parameters = (part.strip() for part in header.split(";"))
    for parameter in parameters:
        name, _, text = parameter.partition("=")
        if name.lower() == "charset" and text.strip('"').lower() not in ("utf-8", "utf8"):
            raise unsupported(f"The body has the charset {shortened(text)}: send UTF-8")
    return kind.lower()


def unsupported(reason: str) -> Refused:
    """Status 415."""
    return Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, reason)


def _too_many(items: int, limits: Limits) -> str:
    return (
        f"The request has {items:,} items, above max_items {limits.items:,}: send it in several requests, or "
        f"{higher('items')}"
    )


def _check_columns(found: Iterable[str], columns: Sequence[str]) -> None:
    for column in found:
        if column not in columns:
            raise bad(unknown("column", column, columns))


def unknown(what: str, name: object, known: Sequence[str]) -> str:
    """A message that names what was meant."""
    near = difflib.get_close_matches(str(name)[:SHOWN], known, n=1)
    guess = f'did you mean "{near[0]}"? ' if near else ""
    return f'There is no {what} "{shortened(name)}": {guess}give {" or ".join(known)}'


def shortened(text: object) -> str:
    """A name as a message repeats it: without what is not printable, and not endless."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: SHOWN + 1])
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def utf8(body: bytes) -> str:
    """Text of a body. Raises Refused (400)."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(f"The body is not UTF-8 (byte {error.start:,}): send UTF-8") from error


# ------------------------------------------------------------------------------------------------- JSON


def _from_json(body: bytes, columns: Sequence[str]) -> tuple[list[Row], Row]:
    given = parse_json(body)
    if not isinstance(given, dict):
        raise bad(f"The body is {described(given)}: {_send(columns)}")
    params = _params(given.pop("params", None) or {})  # MLflow's clients send it empty
    for key in given:
        if key not in FORMATS:
            raise bad(unknown("key", key, tuple(FORMATS)))
    if len(given) != 1:
        raise bad(f"The body has {len(given)} of the keys {', '.join(FORMATS)}: {_send(columns)}")
    ((key, values),) = given.items()
    return FORMATS[key](values, key, columns), params


def _params(given: Any) -> Row:
    example = 'send {"space": "search"}, or leave it out'
    if not isinstance(given, dict):
        raise bad(f'"params" is {described(given)}, not an object: {example}')
    for name, value in given.items():
        if name not in PARAMS:
            raise bad(unknown("parameter", name, PARAMS))
        if not isinstance(value, str):
            raise bad(f'"{name}" in "params" is {described(value)}, not a string: {example}')
    return given


def parse_json(body: bytes) -> Any:
    """Strict JSON of a body: no NaN, no key twice. Raises Refused (400 or 413)."""
    if sum(body.count(mark) for mark in (b",", b"{", b"[")) > MAX_VALUES:
        raise Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body has more than {MAX_VALUES:,} commas and brackets: send it in several requests",
        )
    text = utf8(body)
    try:
        return json.loads(text, parse_int=_integer, parse_constant=_no_number, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise bad(f"The body is not JSON ({error.msg}, {where}): send JSON") from error
    except RecursionError:
        raise bad(
            "The JSON of the body is nested too deeply: send a list of rows, and no lists in their cells"
        ) from None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise bad(f"The body has a number of {len(digits):,} digits: send texts, or smaller numbers")
    return int(digits)


def _no_number(name: str) -> float:
    raise bad(f"The body is not JSON ({name} is no number there): send null where there is nothing")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise bad(f'The body has the key "{shortened(twice)}" twice in one object: send it once')
    return found


def _records(values: Any, key: str, columns: Sequence[str]) -> list[Row]:
    if not isinstance(values, list):
        raise bad(f'"{key}" is {described(values)}, not a list of rows: {_send(columns)}')
    for number, row in enumerate(values):
        if not isinstance(row, dict):
            raise bad(f'Row {number} (from 0) of "{key}" is {described(row)}, not an object: {_send(columns)}')
    return values


def _split(values: Any, key: str, columns: Sequence[str]) -> list[Row]:
    example = f'send {{"{key}": {{"columns": ["{columns[0]}"], "data": [["..."]]}}}}'
    if not isinstance(values, dict):
        raise bad(f'"{key}" is {described(values)}, not an object: {example}')
    for name in values:
        if name not in ("columns", "data", "index"):
            raise bad(unknown(f"key in {key}", name, ("columns", "data", "index")))
    names, data = values.get("columns"), values.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        raise bad(f'"{key}" needs two lists, "columns" and "data": {example}')
    _check_columns([str(name) for name in names], columns)
    if len(set(names)) < len(names):
        raise bad(f'"{key}" has a column twice: {example}')
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            what = f"{len(row):,} cells" if isinstance(row, list) else described(row)
            raise bad(f'Row {number} (from 0) of "{key}" is {what}, for {len(names)} columns: {example}')
    return [dict(zip(names, row, strict=True)) for row in data]


def _tensors(values: Any, key: str, columns: Sequence[str]) -> list[Row]:
    """Rows as objects, single cells of the first column, one row, or columns as lists of one length."""
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        return _records(values, key, columns)
    if isinstance(values, list):
        return [{columns[0]: value} for value in values]
    if not isinstance(values, dict):
        raise bad(f'"{key}" is {described(values)}, not a list: {_send(columns)}')
    _check_columns(values, columns)
    lists = {name: value for name, value in values.items() if isinstance(value, list)}
    if not lists:
        return [values]
    if len(lists) < len(values) or len({len(value) for value in lists.values()}) > 1:
        raise bad(f'The columns of "{key}" are not lists of one length: {_send(columns)}')
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


FORMATS: Mapping[str, Callable[[Any, str, Sequence[str]], list[Row]]] = {
    "dataframe_records": _records,
    "dataframe_split": _split,
    "inputs": _tensors,
    "instances": _tensors,
}
"""The keys of a JSON body, as MLflow's server names them."""


def _send(columns: Sequence[str]) -> str:
    return f'send {{"dataframe_records": [{{"{columns[0]}": "..."}}]}}'


def described(value: object) -> str:
    """What a value of JSON is, in words."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), named(value))


# --------------------------------------------------------------------------------------- CSV and Parquet


def _from_csv(body: bytes, columns: Sequence[str], limits: Limits) -> list[Row]:
    """An empty cell holds nothing."""
    csv.field_size_limit(max(csv.field_size_limit(), len(body)))
    reader = csv.reader(io.StringIO(utf8(body), newline=""), strict=True)
    rows: list[Row] = []
    try:
        names = next(reader, [])
        _check_columns(names, columns)
        if len(set(names)) < len(names):
            raise bad("The CSV has a column twice: send a first line with the name of each column once")
        for cells in filter(None, reader):
            if len(cells) != len(names):
                raise bad(
                    f"Line {reader.line_num} of the CSV has {len(cells)} cells, for {len(names)} columns: send as many"
                )
            rows.append({name: cell or None for name, cell in zip(names, cells, strict=True)})
            if len(rows) > limits.items:
                raise bad(_too_many(len(rows), limits))
    except csv.Error as error:
        raise bad(
            f"Line {reader.line_num} of the CSV cannot be read ({error}): send CSV with quotes around texts"
        ) from error
    return rows


def _from_parquet(body: bytes, columns: Sequence[str], limits: Limits) -> list[Row]:
    """A value that the file holds once and repeats is one object in all its rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.BufferReader(body))
        _check_columns(schema.names, columns)
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=schema.names)
        if file.metadata.num_rows > limits.items:
            raise bad(_too_many(file.metadata.num_rows, limits))
        most = limits.items * limits.item_bytes
        if sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)) > most:
            raise bad(f"The Parquet file promises more than {most:,} bytes: send it in several requests")
        cells = {
            name: [cell for chunk in column.chunks for cell in _cells(chunk)] for name, column in _columns_of(file)
        }
        return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    except (pa.ArrowException, OSError, ValueError, UnicodeError) as error:
        raise bad(
            f"The body is not a Parquet file ({shortened(error)}): send one with a column {columns[0]}"
        ) from error


def _columns_of(file: Any) -> Iterator[tuple[str, Any]]:
    table = file.read()
    return zip(table.column_names, table.columns, strict=True)


def _cells(chunk: Any) -> list[Any]:
    if not hasattr(chunk, "dictionary"):
        cells: list[Any] = chunk.to_pylist()
        return cells
    values = chunk.dictionary.to_pylist()
    return [None if number is None else values[number] for number in chunk.indices.to_pylist()]
