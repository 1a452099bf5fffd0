"""What users send to a trained series encoder, and how it becomes the encoder's input."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.requests import Limits, Request, file_in, refusing
from d2v.modalities.series.data import normalise, side_by_side
from d2v.modalities.series.ingestion import read_series

COLUMN = "series"


def to_inputs(series: np.ndarray | Sequence[np.ndarray], config: dict[str, Any]) -> Inputs:
    """Series as the encoder was trained on them.

    Args:
        series: (n, steps, channels) numbers, or n arrays (steps, channels) of any lengths.
        config: the encoder's config.json: its channels, their means and standard deviations.

    Returns:
        (n, steps, channels) float32, padded with zeros, with their lengths.

    Raises:
        DataError: another shape or type, or a series that is too short or too long.
    """
    return side_by_side([_checked(one, config) for one in series])


def _checked(one: np.ndarray, config: dict[str, Any]) -> Tensor:
    encoder = config["recipe"]["encoder"]
    if one.ndim != 2 or one.shape[1] != encoder["channels"]:
        raise DataError(f"a series has the shape {one.shape}: send (steps, {encoder['channels']})")
    if one.dtype.kind not in "fiu":
        raise DataError(f"a series has the type {one.dtype}: send real numbers")
    if not encoder["patch_steps"] <= len(one) <= encoder["max_steps"]:
        raise DataError(
            f"a series has {len(one)} steps: send {encoder['patch_steps']} to {encoder['max_steps']} of them"
        )
    return normalise(torch.from_numpy(one.astype(np.float32)), config)


def _example(config: dict[str, Any]) -> dict[str, str]:
    """A flat series."""
    encoder = config["recipe"]["encoder"]
    line = ",".join("0" * encoder["channels"]) + "\n"
    return {COLUMN: base64.b64encode(line.encode() * encoder["max_steps"]).decode()}


def _read(cells: Mapping[str, Any], limits: Limits) -> np.ndarray:
    with refusing("series"):
        record = read_series(file_in(cells[COLUMN]))
    return np.frombuffer(record.data, "<f4").reshape(record.facts["steps"], record.facts["channels"])


REQUEST = Request((COLUMN,), _example, _read)
"""Series as CSV files."""
