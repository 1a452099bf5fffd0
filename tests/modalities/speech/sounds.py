"""Small recordings for tests, made on the spot."""

from __future__ import annotations

import io

import numpy as np
import soundfile


def tone(seconds: float = 1.0, rate_hz: int = 16_000, hz: float = 440.0, seed: int = 0) -> np.ndarray:
    """(n,) float32: a tone that rises, in a little noise."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.3 * np.sin(2 * np.pi * hz * t * (1 + t)) + 0.02 * noise).astype(np.float32)


def sound_file(samples: np.ndarray, rate_hz: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """A sound file of (n,) or (n, channels)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()
