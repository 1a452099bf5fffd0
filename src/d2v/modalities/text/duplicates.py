"""Near duplicates among paragraphs, found as they come."""

from __future__ import annotations

import re
import zlib

import numpy as np

WORDS = 5  # that follow each other, a shingle
SLOTS = 2**28  # bits that remember shingles: 32 MB, of which 20 million characters take 1 in 80
MOST_SEEN = 0.5  # of a paragraph's shingles


class NearDuplicates:
    """Remembers the runs of five words of all paragraphs so far, without case, digits and punctuation.

    Hashes fall into a table of bits, so one new run in a hundred is taken for an old one; a paragraph is judged by the
    share of its runs.
    """

    def __init__(self) -> None:
        self._bits = np.zeros(SLOTS // 8, np.uint8)

    def is_new(self, paragraph: str) -> bool:
        """Whether at most half of the paragraph's runs of words have been seen; all of them are seen from now on."""
        words = re.findall(r"[a-z]+", paragraph.lower())
        runs = [" ".join(words[at : at + WORDS]) for at in range(max(1, len(words) - WORDS + 1))]
        hashes = np.fromiter((zlib.crc32(run.encode()) for run in runs), np.uint32, len(runs)) % SLOTS
        bytes_, masks = hashes >> 3, (1 << (hashes & 7)).astype(np.uint8)
        seen = (self._bits[bytes_] & masks) != 0
        np.bitwise_or.at(self._bits, bytes_, masks)
        return bool(seen.mean() <= MOST_SEEN)
