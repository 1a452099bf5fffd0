"""The program that wrote a sound file, against what libsndfile and FFmpeg write of themselves."""

from __future__ import annotations

import pytest

from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.reading import read_recording
from d2v.modalities.speech.writers import WRITER_CHARACTERS, writer_of
from tests.modalities.speech.sounds import by_ffmpeg, sound_file, tone

WAVE = tone(1.0, 48_000)


@pytest.mark.parametrize(
    ("form", "codec", "name"),
    [
        ("wav", "pcm_s16le", "Lavf"),
        ("flac", "flac", "Lavf"),
        ("ogg", "libopus", "Lavf"),
        ("mp3", "libmp3lame", "Lav"),
        ("ipod", "aac", "Lavf"),
        ("matroska", "libopus", "Lavf"),
    ],
)
def test_ffmpeg_names_itself(form: str, codec: str, name: str) -> None:
    assert writer_of(by_ffmpeg(WAVE, 48_000, form, codec)).startswith(name)


@pytest.mark.parametrize(("kind", "name"), [("FLAC", "reference libFLAC"), ("OGG", "Xiph.Org"), ("MP3", "LAME")])
def test_libsndfile_names_the_encoder(kind: str, name: str) -> None:
    assert name in writer_of(sound_file(WAVE, 48_000, kind))


def test_what_names_no_writer_has_none() -> None:
    assert writer_of(sound_file(WAVE, 48_000, "WAV")) == ""
    assert writer_of(b"") == ""
    for magic in (b"fLaC", b"OggS", b"RIFF\0\0\0\0WAVE", b"\0\0\0\0ftyp", b"\x1aE\xdf\xa3", b"ID3", b"\xff"):
        assert writer_of(magic) == writer_of(magic + bytes(100)) == ""


def test_a_name_at_the_end_of_a_wav_file_is_found() -> None:
    info = b"INFOICMT\x02\0\0\0a\0ISFT\x08\0\0\0Audacity"
    wav = sound_file(tone(10.0)) + b"LIST" + len(info).to_bytes(4, "little") + info
    assert writer_of(wav) == "Audacity"


def test_a_name_is_short_and_one_line() -> None:
    said = b"a\nb" + b"x" * 900
    flac = b"fLaC\x84" + (len(said) + 4).to_bytes(3, "big") + len(said).to_bytes(4, "little") + said
    assert writer_of(flac) == ("a b" + "x" * 900)[:WRITER_CHARACTERS]


def test_ingest_counts_format_and_writer() -> None:
    config = SpeechIngestConfig.model_validate({"source": "s"})
    found = read_recording(by_ffmpeg(WAVE, 48_000, "ogg", "libopus"), config).origin
    assert found["format"] == "OGG (OPUS)"
    assert found["writer"].startswith("Lavf")
    assert read_recording(sound_file(WAVE, 48_000), config).origin == {"format": "WAV (PCM_16)"}
