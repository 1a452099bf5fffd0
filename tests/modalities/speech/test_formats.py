"""Every format and writer of the table in docs/data.md, read as ingest reads it and by an independent decoder; and the
same files joined, of unknown length, and cut off."""

import struct
from functools import partial

import numpy as np
import pytest
import soundfile

from d2v.data.ingest import Rejected
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.containers import DAMAGED, LEFT_OUT, look
from d2v.modalities.speech.decoders import open_sound
from d2v.modalities.speech.preparation import sixteen_bit
from d2v.modalities.speech.reading import SCALED, decode, read_recording, to_flac
from tests.modalities.speech.sounds import by_ffmpeg, ffmpeg_reads, libsndfile_reads, sound_file, tone

CONFIG = SpeechIngestConfig(source="x")
RATE_HZ = 16_000
ONE = tone(2.0)
TWO = tone(1.5, seed=1, hz=300)
STEREO = np.stack([ONE, tone(2.0, seed=2)], axis=1)
MP3_DELAY = 1105  # samples; without a table of contents no decoder drops them


def samples_of(data: bytes) -> np.ndarray:
    """(n, channels) as ingest and prepare read them, after a check that ingest takes the file."""
    record = read_recording(data, CONFIG)
    with open_sound(data) as sound:
        samples = np.concatenate(list(sound.blocks))
        assert record.facts == {"samples": len(samples), "rate_hz": sound.rate_hz, "channels": samples.shape[1]}
    assert len(decode(record.data, "soxr_hq")) == pytest.approx(len(samples) / sound.rate_hz * RATE_HZ, abs=1)
    return samples


def reason(data: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        read_recording(data, CONFIG)
    return str(caught.value)


def as_int16(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples.astype(np.float64) * 32_768).astype(np.int64)


# ------------------------------------------------------------------ libsndfile, compared with FFmpeg

BY_LIBSNDFILE = [
    *[("WAV", name) for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")],
    *[("WAV", name) for name in ("IMA_ADPCM", "MS_ADPCM", "GSM610")],
    *[
        (kind, "PCM_16")
        for kind in ("WAVEX", "W64", "RF64", "NIST", "AVR", "IRCAM", "PAF", "PVF", "SVX", "VOC", "FLAC")
    ],
    *[("FLAC", name) for name in ("PCM_S8", "PCM_24")],
    *[("AIFF", name) for name in ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM", "GSM610")],
    *[("AU", name) for name in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW", "ALAW")],
    *[("CAF", name) for name in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW")],
    *[("NIST", name) for name in ("ULAW", "ALAW", "PCM_24")],
    ("VOC", "ULAW"),
    ("OGG", "VORBIS"),
    ("MP3", None),
]
LOOSE = {"MS_ADPCM": 0.02, "IMA_ADPCM": 0.005}  # decoders round differently


@pytest.mark.parametrize(("kind", "subtype"), BY_LIBSNDFILE)
def test_what_libsndfile_writes_is_read_as_ffmpeg_reads_it(kind, subtype):
    data = sound_file(ONE, RATE_HZ, kind, subtype)
    ours, theirs = samples_of(data), ffmpeg_reads(data)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= LOOSE.get(subtype, 5e-6)
    assert np.corrcoef(ours[: len(ONE), 0], ONE)[0, 1] > 0.95


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", None)])
def test_stereo_is_read_as_ffmpeg_reads_it(kind, subtype):
    data = sound_file(STEREO, RATE_HZ, kind, subtype)
    assert np.abs(samples_of(data) - ffmpeg_reads(data)).max() < 5e-6


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *[("AU", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40"), ("WAV", "G721_32"), ("W64", "GSM610")],
        *[("XI", "DPCM_16"), ("HTK", "PCM_16"), ("MAT4", "PCM_16"), ("MAT5", "PCM_16"), ("SDS", "PCM_16")],
        *[("WAV", "NMS_ADPCM_32"), ("OGG", "OPUS"), ("CAF", "ALAC_16"), ("CAF", "ALAC_24")],
    ],
)
def test_what_ffmpeg_reads_otherwise_or_not_at_all_is_what_was_written(kind, subtype):
    samples = samples_of(sound_file(ONE, RATE_HZ, kind, subtype))[:, 0]
    assert len(ONE) <= len(samples) < len(ONE) + 1000
    assert np.corrcoef(samples[: len(ONE)], ONE)[0, 1] > 0.97


# ---------------------------------------------------------- FFmpeg's files, compared with libsndfile or exact

piped = partial(by_ffmpeg, piped=True)


@pytest.mark.parametrize(
    ("write", "form", "codec"),
    [
        *[(by_ffmpeg, "wav", "pcm_s16le"), (piped, "wav", "pcm_s16le"), (by_ffmpeg, "w64", "pcm_s16le")],
        *[(by_ffmpeg, form, "pcm_s16be") for form in ("aiff", "au", "caf")],
        *[(piped, form, "pcm_s16be") for form in ("aiff", "au")],
        *[(by_ffmpeg, "wav", codec) for codec in ("pcm_f32le", "pcm_s24le", "pcm_mulaw", "adpcm_ms", "libmp3lame")],
        *[(by_ffmpeg, "flac", "flac"), (by_ffmpeg, "ogg", "libopus")],
    ],
)
def test_what_ffmpeg_writes_is_read_as_libsndfile_reads_it(write, form, codec):
    data = write(ONE, RATE_HZ, form, codec)
    ours, theirs = samples_of(data), libsndfile_reads(data)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 5e-6


@pytest.mark.parametrize(
    ("write", "form", "codec", "number"),
    [
        *[
            (by_ffmpeg, "ipod", "alac", "s16p"),
            (by_ffmpeg, "caf", "alac", "s16p"),
            (by_ffmpeg, "mov", "pcm_s16le", "s16"),
        ],
        *[(by_ffmpeg, "wv", "wavpack", "s16p"), (by_ffmpeg, "tta", "tta", "s16"), (by_ffmpeg, "ogg", "flac", "s16")],
        *[(by_ffmpeg, "matroska", "flac", "s16"), (by_ffmpeg, "voc", "pcm_s16le", "s16")],
        *[(piped, "flac", "flac", "s16"), (piped, "caf", "pcm_s16le", "s16"), (piped, "ogg", "flac", "s16")],
        *[(piped, "w64", "pcm_s16le", "s16")],
        *[(piped, "matroska", "pcm_s16le", "s16"), (by_ffmpeg, "wav", "pcm_s64le", "s64")],
    ],
)
def test_lossless_files_that_libsndfile_does_not_read_are_exact(write, form, codec, number):
    wanted = as_int16(STEREO)
    samples = samples_of(write(wanted / 32_768, RATE_HZ, form, codec, number=number))
    assert np.abs(as_int16(samples) - wanted).max() <= 1  # FFmpeg rounds halves up
    assert samples.shape == wanted.shape


def test_flac_of_32_bits_is_exact():
    wanted = np.random.default_rng(0).integers(-(2**31), 2**31, 32_000)
    data = by_ffmpeg(
        wanted / 2**31, RATE_HZ, "flac", "flac", number="s32", strict="experimental", bits_per_raw_sample="32"
    )
    np.testing.assert_allclose(samples_of(data)[:, 0], wanted / 2**31, atol=1e-6)


@pytest.mark.parametrize(
    ("write", "rate_hz", "form", "codec"),
    [
        *[(by_ffmpeg, 16_000, "ipod", "aac"), (by_ffmpeg, 16_000, "3gp", "aac"), (piped, 16_000, "adts", "aac")],
        *[(piped, 48_000, "webm", "libopus"), (by_ffmpeg, 48_000, "matroska", "libopus")],
        *[(by_ffmpeg, 44_100, "asf", "wmav2"), (by_ffmpeg, 48_000, "ac3", "ac3"), (by_ffmpeg, 16_000, "mp2", "mp2")],
        *[(by_ffmpeg, 8_000, "amr", "libopencore_amrnb"), (by_ffmpeg, 16_000, "wav", "adpcm_yamaha")],
        *[(by_ffmpeg, 16_000, "avi", "libmp3lame"), (by_ffmpeg, 16_000, "mp4", "aac")],
    ],
)
def test_lossy_files_that_libsndfile_does_not_read_hold_all_that_was_said(write, rate_hz, form, codec):
    wave = tone(2.0, rate_hz)
    data = write(wave, rate_hz, form, codec)
    samples = samples_of(data)[:, 0]
    late = int(np.argmax(np.correlate(samples, wave[2000:12_000], "valid"))) - 2000
    assert 0 <= late < 2500  # an encoder's delay
    assert 0 <= len(samples) - late - len(wave) + 2048 < 5000
    rest = samples[late : late + len(wave)]
    assert np.corrcoef(rest, wave[: len(rest)])[0, 1] > 0.95


# --------------------------------------------------------------------------------- MP3 and its length


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("variable", [False, True])
def test_mp3_from_a_pipe_is_read_to_its_end(rate_hz, variable):
    loud_then_quiet = np.concatenate([tone(1.0, rate_hz), 0.001 * tone(3.0, rate_hz)])
    whole = by_ffmpeg(loud_then_quiet, rate_hz, "mp3", "libmp3lame", variable=variable)
    data = by_ffmpeg(loud_then_quiet, rate_hz, "mp3", "libmp3lame", variable=variable, piped=True)
    ours, theirs = samples_of(data)[:, 0], libsndfile_reads(whole)[:, 0]
    assert len(theirs) == len(loud_then_quiet)  # libsndfile with the table of contents
    assert len(ours) >= MP3_DELAY + len(theirs)
    np.testing.assert_allclose(ours[MP3_DELAY : MP3_DELAY + len(theirs)], theirs, atol=5e-6)


def test_mp3_longer_than_a_block_has_no_seams():
    wave = np.tile(tone(2.0, 44_100), 30)
    data = by_ffmpeg(wave, 44_100, "mp3", "libmp3lame", variable=True)
    np.testing.assert_allclose(samples_of(data), libsndfile_reads(data), atol=5e-6)


def test_damaged_mp3_frames_are_said():
    data = bytearray(by_ffmpeg(tone(10.0), RATE_HZ, "mp3", "libmp3lame", piped=True))
    data[3000:3004] = bytes(4)
    frame = look(bytes(data)).links[0][:4]
    at = data.index(frame[:3], 8000)
    data[at : at + 4] = b"\0\0\0\0"
    assert read_recording(bytes(data), CONFIG).note == DAMAGED
    whole = bytearray(by_ffmpeg(tone(10.0), RATE_HZ, "mp3", "libmp3lame"))
    at = whole.index(frame[:3], 8000)
    whole[at : at + 2000] = bytes(2000)
    assert "frames are there" in reason(bytes(whole))


# ------------------------------------------------------------------------------- one after another


def mp3(wave, **how):
    return by_ffmpeg(wave, RATE_HZ, "mp3", "libmp3lame", **how)


@pytest.mark.parametrize(
    "write",
    [
        *[
            partial(sound_file, rate_hz=RATE_HZ, kind=kind, subtype=subtype)
            for kind, subtype in (
                ("OGG", "VORBIS"),
                ("OGG", "OPUS"),
                ("FLAC", "PCM_16"),
                ("WAV", "PCM_16"),
                ("WAV", "FLOAT"),
                ("MP3", None),
            )
        ],
        *[mp3, partial(mp3, variable=True), partial(mp3, piped=True)],
        *[partial(by_ffmpeg, rate_hz=RATE_HZ, form="ogg", codec="flac")],
        *[partial(by_ffmpeg, rate_hz=RATE_HZ, form="flac", codec="flac", piped=True)],
    ],
)
def test_joined_files_are_read_to_the_end_of_the_last(write):
    parts = [write(ONE), write(TWO), write(ONE)]
    wanted = np.concatenate([samples_of(part) for part in parts])
    np.testing.assert_allclose(samples_of(b"".join(parts)), wanted, atol=5e-6)
    assert len(wanted) >= 2 * len(ONE) + len(TWO)


def test_joined_mp3_files_with_tags_between_them():
    id3 = b"ID3\4\0\0\0\0\2\0" + bytes(256)
    parts = [
        id3 + mp3(ONE) + b"TAG" + bytes(125),
        id3 + mp3(TWO) + b"APETAGEX" + struct.pack("<III", 2000, 64, 0) + bytes(76),
    ]
    assert look(b"".join(parts)).note == ""
    np.testing.assert_allclose(
        samples_of(b"".join(parts)), np.concatenate([samples_of(mp3(ONE)), samples_of(mp3(TWO))])
    )


def test_adts_files_that_were_joined():
    parts = [piped(wave, RATE_HZ, "adts", "aac") for wave in (ONE, TWO)]
    assert len(samples_of(b"".join(parts))) == sum(len(samples_of(part)) for part in parts)


@pytest.mark.parametrize("kind", ["OGG", "MP3", "WAV"])
def test_joined_files_of_other_rates_are_refused_by_name(kind):
    joined = sound_file(ONE, RATE_HZ, kind) + sound_file(tone(1.0, 44_100), 44_100, kind)
    assert reason(joined) == "it joins recordings of 16,000 Hz with 1 channels and 44,100 Hz with 1"


# -------------------------------------------------------------------------------- length not in the header


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


WHOLE = np.int16(ONE * 32_767)
WAV = sound_file(WHOLE)
AIFF, AU, CAF = (sound_file(WHOLE, kind=kind, subtype="PCM_16") for kind in ("AIFF", "AU", "CAF"))
RF64, W64 = (sound_file(WHOLE, kind=kind, subtype="PCM_16") for kind in ("RF64", "W64"))
FLAC = sound_file(WHOLE, kind="FLAC")
UNKNOWN = {
    **{
        f"wav {size:#x}": patched(WAV, 40, struct.pack("<I", size))
        for size in (0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF)
    },
    "wav never closed": patched(patched(WAV, 40, bytes(4)), 4, struct.pack("<I", 36)),
    "rf64 0": patched(RF64, 20, bytes(24)),
    "rf64 -1": patched(RF64, 20, b"\xff" * 24),
    "w64 0": patched(W64, W64.index(b"data") + 16, bytes(8)),
    "aiff 0": patched(patched(AIFF, AIFF.index(b"SSND") + 4, bytes(4)), AIFF.index(b"COMM") + 10, bytes(4)),
    "aiff -1": patched(AIFF, AIFF.index(b"SSND") + 4, b"\xff" * 4),
    "au 0": patched(AU, 8, bytes(4)),
    "au -1": patched(AU, 8, b"\xff" * 4),
    "caf 0": patched(CAF, CAF.rindex(b"data", 0, 4200) + 4, bytes(8)),
    "caf -1": patched(CAF, CAF.rindex(b"data", 0, 4200) + 4, b"\xff" * 8),
    "flac 0": patched(FLAC, 22, bytes(4)),
    "flac too few": patched(FLAC, 22, struct.pack(">I", len(ONE) // 2)),
    "flac 0 and a tag": patched(FLAC, 22, bytes(4)) + b"TAG" + bytes(125),
    "flac 0 and padding": patched(FLAC, 22, bytes(4)) + bytes(100),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_recordings_whose_header_does_not_know_their_length_are_whole(name):
    assert np.array_equal(as_int16(samples_of(UNKNOWN[name])[:, 0]), WHOLE)


def test_what_lies_after_the_end_is_said():
    assert read_recording(patched(WAV, 40, struct.pack("<I", 32_000)), CONFIG).note == LEFT_OUT
    assert read_recording(patched(AU, 8, struct.pack(">I", 32_000)), CONFIG).note == f"{LEFT_OUT}, AU to 16 bits"
    tags = b"LIST" + struct.pack("<I", 8000) + bytes(8000)
    assert read_recording(WAV + tags, CONFIG).note == ""


# ------------------------------------------------------------------------------------------- cut off


@pytest.mark.parametrize("share", [0.98, 0.6])
@pytest.mark.parametrize(
    ("write", "form", "codec"),
    [
        *[(by_ffmpeg, "ipod", "aac"), (by_ffmpeg, "ipod", "alac"), (piped, "adts", "aac"), (by_ffmpeg, "asf", "wmav2")],
        *[(by_ffmpeg, "matroska", "flac"), (by_ffmpeg, "wv", "wavpack"), (by_ffmpeg, "tta", "tta")],
        *[
            (by_ffmpeg, "ogg", "flac"),
            (piped, "flac", "flac"),
            (by_ffmpeg, "caf", "pcm_s16le"),
            (by_ffmpeg, "caf", "alac"),
        ],
        *[(by_ffmpeg, "voc", "pcm_s16le"), (by_ffmpeg, "wav", "libmp3lame"), (by_ffmpeg, "mp2", "mp2")],
        *[(by_ffmpeg, "mp3", "libmp3lame"), (piped, "mp3", "libmp3lame"), (by_ffmpeg, "au", "pcm_s16be")],
    ],
)
def test_ffmpegs_files_that_were_cut_off_are_refused(write, form, codec, share):
    data = write(tone(4.0, 44_100), 44_100, form, codec)
    assert read_recording(data, CONFIG)
    assert "truncated" in reason(data[: int(len(data) * share)])


@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
def test_sphere_files_that_were_cut_off_are_refused(subtype):
    data = sound_file(STEREO, RATE_HZ, "NIST", subtype)
    assert reason(data[:-2]) == "the recording is truncated: 2 bytes are missing"


@pytest.mark.parametrize("part", [0, 1])
def test_damage_inside_a_flac_file_of_unknown_length_is_seen(part):
    data = bytearray(by_ffmpeg(ONE, RATE_HZ, "flac", "flac", piped=True))
    data[len(data) // 2] ^= 0xFF
    assert "corrupt" in reason(bytes(data) + bytes(100 * part)) or "damaged" in reason(bytes(data) + bytes(100 * part))


# ---------------------------------------------------------------------------------------- other bytes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "it is not audio"),
        (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "it is not audio"),
        (b"\xff\xd8\xff\xe0" + bytes(1000), "it is not audio"),
        (b"\xff" * 100_000, "it is not audio"),
        ("Some text that Windows wrote.\r\n".encode("utf-16") * 300, "it is not audio"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(100), "it looks like a RIFF file of type WEBP"),
        (b"\0\0\0\x18ftypM4A " + bytes(100), "its index (moov) is missing"),
        (b"OggS" + bytes(10), "truncated"),
        (patched(WAV, 20, struct.pack("<H", 0x1234)), "WAV"),
        (by_ffmpeg(ONE, RATE_HZ, "wav", "aac"), "corrupt"),
        (by_ffmpeg(ONE, RATE_HZ, "g722", "g722"), "it is not audio"),
        (by_ffmpeg(ONE, RATE_HZ, "mpegts", "aac"), "it is not audio"),
    ],
)
def test_other_files_are_refused_with_what_they_are(data, said):
    assert said in reason(data)


# ---------------------------------------------------------------------------------------------- scale


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("kind", ["WAV", "CAF", "AIFF", "AU", "W64"])
@pytest.mark.parametrize("scale", [4.0, 32_768.0])
def test_float_samples_above_full_scale_are_scaled_in_every_format(kind, subtype, scale):
    record = read_recording(sound_file(scale * ONE, RATE_HZ, kind, subtype), CONFIG)
    assert record.note.split(", A")[0].startswith(SCALED)
    stored = sixteen_bit(record.data, "soxr_hq") / 32_768
    np.testing.assert_allclose(stored, ONE / np.abs(ONE).max(), atol=1e-4)


def test_float_samples_that_were_clipped_are_clipped_at_any_scale():
    for scale in (1.0, 3.0):
        assert "it is clipped" in reason(sound_file(scale * np.clip(5 * ONE, -1, 1), RATE_HZ, "WAV", "FLOAT"))
    loud_and_soft = np.concatenate([np.ones(8_000, np.float32), 4 * ONE])
    assert read_recording(sound_file(loud_and_soft, RATE_HZ, "WAV", "FLOAT"), CONFIG).note == SCALED


def test_lossy_files_that_overshoot_are_not_clipped_when_they_are_stored():
    wave = np.clip(3 * ONE, -0.99, 0.99)
    data = sound_file(wave, RATE_HZ, "MP3")
    heard = libsndfile_reads(data)[:, 0]
    assert np.abs(heard).max() > 1.01
    record = read_recording(data, CONFIG.model_copy(update={"max_clipped": 1.0}))
    assert record.note == SCALED
    np.testing.assert_allclose(sixteen_bit(record.data, "soxr_hq") / 32_768, heard / np.abs(heard).max(), atol=1e-4)


def test_a_small_file_keeps_its_bytes_and_a_large_one_becomes_flac():
    small, large = by_ffmpeg(ONE, RATE_HZ, "ipod", "aac"), by_ffmpeg(ONE, RATE_HZ, "mov", "pcm_s24le", number="s32")
    assert read_recording(small, CONFIG).data == small
    record = read_recording(large, CONFIG)
    assert (record.data[:4], record.note) == (b"fLaC", "MP4 to 16 bits")
    assert np.array_equal(record.data, to_flac(samples_of(large), RATE_HZ))
    with pytest.raises(soundfile.LibsndfileError):
        libsndfile_reads(small)  # so FFmpeg it was
