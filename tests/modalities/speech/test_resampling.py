"""Resampling to 16 kHz: what folds into the band, and which resampler a corpus and its models keep."""

import json

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

import d2v
from d2v.data import fingerprint, ingest
from d2v.data.digests import DIGESTS
from d2v.data.prepared import bring_up_to_date
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.speech.config import SpeechIngestConfig, SpeechPrepareConfig
from d2v.modalities.speech.data import SpeechData
from d2v.modalities.speech.preparation import prepare
from d2v.modalities.speech.reading import decode
from d2v.modalities.speech.resampling import resample
from tests.interchange import encoders
from tests.modalities.speech.sounds import sound_file, tone

SPEECH = registry.get("speech")
OF_BEFORE = {
    "format": "auto",
    "options": {},
    "test_fraction": 0.1,
    "max_item_bytes": 256 * 2**20,
    "min_seconds": 0.1,
    "max_seconds": 3600.0,
    "silence_peak": 1e-3,
    "max_clipped": 0.02,
}
"""The parameters in the identity of a corpus before the resampler was recorded."""


def tone_at(hz: float, rate_hz: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(rate_hz) / rate_hz)).astype(np.float32)


def level_db(resampler: str, hz: float, rate_hz: int) -> float:
    """How loud a tone is after resampling, compared with before."""
    heard = resample([tone_at(hz, rate_hz)], rate_hz, resampler)[1000:-1000]
    return 20 * np.log10(max(np.sqrt(np.mean(heard.astype(np.float64) ** 2)) / (0.5 / np.sqrt(2)), 1e-10))


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000, 96_000])
def test_nothing_above_8_khz_folds_into_the_band(rate_hz):
    assert level_db("soxr_hq", 8_400, rate_hz) < -120
    assert level_db("soxr_hq", 7_000, rate_hz) == pytest.approx(0.0, abs=0.1)
    assert level_db("torchaudio", 8_100, rate_hz) > -20  # why it was replaced


def test_blocks_give_what_the_whole_gives():
    wave = tone(3.0, 44_100)
    whole = resample([wave], 44_100, "soxr_hq")
    blocks = resample(np.split(wave, [1, 7, 5_000, 100_000]), 44_100, "soxr_hq")
    assert np.array_equal(whole, blocks)
    assert len(whole) == 48_000
    assert len(resample([], 44_100, "soxr_hq")) == 0


def test_the_old_resampler_gives_what_it_gave():
    wave = tone(1.0, 44_100)
    theirs = Resample(44_100, 16_000)(torch.from_numpy(wave)).numpy()
    assert np.array_equal(resample([wave], 44_100, "torchaudio"), theirs)


# ------------------------------------------------------------------------------- what a corpus keeps


def corpus(tmp_path, **how):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    for number in range(4):
        split = source / ("test" if number == 3 else "train")
        split.mkdir(exist_ok=True)
        (split / f"{number}.wav").write_bytes(sound_file(tone_at(8_100 - number, 48_000), 48_000))
    config = SpeechIngestConfig(source=str(source), **how)
    report = SPEECH.ingest(config, tmp_path / "corpus")
    return config, report, json.loads((tmp_path / "corpus" / "corpus.json").read_text())


def loudness(tmp_path) -> float:
    about = prepare(SpeechPrepareConfig(min_seconds=0.5), tmp_path / "corpus", tmp_path / "prepared")
    data = SpeechData(tmp_path / "prepared")
    assert SPEECH.describe(data)["resampler"] == about["resampler"]
    return float(data.train.floats("std")[0])


def test_a_new_corpus_records_its_resampler_outside_of_its_identity(tmp_path):
    _, _, about = corpus(tmp_path)
    assert about["settings"] == {"resampler": "soxr_hq"}
    assert about["parameters"] == OF_BEFORE
    assert loudness(tmp_path) < 0.1
    asked = corpus(tmp_path, resampler="torchaudio")[2]
    assert asked["settings"] == {"resampler": "torchaudio"}
    assert loudness(tmp_path) > 0.1


def test_an_old_corpus_is_not_read_anew_and_keeps_the_old_resampler(tmp_path, monkeypatch):
    config, report, about = corpus(tmp_path)
    del about["settings"]  # as it was written before
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps(about))
    (tmp_path / "corpus" / DIGESTS).unlink()  # earlier versions wrote none
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "IngestPass", None)  # any new pass would fail
        assert SPEECH.ingest(config, tmp_path / "corpus") == report
    assert "settings" not in json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert loudness(tmp_path) > 0.1
    parameters = SpeechPrepareConfig(min_seconds=0.5).model_dump(
        exclude={"engine", "cluster", "codebook"}
    )  # later keys
    identity = fingerprint.of_values({"corpus": report.fingerprint, "parameters": parameters})
    assert SpeechData(tmp_path / "prepared").fingerprint == identity
    folder = tmp_path / "prepared" / "prepared.json"
    content = json.loads(folder.read_text())
    del content["resampler"]  # as it was written before
    folder.write_text(json.dumps(content))
    (tmp_path / "prepared" / DIGESTS).unlink()
    never = lambda *_: pytest.fail("prepared anew")  # noqa: E731
    assert bring_up_to_date(tmp_path / "corpus", tmp_path / "prepared", parameters, never, lambda about: "") == content
    assert SPEECH.describe(SpeechData(tmp_path / "prepared"))["resampler"] == "torchaudio"


# -------------------------------------------------------------------------------------- by every door


def model_of(tmp_path, **about):
    encoders.save(tmp_path / "model", "speech", 2)
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | about))
    (tmp_path / "model" / DIGESTS).unlink(missing_ok=True)
    return d2v.load(tmp_path / "model")


@pytest.mark.parametrize("about", [{}, {"resampler": "soxr_hq"}])
def test_a_model_resamples_as_its_training_data_were(tmp_path, about):
    model = model_of(tmp_path, **about)
    wave = tone_at(8_100, 48_000) + tone(1.0, 48_000) * 0.1
    (tmp_path / "a.wav").write_bytes(sound_file(wave, 48_000, "WAV", "FLOAT"))
    expected = model.encode(resample([wave], 48_000, about.get("resampler", "torchaudio")))
    for given in (wave, wave.astype(np.float64), np.stack([wave]), [wave], torch.from_numpy(wave)):
        found = model.encode(given, rate_hz=48_000)
        np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode(tmp_path / "a.wav"), expected, atol=1e-5)
    other = model.encode(resample([wave], 48_000, "torchaudio" if about else "soxr_hq"))
    assert np.abs(other - expected).max() > 1e-3


@pytest.mark.parametrize("about", [{}, {"resampler": "soxr_hq"}])
def test_odd_rates_need_no_more_than_files_do(tmp_path, about):
    model = model_of(tmp_path, **about)
    wave = tone(1.0, 44_101)
    (tmp_path / "a.wav").write_bytes(sound_file(wave, 44_101, "WAV", "FLOAT"))
    np.testing.assert_allclose(model.encode(wave, rate_hz=44_101), model.encode(tmp_path / "a.wav"), atol=1e-5)
    np.testing.assert_allclose(model.encode(wave, rate_hz=44_101.5), model.encode(wave, rate_hz=44_101), atol=0.05)


@pytest.mark.parametrize("rate_hz", [0, -16_000, 1, 10**9, float("nan"), float("inf"), "16000", True, 16 + 0j])
def test_rates_that_are_none_are_named(tmp_path, rate_hz):
    with pytest.raises(DataError, match=r"rate_hz=.* is no sample rate .* from 1,000 to 384,000"):
        model_of(tmp_path).encode(tone(), rate_hz=rate_hz)


@pytest.mark.parametrize("shape", [(16_000, 2), (16_000, 1), (16_000, 6)])
def test_channels_side_by_side_are_named(tmp_path, shape):
    model, wave = model_of(tmp_path), np.ones(shape, np.float32) * tone()[:, None]
    for given in (wave, [wave], [wave.T], np.int16(1000 * wave)):
        for rate_hz in (16_000, 44_100):
            with pytest.raises(DataError, match=r"channels: give \(samples,\), the mean of its channels"):
                model.encode(given, rate_hz=rate_hz)


@pytest.mark.parametrize("kind", [np.int32, np.uint8, np.int64, bool, complex])
def test_arrays_of_other_numbers_are_named_at_every_rate(tmp_path, kind):
    model = model_of(tmp_path)
    for rate_hz in (16_000, 44_100):
        with pytest.raises(DataError, match="give float from -1 to 1, or int16"):
            model.encode(np.ones(16_000, kind), rate_hz=rate_hz)


def test_decoding_without_a_record_is_not_possible():
    with pytest.raises(TypeError):
        decode(sound_file(tone()))
