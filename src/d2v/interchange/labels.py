"""Names of a head's outputs in the files of other programs: letters by symbol id, classes by class id."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2v.data.lines import lines_of
from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import FAIRSEQ_CHARACTERS, SPECIALS

NEVER = -1e4
"""Logit of a symbol that a head lacks. exp of it is 0 beside any other, in half precision too."""
LIBRISPEECH = (*SPECIALS, "|", *FAIRSEQ_CHARACTERS)
"""Symbols of the published models, by id."""
BLANKS, ENDS, UNKNOWNS = ("<s>", "<pad>", "[PAD]", "<blank>"), ("</s>", "[EOS]"), ("<unk>", "[UNK]")
_COUNTED = re.compile(r"\S+ -?\d+")
_PADDING = "madeupword"
"""fairseq fills dictionaries up with such names."""


def read_names(file: Path) -> list[str]:
    """Names in the order of their ids.

    Args:
        file: transformers' vocab.json or config.json, a JSON list, fairseq's dict.txt (`name count`), a CSV file whose
            last column has them, or a text file with a name a line.

    Raises:
        DataError: the file cannot be read, or holds no names.
    """
    try:
        text = file.read_text(encoding="utf-8")
        names = _from_json(json.loads(text)) if file.suffix == ".json" else _from_lines(text, file.suffix == ".csv")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file} holds no names ({error}): give vocab.json, dict.txt, or a file with a name a line"
        ) from error
    if not names:
        raise DataError(f"{file} is empty: give a file with a name a line")
    return names


def _from_json(content: Any) -> list[str]:
    if isinstance(content, list):
        return [str(name) for name in content]
    if "id2label" in content:
        return [str(content["id2label"][key]) for key in sorted(content["id2label"], key=int)]
    if sorted(content.values()) != list(range(len(content))):
        raise ValueError("its ids are not 0, 1, 2 ...")
    return sorted(content, key=content.__getitem__)


def _from_lines(text: str, is_csv: bool) -> list[str]:
    lines = [line for line in lines_of(text) if line.strip()]
    if is_csv:
        return [row[-1] for row in csv.reader(lines)]
    if all(_COUNTED.fullmatch(line) for line in lines):
        lines = [line.split()[0] for line in lines]
    return [line for line in lines if not line.startswith(_PADDING)]


def symbols_of(names: Sequence[str], outputs: int) -> list[str]:
    """The symbol of every output; fairseq's dictionaries leave the four specials out.

    Raises:
        DataError: there are not as many as outputs.
    """
    has_specials = not set(names).isdisjoint({*BLANKS, *ENDS, *UNKNOWNS})
    for symbols in (list(names), *([] if has_specials else [[*SPECIALS, *names]])):
        if len(symbols) == outputs:
            return symbols
    raise DataError(f"There are {len(names)} names for {outputs} outputs: give the file that belongs to this model")


def in_our_order(
    symbols: Sequence[str],
    state: Mapping[str, Tensor],
    blank: int,
    boundary: str,
    special: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """A CTC head with its outputs in the order of our vocabularies: blank, `<pad>`, `</s>`, `<unk>`, "|", letters.

    Args:
        symbols: by output.
        state: `weight` and `bias`.
        blank: the output that is CTC's blank.
        boundary: the symbol between words.
        special: `bos_token`, `eos_token`, `unk_token`, `pad_token` -> the symbol, where they have names of their own.

    Returns:
        (the letters, the new state). A symbol that the head lacks has a logit that never wins.
    """
    own = special or {}
    spare = [name for name in (own.get("bos_token"), own.get("pad_token"), *BLANKS) if name and name != symbols[blank]]
    ends, unknowns = ([own.get("eos_token"), *ENDS], [own.get("unk_token"), *UNKNOWNS])
    specials = [symbols[blank : blank + 1], spare, ends, unknowns, (boundary,)]
    known = {name for some in specials for name in some}
    rows = [next((symbols.index(name) for name in some if name in symbols), None) for some in specials]
    rows[0] = blank
    letters = [row for row, name in enumerate(symbols) if row != blank and name not in known]
    weight, bias = state["weight"], state["bias"]
    order: list[int | None] = [*rows, *letters]
    return tuple(symbols[row] for row in letters), {
        "weight": torch.stack([torch.zeros_like(weight[0]) if row is None else weight[row] for row in order]),
        "bias": torch.stack([torch.full_like(bias[0], NEVER) if row is None else bias[row] for row in order]),
    }
