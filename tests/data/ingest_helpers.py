"""A source of short texts, for tests of the ingest engine. Run as a script it ingests slowly and can be killed."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from d2v.data.ingest import IngestReport, Record, Rejected, ingest
from d2v.data.sources.source import Item, Source


def make_items(count: int) -> list[Item]:
    """Every 7th item is bad, every 5th repeats item 0 or 1, labels and splits alternate."""
    items = []
    for n in range(count):
        data = b"bad" if n % 7 == 3 else b"twin %d" % (n % 2) if n % 5 == 0 else b"item %d" % n
        items.append(Item(f"k{n}", data, label="ab"[n % 2], split=("train", "test")[n % 4 == 3]))
    return items


def source_of(items: list[Item], fingerprint: str = "f", delay_s: float = 0.0) -> Source:
    def stream(start: int) -> Iterator[Item]:
        for item in items[start:]:
            time.sleep(delay_s)
            yield item

    return Source("made up", fingerprint, len(items), stream)


def read(data: bytes) -> Record:
    if data == b"bad":
        raise Rejected("it is bad")
    return Record(data.upper(), {"length": len(data)}, "shouted" if data.startswith(b"twin") else "")


def run(
    out: Path, items: list[Item], fingerprint: str = "f", delay_s: float = 0.0, shard_bytes: int = 40, **further: Any
) -> IngestReport:
    source = source_of(items, fingerprint, delay_s)
    return ingest(source, read, ("length",), out, {"p": 1}, shard_bytes, 0.25, **further)


if __name__ == "__main__":
    run(Path(sys.argv[1]), make_items(int(sys.argv[2])), delay_s=0.005)
