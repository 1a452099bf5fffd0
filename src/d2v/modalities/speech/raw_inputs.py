"""Recordings as people have them, and how they become an encoder's input: arrays, files, requests, exports."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from d2v.data.batch import Inputs
from d2v.data.ingest import Record
from d2v.errors import CheckpointError, DataError
from d2v.modalities.base import Foreign, Preprocessing, encoder_block
from d2v.modalities.requests import OWN_FILES, Limits, Request, file_bytes, file_in, refusing, using
from d2v.modalities.speech.config import RATE_HZ, Resampler, SpeechEncoderConfig, SpeechIngestConfig
from d2v.modalities.speech.decoders import open_sound
from d2v.modalities.speech.reading import MAX_RATE_HZ, MIN_RATE_HZ, mono, read_recording, to_flac
from d2v.modalities.speech.resampling import RESAMPLER_OF_OLD, resample

COLUMN = "recording"
SIXTEEN_BIT = 32_768.0
MOST_CHANNELS = 8
"""An array (n, 2) is one recording with its channels side by side, and not n recordings of two samples."""


@dataclass(frozen=True)
class Recording:
    """A recording at its own sample rate; `to_inputs` brings it to RATE_HZ as the encoder's training data were.

    Attributes:
        wave: (samples,) float, full scale is 1, or int16.
        rate_hz: samples a second.

    Raises:
        DataError: there is no such sample rate.
    """

    wave: NDArray[Any]
    rate_hz: float = RATE_HZ

    def __post_init__(self) -> None:
        given: Any = self.rate_hz
        if not isinstance(given, Real) or not MIN_RATE_HZ <= float(given) <= MAX_RATE_HZ:
            raise DataError(
                f"rate_hz={given!r} is no sample rate of a recording: give the samples a second that it was made with, "
                f"from {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}"
            )


def is_item(given: object) -> bool:
    """A file or its bytes, or an array of one axis; one of (samples, channels) too, so that it is named and not taken
    for many short recordings."""
    if isinstance(given, np.ndarray):
        return given.ndim <= 1 or (given.ndim == 2 and given.shape[1] <= MOST_CHANNELS < given.shape[0])
    return isinstance(given, str | Path | bytes)


def read_item(item: object, rate_hz: float | None = None) -> Recording:
    """A recording at its own rate.

    Args:
        item: a sound file or its bytes, an array (samples,) of float from -1 to 1, or int16, or a Recording.
        rate_hz: of an array; None: RATE_HZ.

    Raises:
        DataError: it cannot be read, or there is no such rate.
    """
    from torch import Tensor

    if isinstance(item, Recording):
        return item
    if isinstance(item, str | Path | bytes):
        name, data = ("a recording", item) if isinstance(item, bytes) else (item, file_bytes(item))
        with using(name):
            return _decoded(data, OWN_FILES)
    wave = item.numpy(force=True) if isinstance(item, Tensor) else np.asarray(item)
    return Recording(wave, RATE_HZ if rate_hz is None else rate_hz)


def _decoded(data: bytes, limits: Limits) -> Recording:
    """A sound file, as ingest would read it. Raises Rejected with the reason."""
    return from_record(read_recording(data, SpeechIngestConfig.model_validate({"source": "", **ingest_limits(limits)})))


def ingest_limits(limits: Limits) -> dict[str, object]:
    """Values of the ingest block that refuse what is above the limits, and nothing that is left out only of training
    (silence, clipping)."""
    bounds = {"max_item_bytes": limits.item_bytes, "min_seconds": 1e-5, "max_seconds": limits.seconds}
    return {**bounds, "silence_peak": 0.0, "max_clipped": 1.0}


def from_record(record: Record) -> Recording:
    """The mean of the channels of a recording, from what ingest stores of it."""
    with open_sound(record.data) as sound:
        return Recording(np.concatenate([mono(block) for block in sound.blocks]), sound.rate_hz)


def to_inputs(recordings: np.ndarray | Sequence[object], about: Mapping[str, object]) -> Inputs:
    """Recordings as the encoder was trained on them.

    Args:
        recordings: (n, samples), or n recordings of any lengths; arrays (samples,) are at 16 kHz. One channel, float in
            -1..1 or int16.
        about: the encoder's config.json.

    Returns:
        (n, samples) float32, each recording at zero mean and unit variance (as it is, where config.json says
        `do_normalize: false`), padded with zeros, with their lengths.

    Raises:
        DataError: another shape or type, values that are not finite, or a recording shorter than one frame.
    """
    import torch

    from d2v.modalities.speech.data import side_by_side

    if isinstance(recordings, np.ndarray) and recordings.dtype != object and recordings.ndim != 2:
        raise DataError(
            f"recordings have the shape {recordings.shape}: give (number, samples), 16 kHz and one channel, or a list "
            "of arrays (samples,)"
        )
    least = encoder_block(about, SpeechEncoderConfig).receptive_samples
    resampler = cast(Resampler, about.get("resampler", RESAMPLER_OF_OLD))
    found = (one if isinstance(one, Recording) else Recording(np.asarray(one)) for one in recordings)
    prepared = _normalised if about.get("do_normalize", True) else _as_it_is
    return side_by_side([torch.from_numpy(prepared(_at_rate(one, resampler), least)) for one in found])


def _at_rate(recording: Recording, resampler: Resampler) -> np.ndarray:
    """(samples,) float at RATE_HZ."""
    wave = recording.wave
    if wave.ndim != 1:
        looks = wave.ndim == 2 and min(wave.shape) <= MOST_CHANNELS < max(wave.shape)
        channels = f", which looks like {min(wave.shape)} channels" if looks else ""
        raise DataError(f"a recording has the shape {wave.shape}{channels}: give (samples,), the mean of its channels")
    if wave.dtype == np.int16:
        wave = wave / np.float32(SIXTEEN_BIT)
    elif not np.issubdtype(wave.dtype, np.floating):
        raise DataError(f"recordings have the type {wave.dtype}: give float from -1 to 1, or int16")
    if not np.isfinite(wave).all():
        raise DataError("a recording has values that are not finite: remove it, or read it again")
    if recording.rate_hz == RATE_HZ:
        return wave
    return resample([wave.astype(np.float32, copy=False)], recording.rate_hz, resampler)


def _as_it_is(wave: np.ndarray, least: int) -> np.ndarray:
    if len(wave) < least:
        raise DataError(f"a recording has {len(wave)} samples, and one frame takes {least} at 16 kHz: give longer ones")
    return wave.astype(np.float32)


def _normalised(wave: np.ndarray, least: int) -> np.ndarray:
    from d2v.modalities.speech.data import VARIANCE_EPS

    wave = _as_it_is(wave, least) if len(wave) < least else wave
    exact = wave.astype(np.float64)
    return ((exact - exact.mean()) / np.sqrt(exact.var() + VARIANCE_EPS)).astype(np.float32)


def _example(about: Mapping[str, object]) -> dict[str, str]:
    """A silent second."""
    return {COLUMN: base64.b64encode(to_flac(np.zeros(RATE_HZ, np.int16), RATE_HZ)).decode()}


def _read(cells: Mapping[str, object], limits: Limits) -> Recording:
    with refusing("recording"):
        return _decoded(file_in(cells[COLUMN]), limits)


REQUEST = Request((COLUMN,), _example, _read)
"""Recordings as sound files of any rate: WAV, FLAC, OGG, MP3, MP4, AIFF and all that ingest reads."""


def preprocessing(about: Mapping[str, object]) -> Preprocessing:
    """transformers' feature extractor that makes the same inputs."""
    extractor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": RATE_HZ,
        "do_normalize": bool(about.get("do_normalize", True)),
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
    }
    return Preprocessing({"preprocessor_config.json": json.dumps(extractor, indent=2) + "\n"})


def about_recordings(source: Foreign) -> tuple[dict[str, object], tuple[str, ...]]:
    """What feeds an encoder of others: (values of config.json, notes).

    Args:
        source: with the settings of its feature extractor.

    Raises:
        CheckpointError: a setting that cannot be followed, named with its value.
    """
    said = source.preprocessor
    kept = {
        "sampling_rate": RATE_HZ,
        "feature_size": 1,
        "padding_value": 0.0,
        "padding_side": "right",
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    }
    for name, value in kept.items():
        given = said.get(name, value)
        if given != value:
            raise CheckpointError(
                f"{source.path} prepares its recordings with {name}={given!r}, and here it is {value!r} for every "
                "encoder: it cannot be followed, take a model with that setting"
            )
    about: dict[str, object] = {"rate_hz": RATE_HZ, "resampler": SpeechIngestConfig.model_fields["resampler"].default}
    notes: tuple[str, ...] = ()
    if not said:
        notes += (f"{source.path} does not say how recordings are prepared: they get zero mean and unit variance",)
    if said.get("do_normalize", True) is False:
        about["do_normalize"] = False
        notes += (
            "recordings are fed as they are, without zero mean and unit variance, as the source says; fine-tuning here "
            "normalises them, and its model says so",
        )
    if source.path.is_dir() and said and not said.get("return_attention_mask", False):
        notes += (
            "the source's feature extractor gives no attention mask, so its model takes padding for sound; here a "
            "recording's features are those that it has alone, whatever stands beside it",
        )
    return about, notes
