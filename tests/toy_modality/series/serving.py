"""What users send to a trained series encoder, and how it becomes the encoder's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.series.data import normalise


def example_request(config: dict[str, Any]) -> np.ndarray:
    """A valid request for an encoder: one flat series (1, max_steps, channels). `config` is its config.json."""
    encoder = config["recipe"]["encoder"]
    return np.zeros((1, encoder["max_steps"], encoder["channels"]), dtype=np.float32)


def to_inputs(series: np.ndarray, config: dict[str, Any]) -> Inputs:
    """Series as the encoder was trained on them.

    Args:
        series: (n, steps, channels) numbers.
        config: the encoder's config.json: its channels, their means and standard deviations.

    Returns:
        (n, steps, channels) float32.

    Raises:
        DataError: another shape or type, or a series that is too short or too long.
    """
    encoder = config["recipe"]["encoder"]
    if series.ndim != 3 or series.shape[2] != encoder["channels"]:
        raise DataError(f"series have the shape {series.shape}: give (number, steps, {encoder['channels']})")
    if series.dtype.kind not in "fiu":
        raise DataError(f"series have the type {series.dtype}: give real numbers")
    if not encoder["patch_steps"] <= series.shape[1] <= encoder["max_steps"]:
        raise DataError(
            f"series have {series.shape[1]} steps: give {encoder['patch_steps']} to {encoder['max_steps']} of them"
        )
    return Inputs(normalise(torch.from_numpy(series.astype(np.float32)), config))
