"""From any sample rate to 16 kHz, a block at a time.

Of a tone at 8.1 kHz, soxr's HQ lets less than -130 dB fold into the band, torchaudio's default -7 dB. What
was prepared or trained with torchaudio's keeps it, for another filter gives other features.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2v.modalities.speech.config import RATE_HZ, Resampler

RESAMPLER_OF_OLD: Resampler = "torchaudio"
"""Of corpora, prepared folders and models that do not say which."""
RATIO_DENOMINATOR = 1_000

Floats = NDArray[np.float32]


def resample(blocks: Iterable[Floats], rate_hz: float, resampler: Resampler) -> Floats:
    """Samples (n,) at RATE_HZ.

    Args:
        blocks: (m,) float32 samples of one channel, one block after another.
        rate_hz: their sample rate.
        resampler: see `SpeechIngestConfig.resampler`.
    """
    if rate_hz == RATE_HZ:
        return _joined(blocks)
    if resampler == "torchaudio":
        return _by_torchaudio(_joined(blocks), rate_hz)
    import soxr

    stream = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    parts = [stream.resample_chunk(np.ascontiguousarray(block)) for block in blocks]
    return _joined([*parts, stream.resample_chunk(np.zeros(0, np.float32), last=True)])


def _joined(blocks: Iterable[Floats]) -> Floats:
    parts = list(blocks)
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _by_torchaudio(wave: Floats, rate_hz: float) -> Floats:
    import torch

    with torch.no_grad():
        ratio = (Fraction(RATE_HZ) / Fraction(rate_hz)).limit_denominator(RATIO_DENOMINATOR)
        return _sinc(ratio)(torch.from_numpy(np.ascontiguousarray(wave))).numpy()


@functools.lru_cache(maxsize=16)
def _sinc(ratio: Fraction) -> Any:
    """torchaudio's windowed sinc. Its filter bank has numerator x denominator taps: rates such as 44,101 Hz would need
    gigabytes, so ratios are approximated to a millionth, which no ear or model hears."""
    from torchaudio.transforms import Resample

    return Resample(ratio.denominator, ratio.numerator)
