"""A sound file, opened by the decoder that reads all of it.

libsndfile reads WAV, FLAC, Ogg Vorbis and Opus, AIFF, AU, CAF and rarer formats, and gives their exact lengths. FFmpeg
(PyAV) reads what libsndfile does not know, and what it would only guess the length of: MPEG audio, FLAC of unknown
length, VOC. `containers` says which files these are.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

from d2v.data.ingest import Rejected
from d2v.modalities.speech.containers import DAMAGED, Layout, look

Floats = NDArray[np.float32]

BLOCK_SAMPLES = 2**20
UNKNOWN_FRAMES = 2**62  # libsndfile gives its largest integer where a header does not say
DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,avr,caf,dsf,dts,dtshd,eac3,epaf,flac,iff,ircam,loas,matroska,mlp,mov,mp3,mpc,mpc8,"
    "nistsphere,ogg,pvf,qcp,shn,sox,tak,truehd,tta,voc,w64,wav,wv"
)
"""What FFmpeg may take a file for: no playlists, for they can name other files and hosts."""
KINDS = {"mov,mp4,m4a,3gp,3g2,mj2": "MP4", "matroska,webm": "Matroska", "asf": "WMA", "nistsphere": "NIST"}
MAGICS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"caff": "CAF", b"\x1aE\xdf\xa3": "Matroska", b".snd": "AU"}
DECLARE_SECONDS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "caf", "flac", "tta", "wv", "ape", "tak")
"""Formats whose header tells the duration; of others FFmpeg guesses it."""
SLACK_S = 0.2  # such durations are rounded, and encoders disagree on whether their delay is part of it
SKIP_MANUAL = 1 << 29
"""AV_CODEC_FLAG2_SKIP_MANUAL: FFmpeg drops nothing. Else it cuts the last packet of ALAC in CAF a second time, which is
short already, and two frames (93 ms at 44.1 kHz) from the beginning of WMA, where some encoders put one before it."""
FULL_SCALE = {"u8": (128, 128), "s16": (0, 2**15), "s32": (0, 2**31), "flt": (0, 1), "dbl": (0, 1)}
"""Number format -> (zero, full scale)."""


@dataclass
class Sound:
    """A sound file that is open.

    Attributes:
        kind: of the file, such as WAV.
        codec: within it, in the decoder's words.
        rate_hz: samples a second.
        channels: C.
        blocks: (n, C) float32, full scale is 1; reading them raises what the decoder raises, or Rejected.
        promised: the fewest samples that its header promises, where it does.
        is_float: whether values above full scale are possible and not clipped.
        complaint: libsndfile's, if the header promises more than there is.
        notes: what is left out of it; complete after the last block.
    """

    kind: str
    codec: str
    rate_hz: int
    channels: int
    blocks: Iterator[Floats]
    promised: int = 0
    is_float: bool = False
    complaint: str = ""
    notes: list[str] = field(default_factory=list)


@contextmanager
def open_sound(data: bytes, layout: Layout | None = None) -> Iterator[Sound]:
    """Open a sound file; the recordings of a chain are read as one.

    Args:
        data: the file.
        layout: what `look` says of it, if that is known.

    Raises:
        Rejected: it is none, or no decoder takes it.
    """
    layout = layout or look(data)
    with _opened(layout.links[0], layout.decoder) as sound:
        if len(layout.links) > 1:
            sound.blocks, sound.promised = _chained(sound, sound.blocks, layout), 0
        sound.notes += [layout.note] if layout.note else []
        yield sound


def _chained(first: Sound, blocks: Iterator[Floats], layout: Layout) -> Iterator[Floats]:
    yield from blocks
    for link in layout.links[1:]:
        with _opened(link, layout.decoder) as sound:
            if (sound.rate_hz, sound.channels) != (first.rate_hz, first.channels):
                raise Rejected(
                    f"it joins recordings of {first.rate_hz:,} Hz with {first.channels} channels and {sound.rate_hz:,} "
                    f"Hz with {sound.channels}"
                )
            yield from sound.blocks
            first.notes += [note for note in sound.notes if note not in first.notes]


def _opened(data: bytes, decoder: str) -> AbstractContextManager[Sound]:
    if decoder:
        return _by_ffmpeg(data, "mp3" if decoder == "mp3" else None)
    try:
        file = soundfile.SoundFile(_Bytes(data))
    except Exception:  # whatever it is, FFmpeg may know it
        return _by_ffmpeg(data, None)
    if file.frames >= UNKNOWN_FRAMES:
        file.close()
        return _by_ffmpeg(data, None)
    return _by_libsndfile(file)


# ----------------------------------------------------------------------------------------- libsndfile


class _Bytes(io.BytesIO):
    """A file in memory. Damaged headers make libsndfile seek to before its beginning, and what BytesIO raises then is
    printed from within C."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As BytesIO's; before the beginning is the beginning."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return super().seek(0)


@contextmanager
def _by_libsndfile(file: Any) -> Iterator[Sound]:
    with file:
        frames = max(BLOCK_SAMPLES // file.channels, 1)

        def blocks() -> Iterator[Floats]:
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                yield block

        is_float = file.subtype in ("FLOAT", "DOUBLE")
        complaint = file.extra_info if "(should be" in file.extra_info else ""
        yield Sound(
            file.format, file.subtype, file.samplerate, file.channels, blocks(), file.frames, is_float, complaint
        )


# --------------------------------------------------------------------------------------------- FFmpeg


@contextmanager
def _by_ffmpeg(data: bytes, form: str | None) -> Iterator[Sound]:
    try:
        container = av.open(io.BytesIO(data), format=form, options={"format_whitelist": DEMUXERS})
    except Exception as error:
        raise Rejected(_unopened(data, error)) from None
    with container:
        if not container.streams.audio:
            raise Rejected("it holds no sound")
        stream = container.streams.audio[0]
        codec, name = stream.codec_context, container.format.name
        if codec is None:
            raise Rejected(f"it is {KINDS.get(name, name.upper())} with a codec that is unknown")
        if (name, codec.name) == ("caf", "alac") or codec.name in ("wmav1", "wmav2"):
            codec.flags2 |= SKIP_MANUAL
        if codec.name == "flac":
            codec.options = {"err_detect": "crccheck+explode"}
        notes: list[str] = []
        frames = _frames(container, stream, notes, forgiving=form == "mp3")
        try:
            first = next(frames, None)
        except Rejected:
            raise
        except Exception as error:
            kind, said = KINDS.get(name, name.upper()), getattr(error, "strerror", None) or str(error)
            raise Rejected(f"it is {kind} ({codec.name}), and its first samples cannot be decoded: {said}") from None
        if first is None:
            raise Rejected("it has no samples")
        if len(container.streams.audio) > 1:
            notes.append("first of several sound tracks")
        yield Sound(
            KINDS.get(name, name.upper()),
            codec.name,
            first.sample_rate,
            first.layout.nb_channels,
            _blocks(first, frames),
            _promised(container, stream, first.sample_rate),
            codec.name.startswith("pcm_f") or codec.name == "wavpack",
            notes=notes,
        )


def _frames(container: Any, stream: Any, notes: list[str], forgiving: bool) -> Iterator[Any]:
    """Decoded frames. `forgiving`: damaged ones are left out, as every player does with MP3."""
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except av.error.InvalidDataError:
            if not forgiving:
                raise
            notes[:] = [DAMAGED]
            continue
        for frame in decoded:
            if container.format.name == "flac" and frame.pts is None:  # FFmpeg lost its way and found another frame
                raise Rejected("the recording is damaged: frames are missing")
            if frame.samples:
                yield frame


def _blocks(first: Any, rest: Iterable[Any]) -> Iterator[Floats]:
    """Frames as (n, channels), many of them in a block."""
    rate_hz, channels = first.sample_rate, first.layout.nb_channels
    limit = max(BLOCK_SAMPLES // channels, 1)
    parts, count, failure = [_floats(first)], first.samples, None
    frames = iter(rest)
    while True:
        try:
            frame = next(frames, None)
        except Exception as error:  # raised below, after what was read before it
            frame, failure = None, error
        if parts and (frame is None or count >= limit):
            yield np.concatenate(parts)
            parts, count = [], 0
        if failure:
            raise failure
        if frame is None:
            return
        if (frame.sample_rate, frame.layout.nb_channels) != (rate_hz, channels):
            raise Rejected(
                f"its sample rate or channels change, from {rate_hz:,} Hz with {channels} to {frame.sample_rate:,} Hz "
                f"with {frame.layout.nb_channels}"
            )
        parts.append(_floats(frame))
        count += frame.samples


def _floats(frame: Any) -> Floats:
    """(n, channels), full scale is 1."""
    name = frame.format.packed.name
    if name not in FULL_SCALE:
        (frame,) = av.AudioResampler(format="fltp").resample(frame)
        name = "flt"
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    values = values.T if frame.format.is_planar else values.reshape(-1, channels)
    zero, full = FULL_SCALE[name]
    if full == 1:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(zero)) / np.float32(full)


def _promised(container: Any, stream: Any, rate_hz: int) -> int:
    if container.format.name not in DECLARE_SECONDS:
        return 0
    if stream.duration is not None:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration is not None and not container.streams.video:
        seconds = container.duration / av.time_base
    else:
        return 0
    exact = container.format.name == "flac"
    return round(seconds * rate_hz) if exact else max(int((seconds - SLACK_S) * rate_hz), 0)


def _unopened(data: bytes, error: Exception) -> str:
    """Why no decoder took a file."""
    if data[:4] in (b"RIFF", b"FORM"):
        name = f"a {data[:4].decode()} file of type {data[8:12].decode('latin-1').strip()}"
    else:
        name = MAGICS.get(data[:4], "MP4" if data[4:8] == b"ftyp" else "")
    if name:
        said = getattr(error, "strerror", None) or str(error)
        return f"it looks like {name}, but its header is damaged or its codec unknown: {said}"
    return "it is not audio, or its header is damaged (WAV, FLAC, OGG, MP3, AIFF, AU, CAF, MP4, WMA ... are read)"
