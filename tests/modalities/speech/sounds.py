"""Small recordings for tests, made on the spot."""

from __future__ import annotations

import io

import av
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


def by_ffmpeg(
    samples: np.ndarray,
    rate_hz: int,
    form: str,
    codec: str,
    *,
    piped: bool = False,
    variable: bool = False,
    number: str | None = None,
    **options: str,
) -> bytes:
    """A sound file of (n,) or (n, channels) that FFmpeg writes; `piped`: without going back to its header at the end;
    `variable`: at a variable bit rate; `number`: the format of its numbers, such as s16."""
    buffer = io.BytesIO()
    with av.open(_Pipe(buffer) if piped else buffer, "w", format=form, options=options) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono" if samples.ndim == 1 else "stereo")
        stream.codec_context.bit_rate = 64_000
        if number:
            stream.format = number
        if variable:
            stream.codec_context.flags |= 2  # AV_CODEC_FLAG_QSCALE
            stream.codec_context.global_quality = 4 * 118
        values = samples.astype(np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(values, format="flt", layout=stream.layout.name)
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return buffer.getvalue()


class _Pipe:
    """Takes what is written, and cannot be sought in."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self.write = buffer.write


def ffmpeg_reads(data: bytes) -> np.ndarray:
    """(n, channels) float32 of a sound file, by FFmpeg as it comes."""
    with av.open(io.BytesIO(data)) as container:
        to_floats = av.AudioResampler(format="flt")
        frames = [out for frame in container.decode(audio=0) for out in to_floats.resample(frame)]
    return np.concatenate([frame.to_ndarray().reshape(-1, frame.layout.nb_channels) for frame in frames])


def libsndfile_reads(data: bytes) -> np.ndarray:
    """(n, channels) float32 of a sound file, by libsndfile in one go."""
    return soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0]
