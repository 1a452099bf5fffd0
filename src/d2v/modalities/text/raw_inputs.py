"""Texts as people have them, and how they become an encoder's input: strings and pairs, requests, exports, and the
tokenizers of encoders from elsewhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers.processors import TemplateProcessing

from d2v.data.batch import Inputs
from d2v.data.ingest import Record
from d2v.errors import DataError
from d2v.modalities.base import Foreign, Preprocessing, encoder_block
from d2v.modalities.requests import Limits, Request, higher, named, using
from d2v.modalities.text.config import TextEncoderConfig, TextIngestConfig
from d2v.modalities.text.reading import as_stored, read_document
from d2v.modalities.text.tokenizer import BOS, EOS, MASK, PAD, SPECIALS, TextTokenizer, encode_pairs, laid_out, parsed
from d2v.modalities.text.tokenizer_files import FAIRSEQ_FILES, GPT2_FILES, TOKENIZER, load_tokenizer

COLUMNS = ("text", "second")


def is_item(given: object) -> bool:
    """A string, the bytes of a text file, or a pair (a tuple) of strings."""
    return isinstance(given, str | bytes) or (
        isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)
    )


def read_item(item: object) -> object:
    """Bytes as ingest would read a file of them; a string or a pair as it is, for `to_inputs` checks it.

    Raises:
        DataError: bytes that are no text.
    """
    if not isinstance(item, bytes):
        return item
    with using("a text"):
        return from_record(read_document(item, TextIngestConfig(source="")))


def from_record(record: Record) -> str | tuple[str, str]:
    """A text, or a pair, from what ingest stores of it."""
    text = record.data.decode()
    return (text, record.texts["second"]) if "second" in record.texts else text


def to_inputs(texts: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """Sentences as `<s> A </s>`, pairs as `<s> A </s> </s> B </s>`, cut to the encoder's positions.

    Args:
        texts: n strings, pairs of strings, or some of both; a list or an array, also (n, 1) or (n, 2).
        about: the encoder's config.json: its tokenizer and number of positions.

    Returns:
        values (n, T) int64 with T the longest item's tokens, lengths (n,) int64, and how many tokens are cut off.

    Raises:
        DataError: anything that is not such strings, half of a surrogate pair, or an encoder without a tokenizer.
    """
    import torch

    pairs, longest = _encoded(texts, about), encoder_block(about, TextEncoderConfig).max_tokens
    inputs = pad([laid_out(*pair, longest) for pair in pairs])
    whole = torch.tensor([_num_tokens(*pair) for pair in pairs], dtype=torch.int64)
    return replace(inputs, cut_off=(whole - longest).clamp(min=0))


def to_windows(texts: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """The same with nothing cut off: a text of too many tokens is several rows `<s> A </s>`, one after the other and
    without overlap; all but the last are as long as the encoder takes.

    Raises:
        DataError: also a pair that is too long.
    """
    import torch

    longest = encoder_block(about, TextEncoderConfig).max_tokens
    room, rows, owners = max(longest - 2, 1), list[np.ndarray](), list[int]()
    for number, (head, tail) in enumerate(_encoded(texts, about)):
        if tail is not None and _num_tokens(head, tail) > longest:
            raise DataError(
                f"a pair has {_num_tokens(head, tail):,} tokens, {longest:,} fit, and a pair cannot be cut into "
                'windows: give shorter texts, or long="cut"'
            )
        parts = [head[start : start + room] for start in range(0, max(len(head), 1), room)] if tail is None else [head]
        rows += [laid_out(part, tail, longest) for part in parts]
        owners += [number] * len(parts)
    return replace(pad(rows), owners=torch.tensor(owners, dtype=torch.int64))


def _encoded(
    texts: np.ndarray | Sequence[object], about: Mapping[str, object]
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Ids of whole texts and pairs."""
    if "tokenizer" not in about:
        raise DataError("the model has no tokenizer: import it again with --tokenizer, or load it with tokenizer=")
    items = texts.tolist() if isinstance(texts, np.ndarray) else texts
    if not isinstance(items, list | tuple):
        raise DataError("texts have the shape (): give a list of strings, or of pairs of strings")
    pairs = [_pair(item) for item in items]
    return encode_pairs(_tokenizer(str(about["tokenizer"])), [one for one, _ in pairs], [two for _, two in pairs])


def _num_tokens(head: np.ndarray, tail: np.ndarray | None) -> int:
    return len(head) + 2 if tail is None else len(head) + len(tail) + 4


def _pair(item: object) -> tuple[str, str | None]:
    parts = list(item) if isinstance(item, list | tuple | np.ndarray) else [item]
    if len(parts) not in (1, 2):
        raise DataError(f"an item has the shape ({len(parts)},): give a string, or a pair of strings")
    texts = [_checked(part) for part in parts]
    return texts[0], texts[1] if len(texts) == 2 else None


def _checked(part: object) -> str:
    """A text as ingest stores it."""
    if not isinstance(part, str):
        raise DataError(f"a text is of the type {type(part).__name__}: give strings, or pairs of strings")
    try:
        part.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a text has half of a surrogate pair, U+{ord(part[error.start]):04X} at character {error.start:,}: give "
            "whole characters, or replace it by U+FFFD"
        ) from None
    return as_stored(part)


def pad(items: list[np.ndarray]) -> Inputs:
    """Ids of items side by side, filled up with `<pad>` to the longest."""
    import torch

    lengths = [len(ids) for ids in items]
    values = np.full((len(items), max(lengths, default=0)), PAD, dtype=np.int64)
    for row, ids in zip(values, items, strict=True):
        row[: len(ids)] = ids
    return Inputs(torch.from_numpy(values), torch.tensor(lengths, dtype=torch.int64))


@functools.lru_cache(maxsize=4)
def _tokenizer(text: str) -> TextTokenizer:
    return TextTokenizer.from_json(text)


def _read(cells: Mapping[str, object], limits: Limits) -> str | tuple[str, str]:
    """A string, or a pair where there is a second."""
    texts = [_text(column, cells.get(column)) for column in COLUMNS[: 1 if cells.get(COLUMNS[1]) is None else 2]]
    characters = sum(len(text) for text in texts)
    if characters > limits.characters:
        raise DataError(
            f"it has {characters:,} characters, above max_characters {limits.characters:,}: send a shorter text, or "
            f"{higher('characters')}"
        )
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


def _text(column: str, cell: object) -> str:
    if not isinstance(cell, str):
        raise DataError(f"its {column} is {named(cell)}: send a string")
    if any("\ud800" <= letter <= "\udfff" for letter in cell):
        raise DataError(f"its {column} has half of a surrogate pair: send whole characters")
    return cell


def _example(about: Mapping[str, object]) -> dict[str, str]:
    return {COLUMNS[0]: "A sentence, as it is written."}


REQUEST = Request(COLUMNS, _example, _read)
"""Texts, or pairs of them."""


def preprocessing(about: Mapping[str, object]) -> Preprocessing:
    """transformers' tokenizer that makes the same inputs: ours with what d2v adds around its ids, `<s> A </s>`, pairs
    `<s> A </s> </s> B </s>`."""
    if "tokenizer" not in about:
        return Preprocessing(notes=("the model folder has no tokenizer: feed token ids laid out as RoBERTa's",))
    tokenizer = parsed(str(about["tokenizer"]), "the model's tokenizer")
    begin, pad, end, unknown = SPECIALS
    tokenizer.post_processor = TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, BOS), (end, EOS)],
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": encoder_block(about, TextEncoderConfig).max_tokens,
        "padding_side": "right",
        "bos_token": begin,
        "cls_token": begin,
        "eos_token": end,
        "sep_token": end,
        "pad_token": pad,
        "unk_token": unknown,
        "mask_token": MASK,
    }
    files = {
        "tokenizer.json": tokenizer.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }
    return Preprocessing(files)


def foreign_tokenizer(source: Foreign, rows: int) -> tuple[dict[str, object], tuple[str, ...]]:
    """The tokenizer of an encoder of others as config.json has it, and notes.

    Args:
        source: the tokenizer that the user gave is taken first, then the folder's.
        rows: of the encoder's table.

    Raises:
        DataError: the tokenizer given cannot be read, or has more ids than the table rows.
    """
    if source.tokenizer is not None:
        return _about_tokenizer(source.tokenizer, rows), ()
    files = {file.name for file in source.path.iterdir()} if source.path.is_dir() else set()
    if not any(set(names) <= files for names in ((TOKENIZER,), GPT2_FILES, FAIRSEQ_FILES)):
        return {}, ("the source holds no tokenizer: give --tokenizer to feed the encoder with text",)
    try:
        return _about_tokenizer(source.path, rows), ()
    except DataError as error:
        return {}, (f"the source's tokenizer is left out: {error}",)


def _about_tokenizer(path: Path, rows: int) -> dict[str, object]:
    """Raises DataError if the tokenizer has more ids than the table rows, or arranges texts in another way."""
    tokenizer = load_tokenizer(path)
    if tokenizer.vocab_size > rows == tokenizer.mask_id + 1:  # tokens that the encoder's dictionary leaves out
        tokenizer = tokenizer.cut_to(rows)
    if tokenizer.vocab_size > rows:
        raise DataError(
            f"The tokenizer {path} has {tokenizer.vocab_size} ids, and the encoder's table {rows} rows: give the "
            "tokenizer that the encoder was trained with"
        )
    other = tokenizer.other_arrangement()
    if other:
        raise DataError(
            f"The tokenizer {path} arranges two texts as {other}, and here every encoder reads <s> A </s> </s> B </s>: "
            "give --tokenizer with one that does"
        )
    return {"tokenizer": tokenizer.to_json(), "vocab_size": tokenizer.vocab_size}
