"""What users send to a trained speech encoder, and how it becomes the encoder's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.speech.config import RATE_HZ, SpeechEncoderConfig
from d2v.modalities.speech.data import VARIANCE_EPS, side_by_side

SIXTEEN_BIT = 32_768.0


def example_request(config: dict[str, Any]) -> np.ndarray:
    """A valid request for an encoder: one silent second (1, 16000) float32. `config` is its config.json."""
    return np.zeros((1, RATE_HZ), dtype=np.float32)


def to_inputs(recordings: np.ndarray | Sequence[np.ndarray], config: dict[str, Any]) -> Inputs:
    """Recordings as the encoder was trained on them.

    Args:
        recordings: (n, samples), or n arrays (samples,) of any lengths; 16 kHz, one channel, float in -1..1 or int16.
        config: the encoder's config.json.

    Returns:
        (n, samples) float32, each recording at zero mean and unit variance, padded with zeros, with their lengths.

    Raises:
        DataError: another shape or type, values that are not finite, or a recording shorter than one frame.
    """
    if isinstance(recordings, np.ndarray) and recordings.dtype != object and recordings.ndim != 2:
        raise DataError(
            f"recordings have the shape {recordings.shape}: give (number, samples), 16 kHz and one channel, or a list "
            "of arrays (samples,)"
        )
    least = SpeechEncoderConfig(**config["recipe"]["encoder"]).receptive_samples
    return side_by_side([torch.from_numpy(_normalised(np.asarray(one), least)) for one in recordings])


def _normalised(wave: np.ndarray, least: int) -> np.ndarray:
    if wave.ndim != 1:
        raise DataError(f"a recording has the shape {wave.shape}: give (samples,), the mean of its channels")
    if len(wave) < least:
        raise DataError(f"a recording has {len(wave)} samples, and one frame takes {least} at 16 kHz: give longer ones")
    if wave.dtype == np.int16:
        wave = wave / SIXTEEN_BIT
    elif not np.issubdtype(wave.dtype, np.floating):
        raise DataError(f"recordings have the type {wave.dtype}: give float from -1 to 1, or int16")
    if not np.isfinite(wave).all():
        raise DataError("a recording has values that are not finite: remove it, or read it again")
    exact = wave.astype(np.float64)
    return ((exact - exact.mean()) / np.sqrt(exact.var() + VARIANCE_EPS)).astype(np.float32)
