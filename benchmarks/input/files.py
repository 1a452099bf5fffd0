"""Files for the measurements: images, recordings and texts that cost about as much to read as real ones.

All of it follows from the seed. No two files are alike, because ingest drops duplicates.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

KINDS = 32  # different images: drawing them takes longer than measuring
CLASSES = 2  # folders, which torchvision's ImageFolder wants
NOISE = 6.0
RATE_HZ = 16_000
SECONDS = (5.0, 10.0)
WORDS, LINES, LINE_WORDS, SENTENCE_WORDS = 5_000, 12, 80, 10


def write_images(folder: Path, items: int, seed: int, width: int, height: int, form: str) -> None:
    """Smooth images with noise.

    Args:
        folder: is made.
        items: how many.
        seed: another one gives others.
        width, height: in pixels.
        form: "PNG" or "JPEG".
    """
    random = np.random.default_rng(seed)
    drawn = [_picture(random, width, height, form) for _ in range(min(KINDS, items))]
    for number in range(items):
        env = folder / f"class_{number % CLASSES}" / f"{number:06d}.{form.lower()}"
        env.parent.mkdir(parents=True, exist_ok=True)
        env.write_bytes(drawn[number % KINDS] + number.to_bytes(8))  # decoders stop before what makes them differ


def _picture(random: np.random.Generator, width: int, height: int, form: str) -> bytes:
    blobs = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = smooth + NOISE * random.standard_normal(smooth.shape, dtype=np.float32)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, format=form, quality=90)
    return buffer.getvalue()


def write_recordings(folder: Path, items: int, seed: int) -> None:
    """Tones with harmonics under noise at 16 kHz, by turns WAV and FLAC, 5 to 10 seconds long."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(items):
        time_s = np.arange(round(random.uniform(*SECONDS) * RATE_HZ), dtype=np.float32) / RATE_HZ
        pitch_hz = random.uniform(90.0, 250.0)
        tones = sum(np.sin(2 * np.pi * pitch_hz * harmonic * time_s) / harmonic for harmonic in (1, 2, 3))
        wave = 0.1 * tones * np.sin(2 * np.pi * 3.0 * time_s) + 0.01 * random.standard_normal(len(time_s))
        soundfile.write(folder / f"{number:06d}.{('wav', 'flac')[number % 2]}", wave, RATE_HZ, subtype="PCM_16")


def write_texts(folder: Path, items: int, seed: int) -> None:
    """Sentences of made-up words, the n-th as frequent as 1 / n, in lines of about a hundred tokens."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    letters = np.array(list("aaabcdeeeefghiiijklmnooopqrstuvwxyz"))
    words = np.array(["".join(random.choice(letters, random.integers(2, 9))) for _ in range(WORDS)])
    often = 1.0 / np.arange(1, WORDS + 1)
    ends = np.tile([*[" "] * (SENTENCE_WORDS - 1), ". "], LINE_WORDS // SENTENCE_WORDS)
    for number in range(items):
        chosen = random.choice(words, (LINES, LINE_WORDS), p=often / often.sum())
        lines = ("".join(np.char.add(line, ends)).rstrip() for line in chosen)
        (folder / f"{number:06d}.txt").write_text("\n".join(lines) + "\n")
