"""What users send to a trained text encoder, and how it becomes the encoder's input."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.text.tokenizer import PAD, TextTokenizer, encode_items


def example_request(config: dict[str, Any]) -> np.ndarray:
    """A valid request for any text encoder: one sentence, (1,) objects of the type str."""
    return np.array(["A sentence, as it is written."], dtype=object)


def to_inputs(texts: Any, config: dict[str, Any]) -> Inputs:
    """Sentences as `<s> A </s>`, pairs as `<s> A </s> </s> B </s>`, cut to the encoder's positions.

    Args:
        texts: n strings, or n pairs of strings as (n, 2): a list or an array.
        config: the encoder's config.json: its tokenizer and number of positions.

    Returns:
        values (n, T) int64 with T the longest item's tokens, and lengths (n,) int64.

    Raises:
        DataError: anything that is not such strings.
    """
    items = np.asarray(texts, dtype=object)
    if items.ndim == 2 and items.shape[1] == 1:  # one column of a table
        items = items[:, 0]
    if not (items.ndim == 1 or (items.ndim == 2 and items.shape[1] == 2)):
        raise DataError(f"texts have the shape {items.shape}: give a list of strings, or of pairs of strings")
    wrong = [type(one).__name__ for one in items.flat if not isinstance(one, str)]
    if wrong:
        raise DataError(f"a text is of the type {wrong[0]}: give strings, or pairs of strings")
    firsts, seconds = (items, [None] * len(items)) if items.ndim == 1 else (items[:, 0], items[:, 1])
    longest = int(config["recipe"]["encoder"]["max_tokens"])
    return pad(encode_items(_tokenizer(config["tokenizer"]), list(firsts), list(seconds), longest))


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
