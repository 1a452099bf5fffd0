"""Series as people have them, and how they become an encoder's input: arrays, files, requests."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.data.ingest import Record
from d2v.errors import DataError
from d2v.modalities.base import encoder_block
from d2v.modalities.requests import Limits, Request, file_bytes, file_in, refusing, using
from d2v.modalities.series.config import SeriesEncoderConfig
from d2v.modalities.series.data import normalise, side_by_side
from d2v.modalities.series.sources import read_series

COLUMN = "series"


def is_item(given: object) -> bool:
    """A file, or an array (steps, channels)."""
    return isinstance(given, str | Path) or (isinstance(given, np.ndarray) and given.ndim <= 2)


def read_item(item: object) -> np.ndarray:
    """(steps, channels) of a CSV file or an array. Raises DataError if it cannot be read."""
    if not isinstance(item, str | Path):
        return np.asarray(item)
    with using(item):
        return from_record(read_series(file_bytes(item)))


def from_record(record: Record) -> np.ndarray:
    """(steps, channels) from what ingest stores of a series."""
    return np.frombuffer(record.data, "<f4").reshape(record.facts["steps"], record.facts["channels"])


def to_inputs(series: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """Series as the encoder was trained on them.

    Args:
        series: (n, steps, channels) numbers, or n arrays (steps, channels) of any lengths.
        about: the encoder's config.json: its channels, their means and standard deviations.

    Returns:
        (n, steps, channels) float32, padded with zeros, with their lengths.

    Raises:
        DataError: another shape or type, or a series that is too short or too long.
    """
    return side_by_side([_checked(np.asarray(one), about) for one in series])


def _checked(one: np.ndarray, about: Mapping[str, object]) -> Tensor:
    encoder = encoder_block(about, SeriesEncoderConfig)
    if one.ndim != 2 or one.shape[1] != encoder.channels:
        raise DataError(f"a series has the shape {one.shape}: send (steps, {encoder.channels})")
    if one.dtype.kind not in "fiu":
        raise DataError(f"a series has the type {one.dtype}: send real numbers")
    if not encoder.patch_steps <= len(one) <= encoder.max_steps:
        raise DataError(f"a series has {len(one)} steps: send {encoder.patch_steps} to {encoder.max_steps} of them")
    return normalise(torch.from_numpy(one.astype(np.float32)), about)


def _example(about: Mapping[str, object]) -> dict[str, str]:
    """A flat series."""
    encoder = encoder_block(about, SeriesEncoderConfig)
    line = ",".join("0" * encoder.channels) + "\n"
    return {COLUMN: base64.b64encode(line.encode() * encoder.max_steps).decode()}


def _read(cells: Mapping[str, object], limits: Limits) -> np.ndarray:
    with refusing("series"):
        return from_record(read_series(file_in(cells[COLUMN])))


REQUEST = Request((COLUMN,), _example, _read)
"""Series as CSV files."""
