"""The prepare step for text: from a corpus to blocks of token ids, a probe set and labelled items.

A prepared folder holds `tokenizer.json`, the shards `train/`, `test/`, `probe_train/`, `probe_test/`,
`labelled_train/`, `labelled_val/`, `labelled_test/`, `items.parquet` of the labelled items and, written last,
`prepared.json`. A row is `tokens` (a fixed number of ids, uint16 or int32, little endian, filled up with `<pad>`) and
`length`; rows of the probe also have `label` and `text`. Every
block begins with `<s>`. Labelled items, for fine-tuning, are all that the corpus has, at their own lengths: `tokens`,
`label`, `score` (float64) and `text`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d2v.data import fingerprint
from d2v.data.prepared import SHARD_BYTES, Corpus, bring_up_to_date, probe_rows, shaping, write_items
from d2v.data.store import ShardWriter
from d2v.errors import DataError
from d2v.modalities.text import acceptability
from d2v.modalities.text.config import TextPrepareConfig
from d2v.modalities.text.encoding import (
    Count,
    Encoded,
    Encoding,
    encode_in_threads,
    encode_labelled,
    encoding,
)
from d2v.modalities.text.packing import PACKINGS, Tokens
from d2v.modalities.text.pairs import pack_pairs
from d2v.modalities.text.texts import LabelledText, Texts
from d2v.modalities.text.tokenizer import BOS, PAD, TextTokenizer, train_tokenizer
from d2v.modalities.text.tokenizer_files import TOKENIZER, load_tokenizer
from d2v.progress import Progress, log

PROBE_FOLDERS = {"train": "probe_train", "test": "probe_test"}
LABELLED_SCHEMA = pa.schema(
    [("tokens", pa.large_binary()), ("label", pa.int64()), ("score", pa.float64()), ("text", pa.string())]
)
IS_NEXT = "is_next"  # column of pairs: whether the second run follows the first
FEWEST_TOKENS = 8  # of a block with its <s>: shorter ones are left out
TRAINING_CHARACTERS = 300_000_000  # from which a tokenizer is trained, in memory as a table of their words


def prepare(config: TextPrepareConfig, corpus: Path, out: Path) -> dict[str, Any]:
    """Bring `out` up to date with a corpus; unchanged corpus, parameters and tokenizer are a quick check.

    Returns:
        The contents of `prepared.json`.

    Raises:
        DataError: there is no finished corpus, no such tokenizer, nothing to train on, or the disk is full.
    """
    tokenizer = None if config.tokenizer == "train" else load_tokenizer(config.tokenizer)
    parameters = shaping(config)
    if tokenizer:
        parameters |= {"tokenizer": fingerprint.of_values(tokenizer.to_json()), "vocab_size": None}
    build = partial(_build, config=config, tokenizer=tokenizer)
    return bring_up_to_date(corpus, out, parameters, build, _summary)


def _summary(about: Mapping[str, Any]) -> str:
    return (
        f"{about['train_items']:,} train and {about['test_items']:,} test blocks of {about['block_tokens']} tokens, "
        f"{about['vocab_size']:,} types, {about['characters_per_token']:.2f} characters per token, "
        f"probe: {about['probe']}, {about['labelled'].get('train', 0):,} labelled train items"
    )


def _build(corpus: Corpus, folder: Path, config: TextPrepareConfig, tokenizer: TextTokenizer | None) -> dict[str, Any]:
    texts = Texts(corpus)
    if tokenizer is None:
        log(f"prepare: training a tokenizer of {config.vocab_size:,} types")
        sample = texts.sample(texts.parts["train"], TRAINING_CHARACTERS, config.seed)
        tokenizer = train_tokenizer(sample, config.vocab_size)
    (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")
    about: dict[str, Any] = {
        "source": corpus.source,
        "tokenizer": config.tokenizer,
        "vocab_size": tokenizer.vocab_size,
        "packing": config.packing,
        "block_tokens": config.block_tokens,
        "probe_max_tokens": config.probe_max_tokens,
        "token_type": token_type(tokenizer.vocab_size),
    }
    with encoding(texts, tokenizer, folder, config) as encoder:
        return about | _write_parts(texts, folder, encoder, tokenizer, config)


def _write_parts(
    texts: Texts, folder: Path, encoder: Encoding, tokenizer: TextTokenizer, config: TextPrepareConfig
) -> dict[str, Any]:
    """Blocks, probe and labelled items; what prepared.json says of them."""
    about: dict[str, Any] = {}
    with Progress("prepare", sum(len(items) for items in texts.parts.values())) as progress:
        for part, items in texts.parts.items():
            count = Count()
            tokens = encoder.blocks(part, items, config.packing, count, progress)
            blocks = _write_blocks(folder / part, _packed(tokens, config), tokenizer, config)
            about |= {f"{part}_{name}": value for name, value in (blocks | vars(count)).items()}
    about["characters_per_token"] = about["train_characters"] / max(about["train_tokens"], 1)
    names, kind, probe = _find_probe(texts, config)
    about |= {"probe": kind, "class_names": names, **_write_probe(folder, probe, tokenizer, config)}
    longest = config.labelled_max_tokens or config.block_tokens
    if kind == "labels":
        parts = texts.labelled()
        write_items(folder, texts.corpus, {labelled_folder(part): items for part, items in parts.items()})
        found = {name: encoder.labelled(labelled_folder(name), items, longest) for name, items in parts.items()}
    else:
        found = {part: encode_in_threads(tokenizer, items, longest) for part, items in probe.items()}
    about |= _write_labelled(folder, found, tokenizer)
    if not about["train_items"] and not about["labelled"]["train"]:
        raise DataError(
            f"The train part of {texts.corpus.source} gives no block of {FEWEST_TOKENS} tokens: ingest more text"
            + (", or set text.prepare.packing=contiguous" if config.packing == "documents" else "")
        )
    return about


def labelled_folder(part: str) -> str:
    """Folder of a part's labelled items."""
    return f"labelled_{part}"


def token_type(vocab_size: int) -> str:
    """NumPy's name of the type that ids are stored in."""
    return "<u2" if vocab_size <= 2**16 else "<i4"


# --------------------------------------------------------------------------------------------- blocks


def _write_blocks(
    folder: Path,
    packed: Iterable[tuple[np.ndarray, dict[str, int]]],
    tokenizer: TextTokenizer,
    config: TextPrepareConfig,
) -> dict[str, int]:
    """All blocks of a part; their number and that of their tokens."""
    more = ((IS_NEXT, pa.int64()),) if config.packing == "pairs" else ()
    writer = _writer(folder, config.block_tokens, tokenizer, *more)
    blocks = tokens = 0
    for block, said in packed:
        if len(block) + 1 >= FEWEST_TOKENS:
            row = np.concatenate([np.array([BOS], np.int32), block])
            writer.append(_row(row, config.block_tokens, tokenizer) | said)
            blocks, tokens = blocks + 1, tokens + len(row)
    writer.flush()
    return {"items": blocks, "tokens": tokens}


def _packed(stream: Iterable[Tokens], config: TextPrepareConfig) -> Iterator[tuple[np.ndarray, dict[str, int]]]:
    """Blocks without their `<s>`, and what is said of each beside its tokens."""
    room = config.block_tokens - 1
    if config.packing == "pairs":
        for ids, is_next in pack_pairs(stream, room, config.seed):
            yield ids, {IS_NEXT: int(is_next)}
        return
    _, pack = PACKINGS[config.packing]
    for block in pack(stream, room):
        yield block, {}


def _writer(folder: Path, row_tokens: int, tokenizer: TextTokenizer, *more: tuple[str, Any]) -> ShardWriter:
    width = row_tokens * np.dtype(token_type(tokenizer.vocab_size)).itemsize
    schema = pa.schema([("tokens", pa.binary(width)), ("length", pa.int64()), *more])
    return ShardWriter(folder, schema, SHARD_BYTES)


def _row(ids: np.ndarray, row_tokens: int, tokenizer: TextTokenizer) -> dict[str, Any]:
    padded = np.full(row_tokens, PAD, dtype=token_type(tokenizer.vocab_size))
    padded[: len(ids)] = ids
    return {"tokens": padded.tobytes(), "length": len(ids)}


# ---------------------------------------------------------------------------------------------- probe

_Items = Mapping[str, Sequence[LabelledText]]
"""Items of "train" and of "test"."""


def _write_probe(folder: Path, probe: _Items, tokenizer: TextTokenizer, config: TextPrepareConfig) -> dict[str, int]:
    """Store the probe's items; their counts under their names in prepared.json."""
    longest = config.probe_max_tokens
    for part, items in probe.items():
        more = (("label", pa.int64()), ("text", pa.string()))
        writer = _writer(folder / PROBE_FOLDERS[part], longest, tokenizer, *more)
        for item, ids in encode_labelled(tokenizer, longest, items):
            writer.append(_row(ids, longest, tokenizer) | {"label": item.label, "text": item.text})
        writer.flush()
    return {f"{PROBE_FOLDERS[part]}_items": len(items) for part, items in probe.items()}


def _find_probe(texts: Texts, config: TextPrepareConfig) -> tuple[list[str], str, _Items]:
    """Class names, kind and items of the probe that the configuration asks for."""
    names, _ = texts.classes
    if config.probe == "labels" and not names:
        raise DataError(
            f"The corpus of {texts.corpus.source} has no labels to probe with: set text.prepare.probe=acceptability, "
            "or text.ingest.label_field to the field that holds them"
        )
    if names and config.probe != "acceptability":
        return names, "labels", _labelled(texts, config)
    probe = _sentences(texts, config)
    if all(len({item.label for item in items}) == 2 for items in probe.values()):
        return list(acceptability.CLASS_NAMES), "acceptability", probe
    few = f"train or test documents of {texts.corpus.source} hold fewer than two sentences for the acceptability probe"
    if config.probe == "acceptability":
        raise DataError(f"The {few}: set text.prepare.probe=auto to do without, or text.ingest.test_fraction higher")
    log(f"prepare: the {few}; there will be no probe")
    return [], "none", {part: [] for part in PROBE_FOLDERS}


def _labelled(texts: Texts, config: TextPrepareConfig) -> _Items:
    """A few of the corpus's labelled items, of every class as many as of the others if there are enough."""
    _, labels = texts.classes
    counts = {"train": config.probe_train_items, "test": config.probe_test_items}
    rows = probe_rows({part: labels[items] for part, items in texts.parts.items()}, counts, config.seed)
    chosen = {part: texts.parts[part][np.array(some, dtype=np.int64)] for part, some in rows.items()}
    return {part: list(texts.known(items)) for part, items in chosen.items()}


def _sentences(texts: Texts, config: TextPrepareConfig) -> _Items:
    """Sentences of train documents and of test documents, none in both."""
    drawn: dict[str, list[str]] = {}
    for part, count in (("test", config.probe_test_items), ("train", config.probe_train_items)):
        documents = texts.shuffled(texts.parts[part], config.seed)
        drawn[part] = acceptability.draw_sentences(documents, count, config.seed, without=drawn.get("test", ()))
    items = {part: zip(*acceptability.as_items(drawn[part], config.seed), strict=True) for part in PROBE_FOLDERS}
    return {part: [LabelledText(text, label=int(label)) for text, label in some] for part, some in items.items()}


# ------------------------------------------------------------------------------------------- labelled


def _write_labelled(folder: Path, parts: Mapping[str, Iterable[Encoded]], tokenizer: TextTokenizer) -> dict[str, Any]:
    """Store all labelled items; what prepared.json says of them: how many each part has, and tokens of the longest."""
    longest = 0
    counts = dict.fromkeys(parts, 0)
    for part, items in parts.items():
        writer = ShardWriter(folder / labelled_folder(part), LABELLED_SCHEMA, SHARD_BYTES)
        for item, ids in items:
            tokens = ids.astype(token_type(tokenizer.vocab_size)).tobytes()
            text = item.text.encode()  # bytes, which the writer counts
            writer.append({"tokens": tokens, "label": item.label, "score": item.score, "text": text})
            longest = max(longest, len(ids))
            counts[part] += 1
        writer.flush()
    return {"labelled": counts, "labelled_tokens": longest}
