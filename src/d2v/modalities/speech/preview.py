"""Clips of stored recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from d2v.modalities.base import Preview
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.speech.decoders import Floats, Sound, open_sound
from d2v.modalities.speech.reading import mono, to_flac
from d2v.modalities.speech.resampling import resample

CLIP_S = 4.0
SHOWN = ("transcript", "speaker")
"""Texts of a recording, as far as the corpus has them."""
SHOWN_CHARACTERS = 200


def preview(data: bytes, said: Mapping[str, object]) -> Preview:
    """The first CLIP_S of a recording: one channel at 16 kHz, as FLAC, which all browsers play."""
    with open_sound(data) as sound:
        wave = resample(_beginning(sound), sound.rate_hz, "soxr_hq")
    texts = [str(said[name])[:SHOWN_CHARACTERS] for name in SHOWN if said.get(name)]
    if len(wave) >= int(CLIP_S * RATE_HZ):
        texts.append(f"the first {CLIP_S:g} s")
    return Preview(" \u2014 ".join(texts), "audio/flac", to_flac(wave, RATE_HZ))


def _beginning(sound: Sound) -> Iterator[Floats]:
    left = int(CLIP_S * sound.rate_hz)
    for block in sound.blocks:
        yield mono(block[:left])
        left -= len(block)
        if left <= 0:
            return
