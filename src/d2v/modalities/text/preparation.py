"""The prepare step for text: from a corpus to blocks of token ids and a probe set.

A prepared folder holds `tokenizer.json`, the shards `train/`, `test/`, `probe_train/`, `probe_test/` and, written last,
`prepared.json`. A row is `tokens` (a fixed number of ids, uint16 or int32, little endian, filled up with `<pad>`) and
`length`; rows of the probe also have `label` and `text`. Every block begins with `<s>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from d2v.data import fingerprint
from d2v.data.prepared import SHARD_BYTES, Corpus, bring_up_to_date, probe_rows
from d2v.data.store import ShardWriter
from d2v.errors import DataError
from d2v.modalities.text import acceptability
from d2v.modalities.text.config import TextPrepareConfig
from d2v.modalities.text.packing import PACKINGS, encoded
from d2v.modalities.text.tokenizer import BOS, PAD, TextTokenizer, encode_items, train_tokenizer
from d2v.modalities.text.tokenizer_files import TOKENIZER, load_tokenizer
from d2v.progress import Progress, say

PROBE_FOLDERS = {"train": "probe_train", "test": "probe_test"}
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
    parameters = config.model_dump()
    if tokenizer:
        parameters |= {"tokenizer": fingerprint.of_values(tokenizer.to_json()), "vocab_size": None}
    build = partial(_build, config=config, tokenizer=tokenizer)
    return bring_up_to_date(corpus, out, parameters, build, _summary)


def _summary(about: Mapping[str, Any]) -> str:
    return (
        f"{about['train_items']:,} train and {about['test_items']:,} test blocks of {about['block_tokens']} tokens, "
        f"{about['vocab_size']:,} types, {about['characters_per_token']:.2f} characters per token, "
        f"probe: {about['probe']}"
    )


def _build(corpus: Corpus, folder: Path, config: TextPrepareConfig, tokenizer: TextTokenizer | None) -> dict[str, Any]:
    texts = _Texts(corpus)
    if tokenizer is None:
        say(f"prepare: training a tokenizer of {config.vocab_size:,} types")
        tokenizer = train_tokenizer(texts.sample(texts.parts["train"], config.seed), config.vocab_size)
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
    with Progress("prepare", sum(len(items) for items in texts.parts.values())) as progress:
        for part, items in texts.parts.items():
            documents = _counted(texts.read(items), progress)
            about |= _write_blocks(folder / part, documents, tokenizer, config, part)
    about["characters_per_token"] = about["train_characters"] / max(about["train_tokens"], 1)
    if not about["train_items"]:
        raise DataError(
            f"The train part of {corpus.source} gives no block of {FEWEST_TOKENS} tokens: ingest more text"
            + (", or set text.prepare.packing=contiguous" if config.packing == "documents" else "")
        )
    return about | _write_probe(folder, texts, tokenizer, config)


def token_type(vocab_size: int) -> str:
    """NumPy's name of the type that ids are stored in."""
    return "<u2" if vocab_size <= 2**16 else "<i4"


class _Texts:
    """The documents of a corpus as text; of a pair, one sentence after the other."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.parts = corpus, corpus.parts("documents")
        self.seconds = corpus.column("second")

    def read(self, items: Sequence[int] | np.ndarray) -> Iterator[str]:
        for item, (first, second) in zip(items, self.pairs(items), strict=True):
            yield first if second is None else f"{first}\n{self.seconds[item]}"

    def pairs(self, items: Sequence[int] | np.ndarray) -> Iterator[tuple[str, str | None]]:
        for item, data in zip(items, self.corpus.data(items), strict=True):
            yield data.decode(), self.seconds[item]

    def shuffled(self, items: np.ndarray, seed: int) -> Iterator[str]:
        """The documents in an order of chance, read one by one."""
        random = np.random.Generator(np.random.Philox(key=[seed, 1]))
        yield from self.read(random.permutation(items))

    def sample(self, items: np.ndarray, seed: int) -> Iterator[str]:
        """As many of them as a tokenizer is trained on; all of them, in their order, if they are that few."""
        characters = self.corpus.integers("characters")[items]
        if characters.sum() <= TRAINING_CHARACTERS:
            yield from self.read(items)
            return
        read = 0
        for text in self.shuffled(items, seed):
            yield text[: TRAINING_CHARACTERS - read]
            read += len(text)
            if read >= TRAINING_CHARACTERS:
                return


def _counted(documents: Iterable[str], progress: Progress) -> Iterator[str]:
    for document in documents:
        yield document
        progress.advance()


# --------------------------------------------------------------------------------------------- blocks


def _write_blocks(
    folder: Path, documents: Iterable[str], tokenizer: TextTokenizer, config: TextPrepareConfig, part: str
) -> dict[str, int]:
    """All blocks of a part; its counts under their names in prepared.json."""
    count = {"documents": 0, "characters": 0}

    def counted() -> Iterator[str]:
        for document in documents:
            count["documents"] += 1
            count["characters"] += len(document)
            yield document

    split, pack = PACKINGS[config.packing]
    writer = _writer(folder, config.block_tokens, tokenizer)
    blocks = tokens = 0
    for block in pack(encoded(tokenizer, split(counted())), config.block_tokens - 1):
        if len(block) + 1 >= FEWEST_TOKENS:
            row = np.concatenate([np.array([BOS], np.int32), block])
            writer.append(_row(row, config.block_tokens, tokenizer))
            blocks, tokens = blocks + 1, tokens + len(row)
    writer.flush()
    return {f"{part}_items": blocks, f"{part}_tokens": tokens} | {f"{part}_{name}": n for name, n in count.items()}


def _writer(folder: Path, row_tokens: int, tokenizer: TextTokenizer, *more: tuple[str, Any]) -> ShardWriter:
    width = row_tokens * np.dtype(token_type(tokenizer.vocab_size)).itemsize
    schema = pa.schema([("tokens", pa.binary(width)), ("length", pa.int64()), *more])
    return ShardWriter(folder, schema, SHARD_BYTES)


def _row(ids: np.ndarray, row_tokens: int, tokenizer: TextTokenizer) -> dict[str, Any]:
    padded = np.full(row_tokens, PAD, dtype=token_type(tokenizer.vocab_size))
    padded[: len(ids)] = ids
    return {"tokens": padded.tobytes(), "length": len(ids)}


# ---------------------------------------------------------------------------------------------- probe


class _Probe(NamedTuple):
    """Items of one part of the probe: first sentences, second ones or None, class ids."""

    firsts: list[str]
    seconds: list[str | None]
    labels: np.ndarray


def _write_probe(folder: Path, texts: _Texts, tokenizer: TextTokenizer, config: TextPrepareConfig) -> dict[str, Any]:
    """Store the probe's items; what prepared.json says about them."""
    names, kind, probes = _find_probe(texts, config)
    for part, probe in probes.items():
        more = (("label", pa.int64()), ("text", pa.string()))
        writer = _writer(folder / PROBE_FOLDERS[part], config.probe_max_tokens, tokenizer, *more)
        items = encode_items(tokenizer, probe.firsts, probe.seconds, config.probe_max_tokens)
        for ids, first, second, label in zip(items, probe.firsts, probe.seconds, probe.labels, strict=True):
            text = first if second is None else f"{first}\n{second}"
            writer.append(_row(ids, config.probe_max_tokens, tokenizer) | {"label": int(label), "text": text})
        writer.flush()
    sizes = {f"{PROBE_FOLDERS[part]}_items": len(probe.firsts) for part, probe in probes.items()}
    return {"probe": kind, "class_names": names, **sizes}


def _find_probe(texts: _Texts, config: TextPrepareConfig) -> tuple[list[str], str, dict[str, _Probe]]:
    """Class names, kind and items of the probe that the configuration asks for."""
    names, labels = texts.corpus.classes()
    if config.probe == "labels" and not names:
        raise DataError(
            f"The corpus of {texts.corpus.source} has no labels to probe with: set text.prepare.probe=acceptability, "
            "or text.ingest.label_field to the field that holds them"
        )
    if names and config.probe != "acceptability":
        return names, "labels", _labelled(texts, labels, config)
    probes = _sentences(texts, config)
    if all(len(set(probe.labels.tolist())) == 2 for probe in probes.values()):
        return list(acceptability.CLASS_NAMES), "acceptability", probes
    few = f"train or test documents of {texts.corpus.source} hold fewer than two sentences for the acceptability probe"
    if config.probe == "acceptability":
        raise DataError(f"The {few}: set text.prepare.probe=auto to do without, or text.ingest.test_fraction higher")
    say(f"prepare: the {few}; there will be no probe")
    return [], "none", {part: _Probe([], [], np.zeros(0, np.int64)) for part in PROBE_FOLDERS}


def _labelled(texts: _Texts, labels: np.ndarray, config: TextPrepareConfig) -> dict[str, _Probe]:
    counts = {"train": config.probe_train_items, "test": config.probe_test_items}
    rows = probe_rows({part: labels[items] for part, items in texts.parts.items()}, counts, config.seed)
    probes = {}
    for part, chosen in rows.items():
        items = texts.parts[part][np.array(chosen, dtype=np.int64)]
        pairs = list(texts.pairs(items))
        probes[part] = _Probe([first for first, _ in pairs], [second for _, second in pairs], labels[items])
    return probes


def _sentences(texts: _Texts, config: TextPrepareConfig) -> dict[str, _Probe]:
    """Sentences of train documents and of test documents, none in both."""
    drawn: dict[str, list[str]] = {}
    for part, count in (("test", config.probe_test_items), ("train", config.probe_train_items)):
        documents = texts.shuffled(texts.parts[part], config.seed)
        drawn[part] = acceptability.draw_sentences(documents, count, config.seed, without=drawn.get("test", ()))
    probes = {}
    for part in PROBE_FOLDERS:
        items, labels = acceptability.as_items(drawn[part], config.seed)
        probes[part] = _Probe(items, [None] * len(items), labels)
    return probes
