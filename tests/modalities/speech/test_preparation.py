import json

import numpy as np
import pytest

from d2v.data.ingest import ingest
from d2v.data.sources.source import Item, Source
from d2v.data.store import ShardReader
from d2v.errors import DataError
from d2v.modalities.speech import preparation
from d2v.modalities.speech.config import SpeechIngestConfig, SpeechPrepareConfig
from d2v.modalities.speech.preparation import prepare
from d2v.modalities.speech.reading import FACTS, read_recording
from tests.modalities.speech.sounds import sound_file, tone

PREPARE = SpeechPrepareConfig(min_seconds=0.4, probe_train_items=20, probe_test_items=8, probe_max_seconds=1.0)


def make_corpus(folder, count=48, labels=("no", "yes", "oh"), speaker=lambda n, split: f"{n % 4}"):
    """Recordings of 0.3 to 1.3 s at 8 kHz; every fourth is a test item; the first two are too short to train on."""
    items = []
    for n in range(count):
        split = "test" if n % 4 == 0 else "train"
        seconds = 0.3 if n in (1, 2) else 0.5 + 0.1 * (n % 8)
        texts = {"transcript": f"word {n}", "speaker": speaker(n, split)} if n != 5 else {}
        label = labels[n % len(labels)] if labels else None
        items.append(Item(f"{n}", sound_file(tone(seconds, 8_000, 200 + 9 * n, n), 8_000), label, split, texts=texts))
    source = Source("tones", f"{count}", count, lambda start: iter(items[start:]))
    config = SpeechIngestConfig(source="x")
    texts = ("speaker", "transcript")
    ingest(source, lambda data: read_recording(data, config), FACTS, folder, {}, 100_000, 0.1, texts)
    return folder


def prepared(tmp_path, config=PREPARE, **corpus):
    return prepare(config, make_corpus(tmp_path / "corpus", **corpus), tmp_path / "prepared")


def test_rows_are_16_bit_at_16_khz_with_their_statistics(tmp_path):
    about = prepared(tmp_path)
    shards = ShardReader(tmp_path / "prepared" / "train")
    wave = shards.view("data", 0).view("<i2") / 32_768  # item 3
    assert len(wave) == shards.integers("samples")[0] == 12_800
    assert shards.floats("mean")[0] == pytest.approx(wave.mean(), abs=1e-7)
    assert shards.floats("std")[0] == pytest.approx(wave.std(), rel=1e-6)
    assert np.corrcoef(wave[::2], tone(0.8, 8_000, 227, 3))[0, 1] > 0.99
    assert list(shards.column("transcript"))[:3] == ["word 3", None, "word 6"]
    assert next(iter(shards.column("speaker"))) == "3"
    assert about["train_seconds"] == pytest.approx(shards.integers("samples").sum() / 16_000)


def test_short_recordings_are_left_out_of_train_alone(tmp_path, capsys):
    about = prepared(tmp_path)
    assert (about["train_items"], about["test_items"], about["short_items"]) == (34, 12, 2)
    assert "2 under 0.4 s left out of train" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"prepare.min_seconds=5; half of them have 0.90 s or more, the longest 1.20 s"):
        prepare(PREPARE.model_copy(update={"min_seconds": 5.0}), tmp_path / "corpus", tmp_path / "other")


def test_probe_rows_are_balanced_and_of_labelled_items(tmp_path):
    about = prepared(tmp_path)
    assert about["class_names"] == ["no", "oh", "yes"]
    labels = ShardReader(tmp_path / "prepared" / "train").integers("label")[about["probe"]["train"]]
    assert sorted(np.bincount(labels)) == [6, 7, 7]
    assert (len(about["probe"]["test"]), about["probe_test_from"], about["held_out_items"]) == (8, "test", 0)


def test_speakers_can_be_the_classes(tmp_path):
    about = prepared(tmp_path, PREPARE.model_copy(update={"label": "speaker"}), speaker=lambda n, split: f"{n % 5}")
    assert about["class_names"] == ["0", "1", "2", "3", "4"]
    assert about["probe_test_from"] == "test"


def test_classes_of_one_part_only_are_no_classes_of_the_probe(tmp_path):
    def speaker(n, split):
        return split if n % 3 == 0 else f"{n % 3}"

    about = prepared(tmp_path, PREPARE.model_copy(update={"label": "speaker"}), speaker=speaker)
    assert about["class_names"] == ["1", "2"]
    labels = ShardReader(tmp_path / "prepared" / "train").integers("label")
    assert set(labels) == {-1, 0, 1}


def test_strangers_in_the_test_part_are_replaced_by_held_out_train_items(tmp_path):
    config = PREPARE.model_copy(update={"label": "speaker"})
    about = prepared(tmp_path, config, count=80, speaker=lambda n, split: f"{split}{n % 2}")
    assert about["probe_test_from"] == "train"
    assert about["class_names"] == ["train0", "train1"]
    assert (about["train_items"], about["held_out_items"], about["test_items"]) == (54, 4, 20)
    train, probe = (ShardReader(tmp_path / "prepared" / name) for name in ("train", "probe"))
    assert not {*train.column("transcript")} & {*probe.column("transcript")}
    assert set(probe.integers("label")) == {0, 1}
    assert about["probe"]["test"] == [0, 1, 2, 3]


def test_recordings_without_labels_have_an_empty_probe(tmp_path):
    about = prepared(tmp_path, labels=())
    assert (about["class_names"], about["probe"]) == ([], {"train": [], "test": []})


def test_unchanged_is_a_quick_check(tmp_path, monkeypatch):
    about = prepared(tmp_path)
    monkeypatch.setattr(preparation, "_Preparation", None)
    assert prepare(PREPARE, tmp_path / "corpus", tmp_path / "prepared") == about
    assert json.loads((tmp_path / "prepared" / "prepared.json").read_text()) == about


def test_an_unknown_label_column_is_named(tmp_path):
    with pytest.raises(DataError, match="has no column accent, only key, split, label"):
        prepared(tmp_path, PREPARE.model_copy(update={"label": "accent"}))
