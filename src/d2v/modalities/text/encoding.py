"""The texts of a corpus as tokens: by threads of this process, or by the workers of a cluster. Both give the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pyarrow as pa

from d2v.data.cluster.prepare import ClusterRecords, Maker, Stored
from d2v.data.parallel import ordered_map
from d2v.data.prepared import Facts, shaping
from d2v.modalities.text.config import TextPrepareConfig
from d2v.modalities.text.packing import (
    DOCUMENT_END,
    Packing,
    Tokens,
    batches,
    encode,
    encoded,
    joined_stream,
    pieces_of,
)
from d2v.modalities.text.texts import LabelledText, Texts, joined
from d2v.modalities.text.tokenizer import TextTokenizer, encode_items
from d2v.modalities.text.tokenizer_files import TOKENIZER
from d2v.progress import Progress

DOCUMENTS, CHARACTERS, SECOND = "documents", "characters", "second"
Encoded = tuple[LabelledText, np.ndarray]
"""A sentence or a pair, and its ids (int32) with special tokens."""


@dataclass
class Count:
    """Of what was read.

    Attributes:
        documents: their number.
        characters: of all of them.
    """

    documents: int = 0
    characters: int = 0

    def of(self, documents: Iterator[str]) -> Iterator[str]:
        """Count documents while they are read."""
        for document in documents:
            self.documents += 1
            self.characters += len(document)
            yield document


class Encoding(Protocol):
    """Makes tokens of texts."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...

    def blocks(
        self, part: str, items: np.ndarray, packing: Packing, count: Count, progress: Progress
    ) -> Iterator[Tokens]:
        """Tokens of whole documents, as a packing wants them.

        Args:
            part: name of the items, another one each time.
            items: of the corpus.
            packing: name of the packing.
            count: counts them.
            progress: shows their number.
        """
        ...

    def labelled(self, part: str, items: np.ndarray, max_tokens: int) -> Iterator[Encoded]:
        """Sentences and pairs with their ids.

        Args:
            part: name of the items, another one each time.
            items: of the corpus.
            max_tokens: what is longer loses its end.
        """
        ...


class LocalEncoding:
    """See `Encoding`.

    Args:
        texts: of the corpus.
        tokenizer: theirs.
    """

    def __init__(self, texts: Texts, tokenizer: TextTokenizer) -> None:
        self.texts, self.tokenizer = texts, tokenizer

    def __enter__(self) -> LocalEncoding:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing to end."""

    def blocks(
        self, part: str, items: np.ndarray, packing: Packing, count: Count, progress: Progress
    ) -> Iterator[Tokens]:
        """See `Encoding.blocks`."""
        documents = count.of(_shown(self.texts.read(items), progress))
        return encoded(self.tokenizer, pieces_of(packing, documents))

    def labelled(self, part: str, items: np.ndarray, max_tokens: int) -> Iterator[Encoded]:
        """See `Encoding.labelled`."""
        return encode_in_threads(self.tokenizer, self.texts.known(items), max_tokens)


class ClusterEncoding:
    """See `Encoding`.

    Args:
        texts: of the corpus.
        tokenizer: theirs.
        folder: that is being prepared.
        config: of the step.
    """

    def __init__(self, texts: Texts, tokenizer: TextTokenizer, folder: Path, config: TextPrepareConfig) -> None:
        self.texts, self.files = texts, {TOKENIZER: tokenizer.to_json()}
        shapes = shaping(config) | self.files
        self._records = ClusterRecords(texts.corpus, folder, config.cluster, shapes)

    def __enter__(self) -> ClusterEncoding:
        self._records.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._records.__exit__(kind)

    def blocks(
        self, part: str, items: np.ndarray, packing: Packing, count: Count, progress: Progress
    ) -> Iterator[Tokens]:
        """See `Encoding.blocks`."""
        for record, facts in self._made(part, items, partial(documents_to_records, packing), progress):
            count.documents += facts[DOCUMENTS]
            count.characters += facts[CHARACTERS]
            yield from from_record(record)

    def labelled(self, part: str, items: np.ndarray, max_tokens: int) -> Iterator[Encoded]:
        """See `Encoding.labelled`."""
        with Progress("prepare", len(items)) as progress:
            made = self._made(part, items, partial(labelled_to_records, max_tokens), progress)
            ids = (one.ids for record, _ in made for one in from_record(record))
            yield from zip(self.texts.known(items), ids, strict=True)

    def _made(
        self, part: str, items: np.ndarray, opened: partial[Maker], progress: Progress
    ) -> Iterator[tuple[bytes, Facts]]:
        seconds = [self.texts.seconds[item] for item in items]
        known = pa.table({SECOND: pa.array(seconds, pa.string())}) if any(one is not None for one in seconds) else None
        return self._records.make(part, items, opened, self.files, known, progress)


def encoding(texts: Texts, tokenizer: TextTokenizer, folder: Path, config: TextPrepareConfig) -> Encoding:
    """That of the engine of a prepare block."""
    if config.engine == "local":
        return LocalEncoding(texts, tokenizer)
    return ClusterEncoding(texts, tokenizer, folder, config)


def encode_labelled(tokenizer: TextTokenizer, max_tokens: int, items: Sequence[LabelledText]) -> list[Encoded]:
    """Sentences and pairs with their ids."""
    firsts, seconds = [item.first for item in items], [item.second for item in items]
    return list(zip(items, encode_items(tokenizer, firsts, seconds, max_tokens), strict=True))


def encode_in_threads(tokenizer: TextTokenizer, items: Iterable[LabelledText], max_tokens: int) -> Iterator[Encoded]:
    """Sentences and pairs with their ids, in order and in constant memory."""
    for batch in ordered_map(partial(encode_labelled, tokenizer, max_tokens), batches(items)):
        yield from batch


def _shown(documents: Iterator[str], progress: Progress) -> Iterator[str]:
    for document in documents:
        yield document
        progress.advance()


# --------------------------------------------------------------------------------------------- worker


def documents_to_records(packing: Packing, folder: Path) -> Maker:
    """Makes a record of each batch of documents; see `d2v.data.cluster.prepare.OpenMaker`."""
    tokenizer = _tokenizer_in(folder)

    def make(stored: Iterator[Stored]) -> Iterator[tuple[bytes, Facts]]:
        count, told = Count(), Count()
        documents = count.of(joined(data.decode(), known.get(SECOND)) for data, known in stored)
        for batch in batches(pieces_of(packing, documents)):
            tokens = encode(tokenizer, batch)
            facts = {
                DOCUMENTS: count.documents - told.documents,
                CHARACTERS: count.characters - told.characters,
            }
            told = Count(count.documents, count.characters)
            yield to_record(joined_stream(tokens) if packing == "contiguous" else tokens), facts

    return make


def labelled_to_records(max_tokens: int, folder: Path) -> Maker:
    """Makes a record of each batch of labelled items; see `d2v.data.cluster.prepare.OpenMaker`."""
    tokenizer = _tokenizer_in(folder)

    def make(stored: Iterator[Stored]) -> Iterator[tuple[bytes, Facts]]:
        items = (LabelledText(data.decode(), known.get(SECOND)) for data, known in stored)
        for batch in batches(items):
            encoded_batch = encode_labelled(tokenizer, max_tokens, batch)
            yield to_record([Tokens(ids, DOCUMENT_END) for _, ids in encoded_batch]), {}

    return make


def _tokenizer_in(folder: Path) -> TextTokenizer:
    return TextTokenizer.from_json((folder / TOKENIZER).read_text(encoding="utf-8"))


def to_record(tokens: Sequence[Tokens]) -> bytes:
    """Pieces of documents as one record: int32 numbers, first how many, then their sizes, their ends and their ids."""
    sizes = np.array([len(ids) for ids, _ in tokens], np.int32)
    ends = np.array([end for _, end in tokens], np.int32)
    return np.concatenate([np.array([len(tokens)], np.int32), sizes, ends, *(ids for ids, _ in tokens)]).tobytes()


def from_record(record: bytes) -> Iterator[Tokens]:
    """What `to_record` wrote."""
    numbers = np.frombuffer(record, np.int32)
    count = int(numbers[0])
    sizes, ends, ids = numbers[1 : 1 + count], numbers[1 + count : 1 + 2 * count], numbers[1 + 2 * count :]
    for size, stop, end in zip(sizes.tolist(), np.cumsum(sizes).tolist(), ends.tolist(), strict=True):
        yield Tokens(ids[stop - size : stop], end)
