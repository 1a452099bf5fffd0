"""What users send to a trained speech encoder, and how it becomes the encoder's input."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import DataError
from d2v.modalities.requests import Limits, Request, file_in, refusing
from d2v.modalities.speech.config import RATE_HZ, SpeechEncoderConfig, SpeechIngestConfig
from d2v.modalities.speech.data import VARIANCE_EPS, side_by_side
from d2v.modalities.speech.reading import decode, read_recording, to_flac

COLUMN = "recording"
SIXTEEN_BIT = 32_768.0


def read_item(data: bytes, limits: Limits) -> np.ndarray:
    """A recording (samples,) float32 at RATE_HZ. What ingest would leave out only for training (silence, clipping) is
    read.

    Args:
        data: a sound file.
        limits: its bytes and seconds.

    Raises:
        Rejected: with the reason.
    """
    bounds = {"max_item_bytes": limits.item_bytes, "min_seconds": 1e-5, "max_seconds": limits.seconds}
    ingest = SpeechIngestConfig.model_validate({"source": "", "silence_peak": 0.0, "max_clipped": 1.0, **bounds})
    return decode(read_recording(data, ingest).data)


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


def _example(config: dict[str, Any]) -> dict[str, str]:
    """A silent second."""
    return {COLUMN: base64.b64encode(to_flac(np.zeros(RATE_HZ, np.int16), RATE_HZ)).decode()}


def _read(cells: Mapping[str, Any], limits: Limits) -> np.ndarray:
    with refusing("recording"):
        return read_item(file_in(cells[COLUMN]), limits)


REQUEST = Request((COLUMN,), _example, _read)
"""Recordings as sound files of any rate: WAV, FLAC, OGG, MP3, AIFF, AU."""
