"""Two ways to fill blocks with tokens."""

from __future__ import annotations

import numpy as np

from d2v.modalities.text.packing import DOCUMENT_END, GOES_ON, LINE_END, Tokens, pack_lines, pack_stream
from d2v.modalities.text.tokenizer import EOS


def tokens(*lengths: int, end: int = DOCUMENT_END) -> list[Tokens]:
    starts = np.cumsum([0, *lengths])
    return [Tokens(np.arange(start + 100, start + 100 + n), end) for start, n in zip(starts, lengths, strict=False)]


def test_the_stream_is_cut_everywhere_and_nothing_is_lost() -> None:
    parts = tokens(3, 0, 9, 1)
    blocks = list(pack_stream([parts[0]._replace(end=GOES_ON), *parts[1:]], room=4))
    assert [len(block) for block in blocks] == [4, 4, 4, 4]
    assert np.concatenate(blocks).tolist() == [100, 101, 102, EOS, *range(103, 112), EOS, 112, EOS]
    assert [len(block) for block in pack_stream(tokens(6), room=4)] == [4, 3]


def test_lines_stay_whole_and_documents_apart() -> None:
    end = Tokens(np.zeros(0, np.int64), DOCUMENT_END)
    short, longer, longest = tokens(3, 3, 13, end=LINE_END)
    blocks = [block.tolist() for block in pack_lines([short, longer, short, end, short, longest, end, end], room=8)]
    line = [100, 101, 102, EOS]
    assert blocks == [
        [*line, 103, 104, 105, EOS],
        line,
        line,
        [*range(106, 114)],
        [*range(114, 119), EOS],
    ]
    halves = [short._replace(end=GOES_ON), short, end]
    assert [block.tolist() for block in pack_lines(halves, room=8)] == [[*line[:3], *line]]
