"""Recordings as people have them, and how they become an encoder's input: arrays, files, requests, exports."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.data.ingest import Rejected
from d2v.errors import DataError
from d2v.modalities.base import Preprocessing, encoder_block
from d2v.modalities.requests import OWN_FILES, Limits, Request, file_bytes, file_in, refusing
from d2v.modalities.speech.config import RATE_HZ, SpeechEncoderConfig, SpeechIngestConfig
from d2v.modalities.speech.data import VARIANCE_EPS, side_by_side
from d2v.modalities.speech.reading import decode, read_recording, to_flac

COLUMN = "recording"
SIXTEEN_BIT = 32_768.0


def is_item(given: object) -> bool:
    """A file, or an array of one axis."""
    return isinstance(given, str | Path) or (isinstance(given, np.ndarray) and given.ndim <= 1)


def read_item(item: object, rate_hz: int | None = None) -> np.ndarray:
    """A recording (samples,) at RATE_HZ.

    Args:
        item: a sound file, or an array (samples,) of float from -1 to 1, or int16.
        rate_hz: of an array; None: RATE_HZ.

    Raises:
        DataError: it cannot be read.
    """
    if isinstance(item, str | Path):
        try:
            return _decoded(file_bytes(item), OWN_FILES)
        except Rejected as reason:
            raise DataError(f"{item} cannot be used: {reason}. Leave it out, or give another one") from reason
    wave = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
    if rate_hz in (None, RATE_HZ) or wave.ndim != 1:
        return wave
    from torchaudio.functional import resample

    if wave.dtype == np.int16:
        wave = wave / SIXTEEN_BIT
    resampled: np.ndarray = resample(torch.from_numpy(wave.astype(np.float32)), rate_hz, RATE_HZ).numpy()
    return resampled


def _decoded(data: bytes, limits: Limits) -> np.ndarray:
    """A sound file as (samples,) float32 at RATE_HZ. What ingest would leave out only for training (silence, clipping)
    is read. It is decoded twice, as an ingested file is: to check it, then for its samples. Raises Rejected with the
    reason."""
    bounds = {"max_item_bytes": limits.item_bytes, "min_seconds": 1e-5, "max_seconds": limits.seconds}
    ingest = SpeechIngestConfig.model_validate({"source": "", "silence_peak": 0.0, "max_clipped": 1.0, **bounds})
    return decode(read_recording(data, ingest).data)


def to_inputs(recordings: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """Recordings as the encoder was trained on them.

    Args:
        recordings: (n, samples), or n arrays (samples,) of any lengths; 16 kHz, one channel, float in -1..1 or int16.
        about: the encoder's config.json.

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
    least = encoder_block(about, SpeechEncoderConfig).receptive_samples
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


def _example(about: Mapping[str, object]) -> dict[str, str]:
    """A silent second."""
    return {COLUMN: base64.b64encode(to_flac(np.zeros(RATE_HZ, np.int16), RATE_HZ)).decode()}


def _read(cells: Mapping[str, object], limits: Limits) -> np.ndarray:
    with refusing("recording"):
        return _decoded(file_in(cells[COLUMN]), limits)


REQUEST = Request((COLUMN,), _example, _read)
"""Recordings as sound files of any rate: WAV, FLAC, OGG, MP3, AIFF, AU."""


def preprocessing() -> Preprocessing:
    """transformers' feature extractor that makes the same inputs."""
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": RATE_HZ,
        "do_normalize": True,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    return Preprocessing({"preprocessor_config.json": json.dumps(extractor, indent=2) + "\n"})
