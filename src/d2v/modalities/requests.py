"""Raw items of all modalities: files, and what people send to a served model, a table with a row an item and files in
it as base64."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from d2v.data.ingest import refusal
from d2v.errors import ConfigError, D2vError, DataError

PREFIX = "D2V_SERVE_MAX_"


@dataclass(frozen=True)
class Limits:
    """The most that a request may hold.

    Attributes:
        items: rows of the table.
        item_bytes: of one file.
        pixels: width x height of an image.
        seconds: of a recording.
        characters: of a text, or of a pair together.
    """

    items: int = 128
    item_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    seconds: float = 40.0
    characters: int = 100_000

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """The limits above, or what D2V_SERVE_MAX_ITEMS, D2V_SERVE_MAX_ITEM_BYTES and so on say.

        Raises:
            ConfigError: a variable is not a number above 0.
        """
        texts = {field.name: environment.get(PREFIX + field.name.upper()) for field in fields(cls)}
        return cls(**{name: _number(name, text) for name, text in texts.items() if text is not None})


OWN_FILES = Limits(item_bytes=2**40, pixels=100_000_000, seconds=1e9)
"""Of one's own files; an image above this is an attack or an error."""


NO_LABELS: Mapping[str, str] = {"label": "", "split": "", "group": ""}
"""Values of `ingest.columns` that look for no classes and splits, which features do not have."""
NO_TABLES = {**NO_LABELS, "file": ""}
"""The same where tables lie beside the items: they are not read, so that a damaged one does no harm."""


def _number(name: str, text: str) -> Any:
    default = getattr(Limits, name)
    try:
        number = type(default)(text)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise ConfigError(f"{PREFIX}{name.upper()}={text!r} is no limit: set it to a number above 0, such as {default}")
    return number


@dataclass(frozen=True)
class Request:
    """How a served model is asked about items of a modality.

    Attributes:
        columns: of the table, all of text. The first must be there; cells of the others may be empty.
        example: config.json of an encoder -> the cells of one item, by column.
        read: (cells of one item by column, None where one is empty; limits) -> one of what `Modality.to_inputs` takes a
            list of. Raises DataError; the message ends with what to send instead.
    """

    columns: tuple[str, ...]
    example: Callable[[Mapping[str, object]], dict[str, str]]
    read: Callable[[Mapping[str, object], Limits], object]


def file_in(cell: object) -> bytes:
    """The bytes of a file: given as they are, as Python and Parquet do, or as base64, as JSON and CSV do.

    Raises:
        DataError: neither of them.
    """
    if isinstance(cell, str):
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except ValueError as error:
            raise DataError("it is not base64: send the base64 of a file's bytes") from error
    if isinstance(cell, bytes):
        return cell
    raise DataError(f"it is {named(cell)}: send the base64 of a file's bytes")


def file_bytes(path: str | Path) -> bytes:
    """Contents of a file. Raises DataError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give the path of a file") from error


def named(cell: object) -> str:
    """What a cell holds that does not hold what it should."""
    return "empty" if cell is None else f"of the type {type(cell).__name__}"


@contextmanager
def refusing(noun: str) -> Iterator[None]:
    """What a reader rejects is refused, with what to send instead."""

    def said(reason: str) -> str:
        limit = re.search(r"\bmax_(\w+)", reason)
        return f"{reason}: " + (
            f"send another {noun}" if limit is None else f"send a smaller {noun}, or {higher(limit[1])}"
        )

    with _rejections(said):
        yield


@contextmanager
def using(name: object) -> Iterator[None]:
    """What a reader rejects cannot be used.

    Args:
        name: of the item.
    """
    with _rejections(lambda reason: f"{name} cannot be used: {reason}. Leave it out, or give another one"):
        yield


@contextmanager
def _rejections(said: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever a reader or its decoder raises into a DataError, with the reason made into a message."""
    try:
        yield
    except (D2vError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # some decoders' own errors are not Exceptions
        raise DataError(said(refusal(error))) from error


def higher(limit: str) -> str:
    """What a server's owner can do about one of the limits."""
    return f"have the server started with a higher {PREFIX}{limit.upper()}"
