import contextlib
import struct

import numpy as np
import pytest

from d2v.data.ingest import Rejected
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.containers import look
from d2v.modalities.speech.reading import decode, read_recording, to_flac
from tests.modalities.speech.sounds import sound_file, tone

CONFIG = SpeechIngestConfig(source="x")
KEPT = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]


def reason(data, config=CONFIG) -> str:
    with pytest.raises(Rejected) as caught:
        read_recording(data, config)
    return str(caught.value)


@pytest.mark.parametrize(("kind", "subtype"), KEPT)
def test_common_files_keep_their_bytes(kind, subtype):
    data = sound_file(tone(), 16_000, kind, subtype)
    record = read_recording(data, CONFIG)
    assert record.data == data
    assert record.note == ""
    assert record.facts == {"samples": 16_000, "rate_hz": 16_000, "channels": 1}
    assert np.corrcoef(decode(record.data, "soxr_hq"), tone())[0, 1] > 0.95


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "W64", "NIST"])
def test_other_files_become_flac(kind):
    record = read_recording(sound_file(tone(), 16_000, kind, "PCM_16"), CONFIG)
    assert record.data[:4] == b"fLaC"
    assert record.note == f"{kind} to 16 bits"
    np.testing.assert_allclose(decode(record.data, "soxr_hq"), tone(), atol=1e-4)


@pytest.mark.parametrize(("kind", "subtype"), [*KEPT, ("AIFF", "PCM_16"), ("CAF", "PCM_16")])
@pytest.mark.parametrize("share", [0.99, 0.7, 0.4])
def test_files_that_were_cut_off_are_refused(kind, subtype, share):
    data = sound_file(tone(2.0), 16_000, kind, subtype)
    said = reason(data[: int(len(data) * share)])
    assert "truncated" in said or "header is damaged" in said


def test_damage_inside_a_flac_file_is_seen():
    data = bytearray(sound_file(tone(2.0), 16_000, "FLAC"))
    data[len(data) // 2] ^= 0xFF
    assert "truncated or corrupt" in reason(bytes(data))


def test_a_wav_file_written_to_a_pipe_is_whole():
    data = bytearray(sound_file(tone()))
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFF_FFFF)
    assert look(bytes(data)).cut_off is None
    assert read_recording(bytes(data), CONFIG).facts["samples"] == 16_000


def test_tags_after_the_end_of_an_mp3_are_no_damage():
    assert look(sound_file(tone(), 16_000, "MP3") + b"TAG" + bytes(125)).cut_off is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"hello, this is no sound at all\n" * 20, "it is not audio"),
        (np.zeros(5, np.float32), "no sample rate"),
        (sound_file(tone(0.05)), r"0.050 s is below min_seconds 0.1"),
        (sound_file(np.zeros(16_000, np.float32)), "it is silent"),
        (sound_file(np.full(16_000, 0.4, np.float32)), "it is silent"),
        (sound_file(np.stack([tone(), -tone()], 1)), "its channels cancel"),
        (sound_file(np.sign(tone())), "it is clipped: 100.0%"),
        (sound_file(np.where(tone() > 0.31, np.nan, tone()), subtype="FLOAT"), "not finite"),
        (sound_file(tone(), 800), "sample rate of 800 Hz"),
        (sound_file(np.zeros(0, np.float32)), "below min_seconds"),
    ],
)
def test_unusable_recordings_get_a_plain_reason(data, said):
    assert said in reason(data)


def test_limits_are_the_recipes():
    data = sound_file(tone(2.0))
    assert "2.0 s is above max_seconds 1.5" in reason(data, CONFIG.model_copy(update={"max_seconds": 1.5}))
    assert "above max_item_bytes" in reason(data, CONFIG.model_copy(update={"max_item_bytes": 100}))


@pytest.mark.parametrize("resampler", ["soxr_hq", "torchaudio"])
@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 192_000])
def test_every_rate_comes_out_at_16_khz(rate_hz, resampler):
    t = np.arange(rate_hz) / rate_hz
    heard = decode(sound_file(0.5 * np.sin(2 * np.pi * 300 * t).astype(np.float32), rate_hz), resampler)
    assert abs(len(heard) - 16_000) <= 1
    wanted = 0.5 * np.sin(2 * np.pi * 300 * np.arange(len(heard)) / 16_000)
    assert np.abs(heard - wanted)[200:-200].max() < 0.01


def test_channels_are_averaged():
    stereo = np.stack([tone(seed=1), tone(seed=2)], 1)
    np.testing.assert_allclose(decode(sound_file(stereo, subtype="FLOAT"), "soxr_hq"), stereo.mean(1), atol=1e-6)


def test_arrays_become_flac_and_loud_ones_are_scaled():
    np.testing.assert_allclose(decode(to_flac(tone(), 16_000), "soxr_hq"), tone(), atol=1e-4)
    np.testing.assert_allclose(decode(to_flac(8 * tone(), 16_000), "soxr_hq"), tone() / np.abs(tone()).max(), atol=1e-4)
    integers = (tone() * 32_767).astype(np.int16)
    assert to_flac(integers.astype(">i2"), 16_000) == to_flac(integers, 16_000), "whatever the order of bytes"
    assert decode(to_flac(np.tile(tone()[:, None], (1, 9)), 16_000), "soxr_hq").shape == (16_000,)
    assert len(decode(to_flac(tone(1.0, 96_001), 96_001), "soxr_hq")) == pytest.approx(16_000, abs=1)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF"])
def test_damaged_headers_are_refused_in_silence(kind, capfd):
    whole, random = sound_file(tone(0.3), 16_000, kind), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole)
        for place in random.integers(0, 120, 4):
            data[place] = random.integers(256)
        with contextlib.suppress(Rejected):
            read_recording(bytes(data), CONFIG)
    assert "Traceback" not in capfd.readouterr().err
