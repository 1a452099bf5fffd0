"""What users send to a trained text encoder, and how it becomes the encoder's input."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.requests import Limits, Request, higher, named
from d2v.modalities.text.tokenizer import PAD, TextTokenizer, encode_items

COLUMNS = ("text", "second")


def to_inputs(texts: Any, config: dict[str, Any]) -> Inputs:
    """Sentences as `<s> A </s>`, pairs as `<s> A </s> </s> B </s>`, cut to the encoder's positions.

    Args:
        texts: n strings, pairs of strings, or some of both; a list or an array, also (n, 1) or (n, 2).
        config: the encoder's config.json: its tokenizer and number of positions.

    Returns:
        values (n, T) int64 with T the longest item's tokens, and lengths (n,) int64.

    Raises:
        DataError: anything that is not such strings, or an encoder without a tokenizer.
    """
    if "tokenizer" not in config:
        raise DataError("the model has no tokenizer: import it again with --tokenizer, or load it with tokenizer=")
    items = texts.tolist() if isinstance(texts, np.ndarray) else texts
    if not isinstance(items, list | tuple):
        raise DataError("texts have the shape (): give a list of strings, or of pairs of strings")
    pairs = [_pair(item) for item in items]
    longest = int(config["recipe"]["encoder"]["max_tokens"])
    firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
    return pad(encode_items(_tokenizer(config["tokenizer"]), firsts, seconds, longest))


def _pair(item: Any) -> tuple[str, str | None]:
    parts = list(item) if isinstance(item, list | tuple | np.ndarray) else [item]
    if len(parts) not in (1, 2):
        raise DataError(f"an item has the shape ({len(parts)},): give a string, or a pair of strings")
    for part in parts:
        if not isinstance(part, str):
            raise DataError(f"a text is of the type {type(part).__name__}: give strings, or pairs of strings")
    return parts[0], parts[1] if len(parts) == 2 else None


def pad(items: list[np.ndarray]) -> Inputs:
    """Ids of items side by side, filled up with `<pad>` to the longest."""
    lengths = [len(ids) for ids in items]
    values = np.full((len(items), max(lengths, default=0)), PAD, dtype=np.int64)
    for row, ids in zip(values, items, strict=True):
        row[: len(ids)] = ids
    return Inputs(torch.from_numpy(values), torch.tensor(lengths, dtype=torch.int64))


@functools.lru_cache(maxsize=4)
def _tokenizer(text: str) -> TextTokenizer:
    return TextTokenizer.from_json(text)


def _read(cells: Mapping[str, Any], limits: Limits) -> str | tuple[str, str]:
    """A string, or a pair where there is a second."""
    texts = [_text(column, cells.get(column)) for column in COLUMNS[: 1 if cells.get(COLUMNS[1]) is None else 2]]
    characters = sum(len(text) for text in texts)
    if characters > limits.characters:
        raise DataError(
            f"it has {characters:,} characters, above max_characters {limits.characters:,}: send a shorter text, or "
            f"{higher('characters')}"
        )
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _text(column: str, cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    raise DataError(f"its {column} is {named(cell)}: send a string")


def _example(config: dict[str, Any]) -> dict[str, str]:
    return {COLUMNS[0]: "A sentence, as it is written."}


REQUEST = Request(COLUMNS, _example, _read)
"""Texts, or pairs of them."""
