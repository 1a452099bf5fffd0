"""Where series come from, the embedded corpus `waves` and CSV files wherever fsspec finds them, and how one is read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import numpy as np

from d2v.config import Block, NonNegativeInt, PositiveInt, parse
from d2v.data import fingerprint
from d2v.data.ingest import Record, Rejected
from d2v.data.sources.archives import tar_source, zip_source
from d2v.data.sources.layout import Wanted
from d2v.data.sources.locations import find_format, folder_source, guarded, open_location, reading
from d2v.data.sources.row_sources import Split, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.modalities.series.config import SeriesIngestConfig

FACTS = ("steps", "channels")
SHAPES = ("chirp", "pulses", "saw", "sine")
OPENERS = {"folder": folder_source, "tar": tar_source, "zip": zip_source}


class WaveOptions(Block):
    """What the `waves` corpus holds: noisy waves in two channels; their shape is the label."""

    count: PositiveInt = 2000
    test_count: NonNegativeInt = 400
    min_steps: PositiveInt = 96
    max_steps: PositiveInt = 160
    seed: NonNegativeInt = 0


def open_source(config: SeriesIngestConfig) -> Source:
    """Find the series that `config` names."""
    if config.source == "waves":
        options = parse(WaveOptions, config.options, at="series.ingest.options")
        counts = {"train": options.count, "test": options.test_count}
        splits = [Split(split, count, partial(_waves, options, split, count)) for split, count in counts.items()]
        return source_of_splits("waves", fingerprint.of_values(options.model_dump()), splits, SHAPES)
    suffixes = frozenset({".csv"})
    wanted = Wanted(
        modality="series",
        noun="series",
        suffixes=suffixes,
        max_item_bytes=config.max_item_bytes,
        embedded=("waves",),
    )
    with reading(config.source):
        opened, is_folder = open_location(config.source, config.options, wanted)
        kind, location = find_format(opened, is_folder, wanted, formats=("tar", "zip"))
        return guarded(OPENERS[kind](location, wanted), config.source)


def read_series(data: bytes | np.ndarray) -> Record:
    """A series as it is stored: float32 (steps, channels), little-endian.

    Args:
        data: a CSV file, with or without a line of names; or an array (steps, channels).

    Raises:
        Rejected: no numbers, or not finite ones.
    """
    values = data if isinstance(data, np.ndarray) else _read_csv(data)
    if not np.isfinite(values).all():
        raise Rejected("it has values that are missing or not finite")
    return Record(values.astype("<f4").tobytes(), dict(zip(FACTS, values.shape, strict=True)))


def _read_csv(data: bytes) -> np.ndarray:
    lines = data.decode("utf-8", "replace").strip().splitlines()
    for first in (0, 1):  # the first line may be names
        try:
            values = np.loadtxt(io.StringIO("\n".join(lines[first:])), delimiter=",", ndmin=2)
        except ValueError:
            continue
        if values.size:
            return values
    raise Rejected("it is no table of numbers separated by commas")


def _waves(options: WaveOptions, split: str, count: int, start: int) -> Iterator[Item]:
    for number in range(start, count):
        random = np.random.Generator(np.random.Philox(key=[options.seed, number + (split == "test") * 2**40]))
        shape = SHAPES[number % len(SHAPES)]
        yield Item(f"{split}/{number:06d}", _wave(shape, options, random), shape)


def _wave(shape: str, options: WaveOptions, random: np.random.Generator) -> np.ndarray:
    """(steps, 2): a wave and, a little later, its echo, in noise."""
    steps = int(random.integers(options.min_steps, options.max_steps + 1))
    time = np.arange(steps)[:, None] + np.array([0.0, random.uniform(1.0, 6.0)])
    cycles = time / random.uniform(12.0, 24.0) + random.random()
    wave = {
        "chirp": np.sin(2 * np.pi * cycles * (1.0 + time / steps)),
        "pulses": (cycles % 1.0 < 0.2) * 2.0 - 1.0,
        "saw": 2.0 * (cycles % 1.0) - 1.0,
        "sine": np.sin(2 * np.pi * cycles),
    }[shape]
    return wave * random.uniform(0.5, 2.0) + random.normal(0.0, 0.2, wave.shape)
