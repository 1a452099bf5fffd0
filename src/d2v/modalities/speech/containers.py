"""How the bytes of a sound file lie: several recordings one after another, a length that the header does not know, an
end that is missing.

Decoders hide all three. libsndfile reads the first recording of a chained Ogg or of joined MP3 files and stops; it
believes a header that says 0 bytes; it guesses the length of an MP3 file without a table of contents.
"""

from __future__ import annotations

import functools
import re
import struct
from dataclasses import dataclass

PLACEHOLDER = 0x7FFF_0000
"""Programs that write to a pipe declare such a size or a larger one, for they cannot know it."""
LEFT_OUT_BYTES = 4096
"""Fewer bytes after the end of a recording are tags or padding."""
LEFT_OUT, DAMAGED = "bytes after its end left out", "damaged frames left out"
"""What is said of a recording that is not read whole."""
MPEG_IN_WAV = (0x50, 0x55)
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"


@dataclass(frozen=True)
class Layout:
    """What a sound file holds.

    Attributes:
        links: its recordings as files of their own, one after another; mostly the file itself.
        cut_off: how it shows that its end is missing, if it does.
        decoder: `ffmpeg` where libsndfile would guess the length, `mp3` for MPEG audio, else empty.
        note: what is left out of it, if anything is.
    """

    links: tuple[bytes, ...]
    cut_off: str | None = None
    decoder: str = ""
    note: str = ""


def look(data: bytes) -> Layout:
    """How the bytes of a sound file lie. What it does not know is one recording."""
    if data[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data[8:12] == b"WAVE":
        return _wav(data)
    if data[:8] == W64_RIFF[:8]:
        return _w64(data)
    if data[:4] == b".snd":
        return _au(data)
    if data[:4] == b"OggS":
        return _ogg(data)
    if data[:19] == b"Creative Voice File":
        return Layout((data,), _cut_off_voc(data), "ffmpeg")  # libsndfile takes headers of later blocks for samples
    for magic, at, cut_off in _CHECKED:
        if data[at : at + len(magic)] == magic:
            return Layout((data,), cut_off(data))
    start = _id3_bytes(data, 0)
    if data[start : start + 4] == b"fLaC":
        return _flac(data, start)
    first = _next_mpeg_frame(data, start, start + (2**16 if start else 3))
    if first is not None:
        return _mpeg(data, first)
    return Layout((data,))


# ---------------------------------------------------------------------------------------------- chunks


def _wav(data: bytes) -> Layout:
    order = ">" if data[:4] == b"RIFX" else "<"
    position, long_bytes, decoder, at_ds64 = 12, None, "", 0
    while position + 8 <= len(data):
        name, (size,) = data[position : position + 4], struct.unpack_from(f"{order}I", data, position + 4)
        position += 8
        if name == b"ds64" and len(data) >= position + 24:
            at_ds64, (long_bytes,) = position, struct.unpack_from("<Q", data, position + 8)
        elif name == b"fmt " and len(data) >= position + 2:
            (tag,) = struct.unpack_from(f"{order}H", data, position)
            decoder = "ffmpeg" if tag in MPEG_IN_WAV else ""
        elif name == b"data":
            return _wav_samples(data, position, size, (at_ds64, long_bytes), decoder)
        position += size + size % 2
    return Layout((data,), "it has no samples")


def _wav_samples(data: bytes, start: int, size: int, ds64: tuple[int, int | None], decoder: str) -> Layout:
    """The layout of a WAV file whose samples begin at `start`."""
    at_ds64, long_bytes = ds64
    there = len(data) - start
    if long_bytes is not None and size == 0xFFFF_FFFF:
        if there and not 0 < long_bytes < 2**63:
            return Layout((_patched(data, at_ds64, struct.pack("<QQQ", len(data) - 8, there, 0)),), decoder=decoder)
        size = long_bytes
    elif size == 0 and there:  # it was never closed
        unknown = b"\xff" * 4
        return Layout((_patched(_patched(data, 4, unknown), start - 4, unknown),), decoder=decoder)
    elif size >= PLACEHOLDER:
        return Layout((data,), decoder=decoder)
    if size > there:
        return Layout((data,), f"{size - there:,} bytes of samples are missing", decoder)
    end = start + size + size % 2
    if data[end : end + 4] in (b"RIFF", b"RF64") and data[end + 8 : end + 12] == b"WAVE":
        rest = look(data[end:])
        return Layout((data[:end], *rest.links), rest.cut_off, decoder or rest.decoder, rest.note)
    is_chunk = re.fullmatch(rb"[ -~]{4}", data[end : end + 4]) is not None
    return Layout((data,), None, decoder, LEFT_OUT if not is_chunk and len(data) - end > LEFT_OUT_BYTES else "")


def _w64(data: bytes) -> Layout:
    """Sony's WAV: names of 16 bytes, sizes of 8 that count their own heads."""
    position = 40
    while position + 24 <= len(data):
        (size,) = struct.unpack_from("<Q", data, position + 16)
        if data[position : position + 4] == b"data":
            if size <= 24 or size >= 2**62:  # unknown
                size = len(data) - position
                data = _patched(data, 16, struct.pack("<Q", len(data)))
                data = _patched(data, position + 16, struct.pack("<Q", size))
            return Layout((data,), _beyond(position + size, data))
        position += max(size + -size % 8, 24)
    return Layout((data,), "it has no samples")


def _cut_off_aiff(data: bytes) -> str | None:
    position = 12
    while position + 8 <= len(data):
        name, (size,) = data[position : position + 4], struct.unpack_from(">I", data, position + 4)
        position += 8
        if name == b"SSND":
            missing = position + size - len(data)
            return f"{missing:,} bytes of samples are missing" if missing > 0 and size < PLACEHOLDER else None
        position += size + size % 2
    return "it has no samples"


def _au(data: bytes) -> Layout:
    if len(data) < 24:
        return Layout((data,), "its header is cut off")
    start, size = struct.unpack_from(">II", data, 4)
    if size == 0 and len(data) > start:
        return Layout((_patched(data, 8, b"\xff" * 4),))
    if size >= PLACEHOLDER:
        return Layout((data,))
    missing = start + size - len(data)
    if missing > 0:
        return Layout((data,), f"{missing:,} bytes of samples are missing")
    return Layout((data,), note=LEFT_OUT if -missing > LEFT_OUT_BYTES else "")


def _cut_off_caf(data: bytes) -> str | None:
    position = 8
    while position + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, position)
        if name == b"data" and size <= 0:  # it goes on to the end
            return None
        position += 12 + max(size, 0)
    return _beyond(position, data)


def _cut_off_nist(data: bytes) -> str | None:
    """SPHERE's header is text: its own size, then lines such as `sample_count -i 48000`."""
    head = data[:4096].split(b"end_head")[0]
    said = {line.split()[0]: line.split()[-1] for line in head.splitlines() if len(line.split()) > 2}
    try:
        size, samples, width = int(head.split()[1]), int(said[b"sample_count"]), int(said[b"sample_n_bytes"])
        channels = int(said.get(b"channel_count", b"1"))
    except (IndexError, KeyError, ValueError):
        return None
    if said.get(b"sample_coding", b"pcm") not in (b"pcm", b"ulaw", b"mu-law", b"alaw"):  # compressed
        return None
    return _beyond(size + samples * channels * width, data)


def _cut_off_voc(data: bytes) -> str | None:
    position = int.from_bytes(data[20:22], "little")
    while position + 4 <= len(data) and data[position]:
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "little")
    return _beyond(position, data)


def _cut_off_mp4(data: bytes) -> str | None:
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        position = position + size if size >= 8 else len(data)  # 0: it goes on to the end
    return _beyond(position, data) or (None if b"moov" in data else "its index (moov) is missing")


def _cut_off_matroska(data: bytes) -> str | None:
    at = data.find(b"\x18\x53\x80\x67", 0, 4096) + 4
    if at < 4 or at >= len(data) or not data[at]:
        return None
    width = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + width], "big") & (1 << 7 * width) - 1
    unknown = size == (1 << 7 * width) - 1
    return None if unknown else _beyond(at + width + size, data)


def _cut_off_asf(data: bytes) -> str | None:
    at = data.find(bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365"), 0, 2**16)
    if at < 0 or len(data) < at + 92 or data[at + 88] & 1:  # a broadcast does not know its size
        return None
    return _beyond(int.from_bytes(data[at + 40 : at + 48], "little"), data)


def _beyond(end: int, data: bytes) -> str | None:
    return f"{end - len(data):,} bytes are missing" if end > len(data) else None


_CHECKED = (
    (b"AIFF", 8, _cut_off_aiff),
    (b"AIFC", 8, _cut_off_aiff),
    (b"caff", 0, _cut_off_caf),
    (b"NIST_1A", 0, _cut_off_nist),
    (b"ftyp", 4, _cut_off_mp4),
    (b"\x1aE\xdf\xa3", 0, _cut_off_matroska),
    (b"\x30\x26\xb2\x75", 0, _cut_off_asf),
)
"""(magic, where it stands, reason to say that the end is missing) of formats that hold one recording."""


def _patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


# ------------------------------------------------------------------------------------------------ Ogg


def _ogg(data: bytes) -> Layout:
    """Pages that begin a stream, after pages that do not, begin the next link of a chain."""
    position, begins, in_head, is_last = 0, [0], True, False
    while position < len(data):
        head = data[position : position + 27]
        if head[:4] != b"OggS":  # something appended, such as a tag
            break
        table = data[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        end = position + 27 + len(table) + sum(table)
        if len(head) < 27 or len(table) < head[26] or end > len(data):
            return Layout((data,), "its last page is cut off")
        if head[5] & 2 and not in_head:
            begins.append(position)
        in_head, is_last, position = bool(head[5] & 2), bool(head[5] & 4), end
    reason = None if is_last else "its last page does not end the stream"
    note = LEFT_OUT if len(data) - position > LEFT_OUT_BYTES else ""
    if len(begins) == 1:
        return Layout((data,), reason, note=note)
    ends = [*begins[1:], position]
    return Layout(tuple(data[begin:end] for begin, end in zip(begins, ends, strict=True)), reason, note=note)


# ----------------------------------------------------------------------------------------------- FLAC

FLAC_HEAD = b"fLaC\0\0\0\x22"  # the magic and the head of the block that every FLAC file begins with
_FLAC_BLOCKS = {
    1: 192,
    **{code: 576 << code - 2 for code in range(2, 6)},
    **{code: 256 << code - 8 for code in range(8, 16)},
}


def _flac(data: bytes, start: int) -> Layout:
    """Each FLAC file in it gets the length that its last frame tells, where its header does not know it or is wrong."""
    begins = [start]
    while (following := data.find(FLAC_HEAD, begins[-1] + 4)) >= 0:
        begins.append(following)
    links, reason, decoder = [], None, ""
    for begin, end in zip(begins, [*begins[1:], len(data)], strict=True):
        link = data if (begin, end) == (0, len(data)) else data[begin:end]
        total, last = _flac_total(link), _last_flac_frame(link)
        is_right = last is not None and last.start < total <= last.end
        if not is_right and last and _crc(link[last.at : last.stop], 16, 0x8005) == 0:
            if total > last.end:
                reason = f"{last.end:,} of {total:,} samples are there"
            link = _patched(link, 21, struct.pack(">BI", link[21] & 0xF0 | last.end >> 32, last.end & 0xFFFF_FFFF))
        elif not total or (last and last.start >= total):
            decoder = "ffmpeg"
        links.append(link)
    return Layout(tuple(links), reason, decoder)


def _flac_total(data: bytes) -> int:
    """Samples that the header tells, 0 if it does not know them."""
    high, low = struct.unpack_from(">BI", data, 21) if len(data) >= 26 else (0, 1)
    return (high & 15) << 32 | low


@dataclass(frozen=True)
class _FlacFrame:
    """The last frame of a FLAC file: its first sample and the one after it; its first byte and the one after it."""

    start: int
    end: int
    at: int
    stop: int


def _last_flac_frame(data: bytes) -> _FlacFrame | None:
    """Found from the end backwards by its check byte; None if there is none."""
    end = len(data) - 128 if data[-128:-125] == b"TAG" else len(data)
    at, first = end, max(42, end - 2**17)
    while (at := max(data.rfind(b"\xff\xf8", first, at), data.rfind(b"\xff\xf9", first, at))) >= 0:
        head = data[at : at + 16]
        if len(head) < 6 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] >> 4 > 10 or head[3] & 1:
            continue
        more = 0 if head[4] < 0x80 else max(7 - (~head[4] & 0xFF).bit_length(), 0)
        extra = {6: 1, 7: 2}.get(head[2] >> 4, 0)
        checked = 5 + more + extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        if checked >= len(head) or _crc(head[:checked], 8, 0x07) != head[checked]:
            continue
        number = head[4] & (0x3F >> more) if more else head[4]
        for byte in head[5 : 5 + more]:
            number = number << 6 | byte & 0x3F
        own = int.from_bytes(head[5 + more : 5 + more + extra], "big") + 1
        samples = own if extra else _FLAC_BLOCKS[head[2] >> 4]
        start = number if head[1] & 1 else number * int.from_bytes(data[10:12], "big")
        return _FlacFrame(start, start + samples, at, end)
    return None


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    table, mask, crc = _crc_table(bits, polynomial), (1 << bits) - 1, 0
    for byte in data:
        crc = (crc << 8 ^ table[crc >> bits - 8 ^ byte]) & mask
    return crc


@functools.lru_cache(maxsize=2)
def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc >> bits - 1 else 0)
            crc &= (1 << bits) - 1
        table.append(crc)
    return table


# ----------------------------------------------------------------------------------------- MPEG audio

_KBITS = {
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # version 1, layer III
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),  # version 1, layer II
    (2, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # versions 2 and 2.5, both layers
}
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_HEAD = re.compile(rb"\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]", re.DOTALL)


def _mpeg(data: bytes, first: int) -> Layout:
    """Follow the frames. A table of contents (Xing, Info) or a tag between frames begins the next link; a frame that
    starts and does not end, or fewer frames than the table counts, says that something is missing."""
    tables = {found.start() for found in re.finditer(b"Xing|Info", data)}
    links: list[tuple[int, int]] = []  # (begin, end)
    begin, at, count, promised = first, first, 0, 0
    reason, is_damaged = None, False

    def close(end: int) -> None:
        nonlocal reason, count, promised
        if end > begin:
            links.append((begin, end))
        if count + 1 < promised:  # encoders disagree on whether the table counts itself
            reason = f"{count:,} of {promised:,} frames are there"  # or damaged
        count = promised = 0

    while at + 4 <= len(data):
        size = _mpeg_frame_bytes(data[at : at + 4])
        if size and _follows(data, begin, at):
            if tables and (table := _table_at(data, at, tables)) is not None:
                close(at)
                begin, promised = at, table
            else:
                count += 1
            at += size
            continue
        end, tag = at, _tag_bytes(data, at)
        following = _next_mpeg_frame(data, at + max(tag, 1), len(data))
        if following is None:
            break
        is_damaged |= not tag
        at = following
        if tag or not _follows(data, begin, following):
            close(end)
            begin = following
    end = min(at, len(data))
    close(end)
    if at > len(data):
        reason = "its last frame is cut off"
    rest = len(data) - end - _tag_bytes(data, end)
    pieces = tuple(data[start:stop] for start, stop in links)
    note = DAMAGED if is_damaged else LEFT_OUT if rest > LEFT_OUT_BYTES else ""
    return Layout(pieces, reason, "mp3", note)


@functools.lru_cache(maxsize=4096)
def _mpeg_frame_bytes(head: bytes) -> int:
    """Length of the frame of MPEG layer II or III that starts with these four bytes; 0 if none does."""
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if head[0] != 0xFF or head[1] < 0xE0 or version == 1 or layer in (0, 3) or bitrate in (0, 15) or rate == 3:
        return 0
    kbits = _KBITS[(3, layer) if version == 3 else (2, 1)][bitrate]
    return (144_000 if version == 3 or layer == 2 else 72_000) * kbits // _RATES_HZ[version][rate] + padding


def _follows(data: bytes, first: int, at: int) -> bool:
    """Whether two frames have the same version, layer and sample rate."""
    return not ((data[first + 1] ^ data[at + 1]) & 0xFE or (data[first + 2] ^ data[at + 2]) & 0x0C)


def _next_mpeg_frame(data: bytes, start: int, stop: int) -> int | None:
    """Where the next frame begins that another one, a tag or the end follows."""
    for found in _HEAD.finditer(data, start, min(stop, len(data))):
        at = found.start()
        if size := _mpeg_frame_bytes(data[at : at + 4]) if at + 4 <= len(data) else 0:
            after = at + size
            is_frame = (
                after + 4 <= len(data) and _mpeg_frame_bytes(data[after : after + 4]) and _follows(data, at, after)
            )
            if is_frame or after == len(data) or _tag_bytes(data, after):
                return at
    return None


def _table_at(data: bytes, at: int, tables: set[int]) -> int | None:
    """Frames that the table of contents in this frame promises, 0 if it does not say; None if there is no table."""
    is_v1, is_mono = data[at + 1] >> 3 & 3 == 3, data[at + 3] >> 6 == 3
    place = at + 4 + ((17 if is_mono else 32) if is_v1 else (9 if is_mono else 17)) + (0 if data[at + 1] & 1 else 2)
    if place not in tables and (place := place - (0 if data[at + 1] & 1 else 2)) not in tables:
        return None
    if len(data) < place + 12 or not data[place + 7] & 1:
        return 0
    return int(struct.unpack_from(">I", data, place + 8)[0])


def _tag_bytes(data: bytes, at: int) -> int:
    """Length of the ID3 or APE tag that begins here, else 0."""
    if data[at : at + 8] == b"APETAGEX" and len(data) >= at + 16:
        return 32 + int(struct.unpack_from("<I", data, at + 12)[0])
    return 128 if data[at : at + 3] == b"TAG" else _id3_bytes(data, at)


def _id3_bytes(data: bytes, at: int) -> int:
    if data[at : at + 3] != b"ID3" or len(data) < at + 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[at + 6 : at + 10], (21, 14, 7, 0), strict=True))
