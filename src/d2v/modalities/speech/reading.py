"""From a sound file to what the corpus stores, or a reason why not (`read_recording`); and from there to samples at
16 kHz (`decode`).

WAV, FLAC, OGG and MP3 files keep their bytes, and so does every file that is no larger than its samples in 16 bits;
others are stored as 16-bit FLAC. Recordings are decoded a block at a time, so that an hour costs no more memory than a
second.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from d2v.data.ingest import Record, Rejected
from d2v.modalities.speech.config import Resampler, SpeechIngestConfig
from d2v.modalities.speech.containers import look
from d2v.modalities.speech.decoders import Sound, open_sound
from d2v.modalities.speech.resampling import resample
from d2v.modalities.speech.writers import writer_of

Floats = NDArray[np.float32]

FACTS = ("samples", "rate_hz", "channels")
KEPT_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
OWN_CHECKS = (*KEPT_FORMATS, "AIFF", "AU")  # `containers` tells by itself whether these are cut off
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000
FULL_SCALE = 0.999
FLAC_CHANNELS, FLAC_RATE_HZ = 8, 65_535
SCALED = "above full scale, scaled to it"


def read_recording(data: bytes | np.ndarray, config: SpeechIngestConfig) -> Record:
    """Decode one recording fully to check it, and return what the corpus stores of it: a file, not samples.

    Args:
        data: a sound file.
        config: limits.

    Raises:
        Rejected: with the reason.
    """
    if isinstance(data, np.ndarray):
        raise Rejected("an array has no sample rate: it must come as a sound file")
    if not data:
        raise Rejected("the file is empty")
    if len(data) > config.max_item_bytes:
        raise Rejected(f"the file has {len(data):,} bytes, above max_item_bytes {config.max_item_bytes:,}")
    layout = look(data)
    if layout.cut_off:
        raise Rejected(f"the recording is truncated: {layout.cut_off}")
    with open_sound(data, layout) as sound:
        _check_header(sound, config)
        found = _measure(sound, config)
        _check_content(found, sound, config)
    facts = {"samples": found.samples, "rate_hz": sound.rate_hz, "channels": sound.channels}
    notes = sound.notes + ([SCALED] if found.loudest > 1.0 else [])
    writer = writer_of(data)
    origin = {"format": f"{sound.kind} ({sound.codec})"} | ({"writer": writer} if writer else {})
    if sound.kind in KEPT_FORMATS or len(data) <= 2 * found.values:
        return Record(data, facts, ", ".join(notes), origin=origin)
    with open_sound(data, layout) as again:
        samples = np.concatenate(list(again.blocks))
    return Record(
        to_flac(samples, sound.rate_hz), facts, ", ".join([*notes, f"{sound.kind} to 16 bits"]), origin=origin
    )


def decode(data: bytes, resampler: Resampler) -> Floats:
    """A stored recording as (n,) at RATE_HZ: the mean of its channels, resampled; float samples may be above 1."""
    with open_sound(data) as sound:
        return resample(map(mono, sound.blocks), sound.rate_hz, resampler)


def mono(block: Floats) -> Floats:
    """The mean of the channels (n, channels) -> (n,); of two, NumPy's mean takes thirty times as long as their sum."""
    if block.shape[1] == 1:
        return block[:, 0]
    if block.shape[1] == 2:
        return (block[:, 0] + block[:, 1]) / np.float32(2.0)
    return block.mean(axis=1)


def to_flac(samples: np.ndarray, rate_hz: int) -> bytes:
    """A 16-bit FLAC file of (n,) or (n, channels) float samples in -1..1 or int16; floats beyond are scaled down to it.
    More channels or a higher rate than FLAC can take become WAV."""
    if np.issubdtype(samples.dtype, np.floating) and samples.size:
        samples = samples / max(float(np.abs(samples).max()), 1.0)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)  # soundfile takes the bytes as they lie
    buffer = io.BytesIO()
    fits = rate_hz <= FLAC_RATE_HZ and (samples.ndim == 1 or samples.shape[1] <= FLAC_CHANNELS)
    soundfile.write(buffer, samples, rate_hz, format="FLAC" if fits else "WAV", subtype="PCM_16")
    return buffer.getvalue()


# ------------------------------------------------------------------------------------------- checks


@dataclass
class _Measured:
    """What a pass over the samples found; extremes are of the mean of the channels."""

    may_exceed: bool  # 1, without being clipped
    samples: int = 0
    clipped: int = 0
    values: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    loudest: float = 0.0  # in any one channel
    finite: bool = True

    def add(self, block: Floats) -> None:
        """Add samples (n, channels)."""
        one = mono(block)
        size = np.abs(block)
        self.samples += len(block)
        self.values += block.size
        self.lowest, self.highest = min(self.lowest, float(one.min())), max(self.highest, float(one.max()))
        self.finite &= bool(np.isfinite(block).all())
        loudest = max(self.loudest, float(size.max()))
        if self.may_exceed and loudest > 1.0 and loudest * FULL_SCALE > self.loudest:
            self.clipped = 0  # what was loud before is not at full scale
        self.loudest = loudest
        self.clipped += int((size >= FULL_SCALE * self.full_scale).sum())

    @property
    def full_scale(self) -> float:
        """Where samples are clipped, if they are: float samples may go beyond 1."""
        return max(self.loudest, 1.0) if self.may_exceed else 1.0


def _check_header(sound: Sound, config: SpeechIngestConfig) -> None:
    if not MIN_RATE_HZ <= sound.rate_hz <= MAX_RATE_HZ:
        raise Rejected(f"a sample rate of {sound.rate_hz:,} Hz is outside {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}")
    if sound.promised > config.max_seconds * sound.rate_hz:
        raise Rejected(f"{sound.promised / sound.rate_hz:.1f} s is above max_seconds {config.max_seconds:g}")
    if sound.complaint and sound.kind not in OWN_CHECKS:
        raise Rejected("the recording is truncated: its header promises more bytes than there are")


def _measure(sound: Sound, config: SpeechIngestConfig) -> _Measured:
    found = _Measured(sound.is_float)
    try:
        for block in sound.blocks:
            found.add(block)
            if found.samples > config.max_seconds * sound.rate_hz:
                raise Rejected(f"it is longer than max_seconds {config.max_seconds:g}")
    except Rejected:
        raise
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise Rejected(f"the recording is truncated or corrupt after {found.samples:,} samples: {said}") from None
    return found


def _check_content(found: _Measured, sound: Sound, config: SpeechIngestConfig) -> None:
    if found.samples < sound.promised:
        raise Rejected(f"the recording is truncated: {found.samples:,} of {sound.promised:,} samples are there")
    seconds = found.samples / sound.rate_hz
    if seconds < config.min_seconds:
        raise Rejected(f"{seconds:.3f} s is below min_seconds {config.min_seconds:g}")
    if not found.finite:
        raise Rejected("it has samples that are not finite")
    quiet = config.silence_peak * found.full_scale
    if found.highest - found.lowest < 2 * quiet:  # whatever the constant offset, which no one hears
        if found.loudest > 10 * quiet and abs(found.highest) < quiet:
            raise Rejected("its channels cancel each other out")
        raise Rejected(f"it is silent: nothing is louder than silence_peak {config.silence_peak:g} of full scale")
    share = found.clipped / found.values
    if share > config.max_clipped:
        raise Rejected(f"it is clipped: {share:.1%} of its samples are at full scale, above max_clipped")
