"""The symbols of a CTC model of transformers, from the files of its tokenizer as transformers reads them.

| file | what it says |
|---|---|
| `vocab.json` | token -> id; of a model with several languages, language -> token -> id |
| `tokenizer_config.json` | special tokens, word delimiter, lower case, language; `added_tokens_decoder` |
| `special_tokens_map.json` | names of special tokens, where `added_tokens_decoder` is missing |
| `added_tokens.json` | further token -> id, where `added_tokens_decoder` is missing |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2v.errors import DataError
from d2v.interchange.huggingface import read_json

VOCABULARY = "vocab.json"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""Special tokens of transformers' Wav2Vec2CTCTokenizer by default, in the order in which missing ones are added."""


@dataclass(frozen=True)
class CtcTokenizer:
    """What a tokenizer says about a CTC head.

    Attributes:
        tokens: by id.
        special: `bos_token`, `eos_token`, `unk_token`, `pad_token` -> the token.
        boundary: the token between words.
        lower_case: whether what is written becomes lower case.
    """

    tokens: Mapping[int, str]
    special: Mapping[str, str]
    boundary: str
    lower_case: bool = False

    def symbols(self, outputs: int) -> list[str]:
        """The token of each of a head's outputs.

        Raises:
            DataError: an output has no token, or a token that is written has no output.
        """
        missing = [number for number in range(outputs) if number not in self.tokens]
        if missing:
            raise DataError(
                f"The tokenizer has {len(self.tokens)} tokens for {outputs} outputs, and none for the outputs "
                f"{_some(missing)}: give the vocab.json and added_tokens.json that belong to this model"
            )
        beyond = [token for number, token in self.tokens.items() if number >= outputs]
        if any(token not in self.special.values() for token in beyond):
            raise DataError(
                f"The tokenizer has tokens beyond the {outputs} outputs, {_some(beyond)}: give the vocab.json that "
                "belongs to this model"
            )
        return [self.tokens[number] for number in range(outputs)]

    @property
    def pad_id(self) -> int | None:
        """Of the token that transformers leaves out when it decodes, CTC's blank."""
        return next((number for number, token in self.tokens.items() if token == self.special["pad_token"]), None)


def _some(items: list[Any]) -> str:
    return ", ".join(str(item) for item in items[:6]) + (" ..." if len(items) > 6 else "")


def read_ctc_tokenizer(folder: Path) -> CtcTokenizer | None:
    """The tokenizer of a folder of transformers; None if it has no vocab.json.

    Raises:
        CheckpointError: a file that is no JSON.
        DataError: ids that are no whole numbers or are given twice, or several languages of which none is chosen.
    """
    if not (folder / VOCABULARY).is_file():
        return None
    settings = _optional(folder / "tokenizer_config.json")
    added = settings.get("added_tokens_decoder")
    names = settings if added is not None else settings | _optional(folder / "special_tokens_map.json")
    special = {role: _content(names.get(role, default)) for role, default in SPECIAL.items()}
    tokens = _by_id(_of_language(read_json(folder / VOCABULARY), settings, folder), folder / VOCABULARY)
    if isinstance(added, Mapping):
        tokens |= {int(number): _content(token) for number, token in added.items()}
    else:
        tokens |= _by_id(_optional(folder / "added_tokens.json"), folder / "added_tokens.json")
    for token in special.values():  # as transformers does it
        if token and token not in tokens.values():
            tokens[max(tokens, default=-1) + 1] = token
    boundary = settings.get("word_delimiter_token")
    return CtcTokenizer(tokens, special, _content(boundary) or "|", bool(settings.get("do_lower_case", False)))


def _optional(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _content(token: Any) -> str:
    """A token that stands as itself, or as its settings."""
    return str(token.get("content", "")) if isinstance(token, Mapping) else "" if token is None else str(token)


def _of_language(vocabulary: dict[str, Any], settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    if not any(isinstance(value, Mapping) for value in vocabulary.values()):
        return vocabulary
    language = settings.get("target_lang")
    if language not in vocabulary:
        raise DataError(
            f"{folder / VOCABULARY} has the letters of several languages ({_some(list(vocabulary))}), and "
            f"tokenizer_config.json chooses none of them (target_lang={language!r}): set it there"
        )
    return dict(vocabulary[language])


def _by_id(tokens: Mapping[str, Any], file: Path) -> dict[int, str]:
    wrong = [token for token, number in tokens.items() if not isinstance(number, int) or isinstance(number, bool)]
    if wrong:
        raise DataError(
            f"{file} gives {wrong[0]!r} an id that is no whole number: give the file that belongs to the model"
        )
    by_id = {number: token for token, number in tokens.items()}
    if len(by_id) < len(tokens):
        twice = next(token for token, number in tokens.items() if by_id[number] != token)
        raise DataError(
            f"{file} gives the id of {twice!r} to another token too: give the file that belongs to the model"
        )
    return by_id
