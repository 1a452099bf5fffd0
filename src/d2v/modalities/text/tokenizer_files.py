"""Tokenizers from the files that people have: the tokenizers library's, GPT-2's and RoBERTa's, fairseq's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from d2v.data.lines import lines_of
from d2v.errors import DataError
from d2v.modalities.text.tokenizer import (
    BOS,
    MASK,
    SPECIALS,
    TextTokenizer,
    all_ids,
    byte_level,
    parsed,
    special,
    told_size,
)

GPT2_FILES, FAIRSEQ_FILES = ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe", "dict.txt")
TOKENIZER, MODEL = "tokenizer.json", "config.json"

Merges = Sequence[tuple[str, str]]


def load_tokenizer(path: Path | str) -> TextTokenizer:
    """A tokenizer from the files that people have.

    - `tokenizer.json`, or a folder with one: as it is if its special tokens are at our ids, wherever `<mask>` is; else
      its BPE vocabulary.
    - A model folder: its own, from `config.json`.
    - A folder with GPT-2's `vocab.json` and `merges.txt`: id = 4 + GPT-2's id, `<mask>` after them (RoBERTa's
      vocab.json already holds the special tokens, and keeps its ids), `added_tokens.json` and what
      `tokenizer_config.json` says of added tokens.
    - A folder with fairseq's `encoder.json`, `vocab.bpe` and `dict.txt`: id = 4 + line of dict.txt, whose first word
      is GPT-2's id; `<mask>` after them (50264 for the published files). Tokens without a line become `<unk>`.

    Raises:
        DataError: files are missing or damaged, or the special tokens are at other ids.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return _from_tokenizer_json(path)
    there = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    if TOKENIZER in there:
        return _from_tokenizer_json(path / TOKENIZER)
    if MODEL in there and (own := _of_model(path / MODEL)) is not None:
        return own
    for files, load in ((FAIRSEQ_FILES, _from_fairseq), (GPT2_FILES, _from_gpt2)):
        missing = [name for name in files if name not in there]
        if not missing:
            return load(path)
        if missing != list(files):
            raise DataError(
                f"The tokenizer {path} lacks {' and '.join(missing)}, beside its "
                f"{' and '.join(name for name in files if name in there)}: put all of them into the folder"
            )
    found = f"holds {', '.join(there[:8]) or 'nothing'}" if path.is_dir() else "is not there"
    raise DataError(
        f"text.prepare.tokenizer {path} {found}: give a tokenizer.json, the folder of a text model, one with "
        f"{' and '.join(GPT2_FILES)} or with {', '.join(FAIRSEQ_FILES)}, or set it to train"
    )


def own_tokenizer(file: Path) -> TextTokenizer:
    """The tokenizer of a prepared folder. Raises DataError if the file is damaged."""
    return TextTokenizer.from_json(_read(file))


def _of_model(file: Path) -> TextTokenizer | None:
    """The tokenizer that an encoder was trained with; None if the file says nothing of one."""
    try:
        text = json.loads(_read(file)).get("tokenizer")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file} is no JSON object ({error}): copy the model again") from error
    return None if text is None else TextTokenizer.from_json(str(text))


def _from_tokenizer_json(path: Path) -> TextTokenizer:
    text = _read(path)
    tokenizer, told = parsed(text, str(path)), told_size(text)
    content = json.loads(text)
    if (completed := _completed(content, tokenizer)) is not None:
        tokenizer = parsed(json.dumps(completed), str(path))
    model, reading = content["model"], json.dumps(content.get("pre_tokenizer"))
    if tokenizer.token_to_id(SPECIALS[BOS]) is None and model.get("type") == "BPE" and "ByteLevel" in reading:
        merges = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
        return _with_specials(model["vocab"], _pairs(merges, path), path)
    settings = _optional(path.with_name("tokenizer_config.json")) if path.name == TOKENIZER else {}
    if "add_prefix_space" in settings and (content.get("pre_tokenizer") or {}).get("type") == "ByteLevel":
        # transformers makes it anew with the setting of the folder
        use_regex = bool(content["pre_tokenizer"].get("use_regex", True))
        tokenizer.pre_tokenizer = ByteLevel(bool(settings["add_prefix_space"]), use_regex=use_regex)
    return TextTokenizer(tokenizer, told or all_ids(tokenizer))


def _completed(content: dict[str, Any], tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The JSON with added tokens in the vocabulary too, where the library gives them other ids than the file: it puts
    those that stand in no vocabulary behind the last token. None where all ids are the file's."""
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    moved = {token: number for token, number in added.items() if tokenizer.token_to_id(token) != number}
    vocabulary = content["model"].get("vocab")
    if not moved or not isinstance(vocabulary, dict):
        return None
    if not set(moved.values()).isdisjoint(vocabulary.values()):
        token, number = next(iter(moved.items()))
        raise DataError(
            f"The tokenizer's file gives {token!r} and other tokens the id of another, such as {number}: save it again"
        )
    return content | {"model": content["model"] | {"vocab": vocabulary | moved}}


def _from_gpt2(folder: Path) -> TextTokenizer:
    vocabulary, merges = _read_json(folder / "vocab.json"), _read_merges(folder / "merges.txt")
    settings = _optional(folder / "tokenizer_config.json")
    ids = vocabulary | _added(folder, settings)
    if SPECIALS[BOS] in ids:
        if len(set(ids.values())) < len(ids):
            raise DataError(f"The vocabulary of {folder} and its added tokens share ids: take all files from one place")
        return _assembled(ids, merges, folder, bool(settings.get("add_prefix_space", False)))
    return _with_specials(vocabulary, merges, folder)


def _added(folder: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """Tokens that a folder of transformers has beside its vocabulary, with their ids."""
    added = settings.get("added_tokens_decoder")
    if isinstance(added, Mapping):
        contents = {
            number: token.get("content") if isinstance(token, Mapping) else token for number, token in added.items()
        }
        return {str(content): int(number) for number, content in contents.items()}
    file = folder / "added_tokens.json"
    return _read_json(file) if file.is_file() else {}


def _optional(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(file)) if file.is_file() else {}
    except ValueError as error:
        raise DataError(f"{file} is no JSON object ({error}): copy it again") from error
    return content if isinstance(content, dict) else {}


def _with_specials(vocabulary: Mapping[str, int], merges: Merges, path: Path) -> TextTokenizer:
    """GPT-2's ids moved up by the four special tokens."""
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise DataError(f"The ids in the vocabulary of {path} do not count from 0 without a gap: give the whole file")
    ids = {token: number + len(SPECIALS) for token, number in vocabulary.items()}
    return _assembled({**_special_ids(), **ids, MASK: len(ids) + len(SPECIALS)}, merges, path)


def _from_fairseq(folder: Path) -> TextTokenizer:
    """The ids that fairseq's dictionary gives to the numbers of GPT-2's encoder."""
    numbers, merges = _read_json(folder / "encoder.json"), _read_merges(folder / "vocab.bpe")
    lines = [line.rsplit(" ", 1)[0] for line in lines_of(_read(folder / "dict.txt")) if line.strip()]
    tokens = {str(number): token for token, number in numbers.items()}
    ids = _special_ids() | {tokens.get(word, word): row for row, word in enumerate(lines, len(SPECIALS))}
    if len(ids) != len(SPECIALS) + len(lines) or not any(word in tokens for word in lines):
        raise DataError(
            f"{folder / 'dict.txt'} does not go with encoder.json: its lines must begin with different ids of it, "
            "such as '13 850314647'. Take all three files from the same place"
        )
    ids[MASK] = len(ids)
    for token in tokens.values():  # those without a line get ids above <mask>, which encoding turns into <unk>
        ids.setdefault(token, len(ids))
    return _assembled(ids, merges, folder, vocab_size=ids[MASK] + 1)


def _special_ids() -> dict[str, int]:
    return {name: number for number, name in enumerate(SPECIALS)}


def _assembled(
    ids: Mapping[str, int],
    merges: Merges,
    path: Path,
    prefix_space: bool = False,
    vocab_size: int | None = None,
) -> TextTokenizer:
    strange = next((token for pair in merges for token in (*pair, "".join(pair)) if token not in ids), None)
    if strange is not None:
        raise DataError(
            f"The merges of {path} make {strange!r}, which its vocabulary does not hold: take both from one place"
        )
    try:
        tokenizer = byte_level(BPE(vocab=dict(ids), merges=list(merges)), prefix_space)
    except Exception as error:  # the library raises Exception itself, of no class of its own, and TypeError
        raise DataError(f"The vocabulary and the merges of {path} do not belong together: {error}") from error
    tokenizer.add_special_tokens([special(name) for name in (*SPECIALS, MASK)])
    return TextTokenizer(tokenizer, vocab_size or all_ids(tokenizer))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): copy it again") from error


def _read_json(path: Path) -> dict[str, int]:
    try:
        content = json.loads(_read(path))
        return {str(token): int(number) for token, number in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no JSON object of tokens and their ids ({error}): copy it again") from error


def _read_merges(path: Path) -> list[tuple[str, str]]:
    lines = [line.strip() for line in _read(path).split("\n") if not line.startswith("#version")]
    return _pairs((line.split(" ") for line in lines if line), path)


def _pairs(merges: Iterable[Sequence[str]], path: Path) -> list[tuple[str, str]]:
    try:
        return [(left, right) for left, right in merges]
    except ValueError:
        raise DataError(f"{path} holds merges that are not two tokens with a space between: copy it again") from None
