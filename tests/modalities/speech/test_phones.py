"""HuBERT's codes beside the phones of the embedded corpus, and beside classes of other recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d2v.config import parse
from d2v.evaluation.codebook import codebook_metrics, codebook_parts
from d2v.modalities import registry
from d2v.modalities.speech import spoken
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.spoken import SpokenOptions, speak
from tests.modalities.speech.test_codebook import SMALL_CODEBOOK, corpus, prepare  # noqa: F401

SPEECH = registry.get("speech")
OPTIONS = {"count": 40, "test_count": 20, "speakers": 4, "sentences": "short"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spoken")
    SPEECH.ingest(SpeechIngestConfig(source="spoken", options=OPTIONS), folder / "corpus")
    prepare(folder / "corpus", folder / "prepared", SMALL_CODEBOOK)
    return folder / "prepared"


def test_codes_stand_beside_the_phones_that_were_spoken(prepared: Path) -> None:
    data = SPEECH.open(prepared)
    counted = SPEECH.code_counts(data, 40)
    assert counted is not None
    assert (counted.codebook, counted.classes, counted.items, counted.silence) == ("mfcc", "phones", 40, "_")
    counts = np.array(counted.counts)
    labels = [1 + (int(samples) - 400) // 160 for samples in data.train.integers("samples")]
    assert counts.shape == (len(counted.names), 6)
    assert counts.sum() == sum(labels)
    assert counts.sum(axis=1).tolist() == sorted(counts.sum(axis=1), reverse=True)
    said = {
        phone.name
        for one in speak(parse(SpokenOptions, OPTIONS), "train", 0, 40, with_phones=True)
        for phone in one.phones
    }
    assert set(counted.names) <= said
    assert len(counted.names) > 0.9 * len(said)
    of = codebook_metrics(counted)
    assert of["codebook/purity"] > 1.3 * of["codebook/purity_chance"]
    assert of["codebook/pnmi"] > 0.1


def test_a_label_has_the_phone_in_the_middle_of_what_it_was_made_from(prepared: Path) -> None:
    """Of one recording: phones by samples at its own rate, cut by hand."""
    data = SPEECH.open(prepared)
    counted = SPEECH.code_counts(data, 1)
    assert counted is not None
    one = next(speak(parse(SpokenOptions, OPTIONS), "train", 0, 1, with_phones=True))
    codes, _ = data.codes.of_recording(0)
    expected = np.zeros((len(counted.names), 6), int)
    for label, code in enumerate(codes):
        seconds = (160 * label + 200) / 16_000
        (name,) = [phone.name for phone in one.phones if phone.start <= seconds * one.rate_hz][-1:]
        expected[counted.names.index(name), code] += 1
    assert np.array_equal(expected, counted.counts)


def test_an_espeak_that_says_something_else_gives_no_phones(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spoken, "BREATH_SEED", 2)
    monkeypatch.setattr(spoken, "ACCENTS", ("en-gb-scotland",))
    counted = SPEECH.code_counts(SPEECH.open(prepared), 5)
    assert counted is not None
    assert (counted.classes, counted.silence) == ("classes of recordings", None)
    assert "espeak-ng says train/000000 otherwise than it did" in capsys.readouterr().err


def test_other_recordings_have_their_own_classes_and_without_a_codebook_there_is_nothing(
    corpus: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    prepare(corpus, tmp_path / "none", None)
    assert SPEECH.code_counts(SPEECH.open(tmp_path / "none"), 10) is None
    prepare(corpus, tmp_path / "tones", SMALL_CODEBOOK)
    data = SPEECH.open(tmp_path / "tones")
    counted = SPEECH.code_counts(data, 10)
    assert counted is not None
    assert (counted.classes, counted.items, counted.silence) == ("classes of recordings", 10, None)
    assert set(counted.names) <= set(data.class_names)
    parts = codebook_parts(counted, tmp_path / "codebook.png")
    assert [row[0] for row in parts[0].rows] == ["all"]
