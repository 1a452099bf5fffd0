"""From documents to tokens, and from tokens to blocks: the ways to fill them.

`contiguous` (data2vec 2.0; fairseq calls it none): the stream of all documents, each with `</s>` behind it, is cut
everywhere alike. `documents` (data2vec 1.0; fairseq's complete_doc): whole lines of one document, each with `</s>`
behind it. `sentences` (RoBERTa; fairseq's complete): whole lines across documents, with one more `</s>` between them.
`pairs` (BERT): see `pairs`. The `<s>` before every block is not in what is packed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from d2v.data.parallel import ordered_map
from d2v.modalities.text.tokenizer import EOS, TextTokenizer, cut

BATCH_CHARACTERS = 500_000  # encoded at a time, by each core
GOES_ON, LINE_END, DOCUMENT_END = range(3)


class Piece(NamedTuple):
    """Part of a document on its way to tokens, and what ends with it."""

    text: str
    end: int


class Tokens(NamedTuple):
    """The ids (int32) of a piece."""

    ids: np.ndarray
    end: int


def encoded(tokenizer: TextTokenizer, pieces: Iterable[Piece]) -> Iterator[Tokens]:
    """Pieces to tokens in order, with all cores and in constant memory."""
    for batch in ordered_map(partial(encode, tokenizer), batches(pieces)):
        yield from batch


def encode(tokenizer: TextTokenizer, batch: Sequence[Piece]) -> list[Tokens]:
    """Tokens of some pieces."""
    ids = tokenizer.encode_batch([piece.text for piece in batch])
    return [Tokens(one, piece.end) for one, piece in zip(ids, batch, strict=True)]


class _HasText(Protocol):
    @property
    def text(self) -> str: ...


Item = TypeVar("Item", bound=_HasText)


def batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """As many items as are encoded at a time."""
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item.text) + 1
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _whole(documents: Iterable[str]) -> Iterator[Piece]:
    for document in documents:
        yield from _ended(document, DOCUMENT_END)


def lines_of_documents(documents: Iterable[str]) -> Iterator[Piece]:
    """The lines of documents that hold something."""
    for document in documents:
        for line in document.split("\n"):
            if line.strip():
                yield from _ended(line, LINE_END)
        yield Piece("", DOCUMENT_END)


def _ended(text: str, end: int) -> Iterator[Piece]:
    *most, last = cut(text)
    yield from (Piece(piece, GOES_ON) for piece in most)
    yield Piece(last, end)


def pack_stream(stream: Iterable[Tokens], room: int) -> Iterator[np.ndarray]:
    """Cut the stream of all documents, each with `</s>` behind it, every `room` tokens; the last block is shorter."""
    pending: list[np.ndarray] = []
    size = 0
    for ids, end in stream:
        pending += [ids, _END] if end == DOCUMENT_END else [ids]
        size = size + len(ids) + (end == DOCUMENT_END)
        if size >= room:
            flat = np.concatenate(pending)
            whole = size // room * room
            yield from flat[:whole].reshape(-1, room)
            pending, size = [flat[whole:]], size - whole
    if size:
        yield np.concatenate(pending)


def joined_stream(tokens: Sequence[Tokens]) -> list[Tokens]:
    """The same to `pack_stream`, as one piece that goes on."""
    ends = ([_END] if end == DOCUMENT_END else [] for _, end in tokens)
    flat = [one for (ids, _), end in zip(tokens, ends, strict=True) for one in (ids, *end)]
    return [Tokens(np.concatenate(flat), GOES_ON)] if flat else []


def pack_lines(stream: Iterable[Tokens], room: int, across: bool = False) -> Iterator[np.ndarray]:
    """Fill blocks of `room` tokens with whole lines, each with `</s>` behind it; only a line longer than a block is
    cut, and begins one.

    Args:
        stream: all documents.
        room: tokens of a block.
        across: whether a block goes on with the next document, behind one more `</s>`.
    """
    block: list[np.ndarray] = []
    line: list[np.ndarray] = []
    for ids, end in stream:
        line.append(ids)
        if end == LINE_END or (end == DOCUMENT_END and across):
            whole, line = np.concatenate([*line, _END]), []
            if block and sum(map(len, block)) + len(whole) > room:
                yield np.concatenate(block)
                block = []
            while len(whole) > room:
                yield whole[:room]
                whole = whole[room:]
            block.append(whole)
        elif end == DOCUMENT_END:
            if block:
                yield np.concatenate(block)
            block, line = [], []
    if block:
        yield np.concatenate(block)


_END = np.array([EOS], dtype=np.int32)
Packing = Literal["contiguous", "documents", "sentences", "pairs"]
Splitter = Callable[[Iterable[str]], Iterator[Piece]]
Packer = Callable[[Iterable[Tokens], int], Iterator[np.ndarray]]
PACKINGS: Mapping[str, tuple[Splitter, Packer]] = {
    "contiguous": (_whole, pack_stream),
    "documents": (lines_of_documents, pack_lines),
    "sentences": (lines_of_documents, partial(pack_lines, across=True)),
}


def pieces_of(packing: Packing, documents: Iterable[str]) -> Iterator[Piece]:
    """Documents as a packing wants to have them encoded."""
    split, _ = PACKINGS.get(packing, (lines_of_documents, None))
    return split(documents)
