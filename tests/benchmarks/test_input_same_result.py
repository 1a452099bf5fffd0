"""Shortcuts on the way from files to batches give what the plain way gives, bit for bit, and hold no more memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from d2v.data.store import ShardReader, ShardWriter
from d2v.modalities.speech.reading import mono
from d2v.modalities.vision.preparation import _statistics_of


@pytest.mark.parametrize("shape", [(1, 1, 3), (32, 32, 3), (256, 341, 3), (700, 501, 3)])
def test_sums_of_pixels_have_the_bits_of_numpys(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    flat = image.reshape(-1, 3).astype(np.float64) / 255.0
    found = _statistics_of(image)
    assert found.pixels == len(flat)
    assert np.array_equal(found.total, flat.sum(axis=0))
    assert np.array_equal(found.squares, np.square(flat).sum(axis=0))


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_the_mean_of_channels_has_the_bits_of_numpys(channels: int) -> None:
    block = np.random.default_rng(0).standard_normal((5_000, channels), dtype=np.float32)
    mean = mono(block)
    assert mean.dtype == np.float32
    assert np.array_equal(mean, block.mean(axis=1))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_reading_in_order_holds_one_shard_in_memory(tmp_path: Path) -> None:
    shard_bytes, shards = 2**20, 8
    random = np.random.default_rng(0)
    values = [random.bytes(shard_bytes // 4) for _ in range(4 * shards)]
    writer = ShardWriter(tmp_path, pa.schema([("data", pa.large_binary())]), shard_bytes)
    for value in values:
        writer.append({"data": value})
    reader = ShardReader(tmp_path)
    opened = _resident_bytes(tmp_path)  # heads and tails of all shards
    assert all(reader.binary("data", row) == value for row, value in enumerate(values))
    assert _resident_bytes(tmp_path) < opened + 2 * shard_bytes
    assert all(reader.binary("data", row) == values[row] for row in random.permutation(len(values)))


def _resident_bytes(folder: Path) -> int:
    """What of a folder's files is mapped and in memory."""
    maps = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    ours = (entry for entry in maps if str(folder) in entry.partition("\n")[0])
    return sum(1024 * int(size) for entry in ours for size in re.findall(r"^Rss:\s+(\d+)", entry, re.MULTILINE))
