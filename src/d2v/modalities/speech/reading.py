"""From a sound file to what the corpus stores, or a reason why not (`read_recording`); and from there to samples at
16 kHz (`decode`).

WAV, FLAC, OGG and MP3 files keep their bytes; what libsndfile reads beside them is stored as 16-bit FLAC. Recordings
are decoded a block at a time, so that an hour costs no more memory than a second.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from d2v.data.ingest import Record, Rejected
from d2v.modalities.speech.config import RATE_HZ, SpeechIngestConfig

Floats = NDArray[np.float32]

FACTS = ("samples", "rate_hz", "channels")
KEPT_FORMATS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3")
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 384_000
FULL_SCALE = 0.999
BLOCK_SAMPLES = 2**20
FLAC_CHANNELS, FLAC_RATE_HZ = 8, 65_535
MP3_SLACK_SAMPLES = 2 * 1152  # encoders disagree on whether their delay is part of the length in the header
STREAMED_BYTES = 0x7FFF_0000  # programs that write to a pipe declare such a size, for they cannot know it
RATIO_DENOMINATOR = 1_000
DECODE_ERRORS = (soundfile.LibsndfileError, RuntimeError, OSError, ValueError)


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
    if reason := cut_off(data):
        raise Rejected(f"the recording is truncated: {reason}")
    try:
        file = soundfile.SoundFile(_Bytes(data))
    except DECODE_ERRORS:
        raise Rejected("it is not audio, or its header is damaged (WAV, FLAC, OGG, MP3, AIFF, AU are read)") from None
    with file:
        _check_header(file, config)
        found = _measure(file, config)
        _check_content(found, file, config)
        facts = {"samples": found.samples, "rate_hz": file.samplerate, "channels": file.channels}
        if file.format in KEPT_FORMATS:
            return Record(data, facts)
        file.seek(0)
        return Record(to_flac(file.read(dtype="float32"), file.samplerate), facts, f"{file.format} to 16 bits")


def decode(data: bytes) -> Floats:
    """A stored recording as (n,) at RATE_HZ: the mean of its channels, resampled."""
    with soundfile.SoundFile(_Bytes(data)) as file:
        rate_hz = file.samplerate
        blocks = [_mono(block) for block in _blocks(file)]
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if rate_hz == RATE_HZ:
        return mono
    with torch.no_grad():
        return _resampler(Fraction(RATE_HZ, rate_hz).limit_denominator(RATIO_DENOMINATOR))(
            torch.from_numpy(mono)
        ).numpy()


@functools.lru_cache(maxsize=16)
def _resampler(ratio: Fraction) -> Any:
    """torchaudio's windowed sinc. Its filter bank has numerator x denominator taps: rates such as 44,101 Hz would need
    gigabytes, so ratios are approximated to a millionth, which no ear or model hears."""
    from torchaudio.transforms import Resample

    return Resample(ratio.denominator, ratio.numerator)


def to_flac(samples: np.ndarray, rate_hz: int) -> bytes:
    """A 16-bit FLAC file of (n,) or (n, channels) float samples in -1..1 or int16; floats beyond are scaled down to it.
    More channels or a higher rate than FLAC can take become WAV."""
    if np.issubdtype(samples.dtype, np.floating) and samples.size:
        samples = samples / max(float(np.abs(samples).max()), 1.0)
    buffer = io.BytesIO()
    fits = rate_hz <= FLAC_RATE_HZ and (samples.ndim == 1 or samples.shape[1] <= FLAC_CHANNELS)
    soundfile.write(buffer, samples, rate_hz, format="FLAC" if fits else "WAV", subtype="PCM_16")
    return buffer.getvalue()


class _Bytes(io.BytesIO):
    """A file in memory. Damaged headers make libsndfile seek to before its beginning, and what BytesIO raises then is
    printed from within C."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As BytesIO's; before the beginning is the beginning."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)


# ------------------------------------------------------------------------------------------- checks


@dataclass
class _Measured:
    """What a pass over the samples found; extremes are of the mean of the channels."""

    samples: int = 0
    clipped: int = 0
    values: int = 0
    lowest: float = np.inf
    highest: float = -np.inf
    loudest: float = 0.0  # in any one channel
    finite: bool = True

    def add(self, block: Floats) -> None:
        """Add samples (n, channels)."""
        mono = _mono(block)
        size = np.abs(block)
        self.samples += len(block)
        self.values += block.size
        self.clipped += int((size >= FULL_SCALE).sum())
        self.lowest, self.highest = min(self.lowest, float(mono.min())), max(self.highest, float(mono.max()))
        self.loudest = max(self.loudest, float(size.max()))
        self.finite &= bool(np.isfinite(block).all())


def _blocks(file: Any) -> Iterator[Floats]:
    """Samples (n, channels), a block at a time."""
    frames = max(BLOCK_SAMPLES // file.channels, 1)
    while len(block := file.read(frames, dtype="float32", always_2d=True)):
        yield block


def _mono(block: Floats) -> Floats:
    """The mean of the channels; of two, NumPy's mean takes thirty times as long as their sum."""
    if block.shape[1] == 2:
        return (block[:, 0] + block[:, 1]) / np.float32(2.0)
    return block.mean(axis=1)


def _check_header(file: Any, config: SpeechIngestConfig) -> None:
    if not MIN_RATE_HZ <= file.samplerate <= MAX_RATE_HZ:
        raise Rejected(f"a sample rate of {file.samplerate:,} Hz is outside {MIN_RATE_HZ:,} to {MAX_RATE_HZ:,}")
    known = file.frames < 2**62  # libsndfile gives its largest integer where a header does not say
    if known and file.frames > config.max_seconds * file.samplerate:
        raise Rejected(f"{file.frames / file.samplerate:.1f} s is above max_seconds {config.max_seconds:g}")
    if file.format not in KEPT_FORMATS and "(should be" in file.extra_info:
        raise Rejected("the recording is truncated: its header promises more bytes than there are")


def _measure(file: Any, config: SpeechIngestConfig) -> _Measured:
    found = _Measured()
    try:
        for block in _blocks(file):
            found.add(block)
            if found.samples > config.max_seconds * file.samplerate:
                raise Rejected(f"it is longer than max_seconds {config.max_seconds:g}")
    except DECODE_ERRORS as error:
        raise Rejected(f"the recording is truncated or corrupt after {found.samples:,} samples: {error}") from None
    return found


def _check_content(found: _Measured, file: Any, config: SpeechIngestConfig) -> None:
    slack = MP3_SLACK_SAMPLES if file.format == "MP3" else 0
    if found.samples + slack < file.frames < 2**62:
        raise Rejected(f"the recording is truncated: {found.samples:,} of {file.frames:,} samples are there")
    seconds = found.samples / file.samplerate
    if seconds < config.min_seconds:
        raise Rejected(f"{seconds:.3f} s is below min_seconds {config.min_seconds:g}")
    if not found.finite:
        raise Rejected("it has samples that are not finite")
    if found.highest - found.lowest < 2 * config.silence_peak:  # whatever the constant offset, which no one hears
        if found.loudest > 10 * config.silence_peak and abs(found.highest) < config.silence_peak:
            raise Rejected("its channels cancel each other out")
        raise Rejected(f"it is silent: nothing is louder than silence_peak {config.silence_peak:g} of full scale")
    share = found.clipped / found.values
    if share > config.max_clipped:
        raise Rejected(f"it is clipped: {share:.1%} of its samples are at full scale, above max_clipped")


# ---------------------------------------------------------------------------------------- truncation


def cut_off(data: bytes) -> str | None:
    """How a sound file shows that its end is missing, if it does.

    libsndfile reads what is there of a WAV, an OGG or an MP3 file and says nothing; of FLAC it tells by itself.
    """
    if data[:4] in (b"RIFF", b"RIFX"):
        return _cut_off_wav(data)
    if data[:4] == b"OggS":
        return _cut_off_ogg(data)
    if data[:3] == b"ID3" or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0):
        return _cut_off_mp3(data)
    return None


def _cut_off_wav(data: bytes) -> str | None:
    order = ">" if data[:4] == b"RIFX" else "<"
    position = 12
    while position + 8 <= len(data):
        name, size = data[position : position + 4], struct.unpack(f"{order}I", data[position + 4 : position + 8])[0]
        position += 8
        if name == b"data":
            missing = position + size - len(data)
            return f"{missing:,} bytes of samples are missing" if missing > 0 and size < STREAMED_BYTES else None
        position += size + size % 2
    return "it has no samples"


def _cut_off_ogg(data: bytes) -> str | None:
    position, last = 0, False
    while position < len(data):
        head = data[position : position + 27]
        if head[:4] != b"OggS":  # something appended, such as a tag
            break
        table = data[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        end = position + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or end > len(data):
            return "its last page is cut off"
        last, position = bool(head[5] & 4), end
    return None if last else "its last page does not end the stream"


_MP3_KBITS = {
    "1": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _cut_off_mp3(data: bytes) -> str | None:
    """Follow the frames; only one that starts and does not end says that something is missing."""
    position = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        position = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    while position + 4 <= len(data):
        size = _mp3_frame_bytes(data[position : position + 4])
        if not size:
            return None
        position += size
    return "its last frame is cut off" if position > len(data) else None


def _mp3_frame_bytes(head: bytes) -> int:
    """Length of the MPEG layer III frame that starts with these four bytes; 0 if none does."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kbits = _MP3_KBITS["1" if version == 3 else "2"][bitrate]
    return (144_000 if version == 3 else 72_000) * kbits // _MP3_RATES_HZ[version][rate] + padding
