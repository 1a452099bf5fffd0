import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from d2v.config import changed, parse
from d2v.data.batch import SampleKeys
from d2v.data.prepared import UNLABELLED
from d2v.errors import ConfigError, DataError
from d2v.modalities.speech.config import SpeechFinetuneConfig, SpeechRecipe
from d2v.modalities.speech.data import SpeechData
from d2v.modalities.speech.labelled import labelled
from d2v.modalities.speech.preparation import prepare
from d2v.models.masking import rounded_up
from tests.finetuning.spelling import train_recipe
from tests.modalities.speech.test_preparation import PREPARE, make_corpus

RUN = {"optimizer": {"lr": 1e-3}, "batch_size": 4, "max_updates": 2}
CLASSES, TRANSCRIPTS = {"name": "classification"}, {"name": "transcription"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    prepare(PREPARE, make_corpus(folder / "corpus"), folder / "prepared")
    return SpeechData(folder / "prepared")


def parts(data, **block):
    return labelled(data, parse(SpeechFinetuneConfig, {**RUN, "task": CLASSES, **block}), train_recipe())


def keys(rows, epoch=0):
    rows = np.asarray(rows)
    return SampleKeys(0, rows, np.full(len(rows), epoch))


def whole(shards, row):
    wave = shards.view("data", row).view("<i2") / 32_768
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)


@pytest.mark.parametrize(("stem_norm", "rounds"), [("layer", True), ("group", False)])
def test_batches_are_as_wide_as_a_rounded_length_unless_the_encoder_sees_padding(data, stem_norm, rounds):
    config = parse(SpeechFinetuneConfig, {**RUN, "task": CLASSES})
    recipe = changed(train_recipe(), {"encoder": {"stem_norm": stem_norm}}, at="train")
    train = replace(labelled(data, config, recipe)["train"], chosen=np.arange(34))
    lengths = np.array([4001, 7777, 9999])
    inputs = train._pieces(np.argsort(-train.samples)[:3], np.zeros(3, np.int64), lengths)
    assert inputs.values.shape[1] == (10_240 if rounds else 9999)
    assert inputs.lengths.tolist() == lengths.tolist()
    assert all(not wave[length:].any() for wave, length in zip(inputs.values, lengths, strict=True))


def test_parts_know_classes_transcripts_and_lengths(data):
    found = parts(data)
    assert set(found) == {"train", "test"}
    train = found["train"]
    assert (len(train.labels), len(found["test"].labels)) == (34, 12)
    assert train.texts[:3] == ["word 3", None, "word 6"]
    assert train.scores is None
    assert train.seconds[0] == pytest.approx(0.8)
    encoder = train_recipe().encoder
    assert train.frames[0] == encoder.frames(12_800)
    assert train.labels.tolist() == data.train.integers("label").tolist()
    assert parts(data, text="speaker")["train"].texts[0] == "3"


def test_recordings_are_whole_and_normalised(data):
    train = parts(data)["train"]
    rows = np.array([5, 0, 9])
    inputs = train.inputs(rows)
    assert inputs.lengths.tolist() == train.samples[rows].tolist()
    assert inputs.values.shape == (3, rounded_up(int(max(inputs.lengths))))
    for row, wave, length in zip(rows, inputs.values.numpy(), inputs.lengths, strict=True):
        np.testing.assert_allclose(wave[:length], whole(data.train, row), atol=2e-5)
        assert not wave[length:].any()
    again = train.augmented(keys(rows, epoch=3))
    assert torch.equal(again.values, inputs.values)
    assert torch.equal(again.lengths, inputs.lengths)


def test_crops_are_pieces_and_pure_functions_of_seed_epoch_and_row(data):
    train = parts(data, augment={"crop_seconds": 0.6})["train"]
    rows = np.arange(12)
    crops = train.augmented(keys(rows))
    assert crops.lengths.tolist() == np.minimum(train.samples[:12], 9_600).tolist()
    starts = set()
    for row, crop, length in zip(rows, crops.values.numpy(), crops.lengths, strict=True):
        wave = whole(data.train, row)
        start = int(np.correlate(wave, crop[:length], "valid").argmax())
        np.testing.assert_allclose(crop[:length], wave[start : start + length], atol=2e-5)
        starts.add(start)
    assert len(starts) > 6
    assert torch.equal(pickle.loads(pickle.dumps(train)).augmented(keys([7, 3])).values, crops.values[[7, 3]])
    assert not torch.equal(train.augmented(keys(rows, epoch=1)).values, crops.values)
    other = parts(data, augment={"crop_seconds": 0.6}, seed=5)["train"]
    assert not torch.equal(other.augmented(keys(rows)).values, crops.values)
    assert train.inputs(rows).values.shape[1] == rounded_up(int(train.samples[:12].max()))


def test_long_recordings_are_left_out_of_training_and_counted(data, capsys):
    found = parts(data, max_seconds=0.85)
    assert "of 34 train recordings (0.01 h) are longer than 0.85 s (finetune.max_seconds)" in capsys.readouterr().err
    assert 0 < len(found["train"].labels) < 34
    assert found["train"].seconds.max() <= 0.85
    assert found["test"].seconds.max() > 0.85
    assert len(parts(data, max_seconds=0.85, augment={"crop_seconds": 0.5})["train"].labels) == 34
    with pytest.raises(DataError, match=r"All 34 train recordings are longer than finetune.max_seconds=0.1"):
        parts(data, max_seconds=0.1)


def test_some_recordings_with_transcripts_are_kept_out_of_training(data):
    found = parts(data, task=TRANSCRIPTS, dev_share=0.2)
    assert (len(found["train"].labels), len(found["dev"].labels)) == (27, 7)
    assert all(found["dev"].texts)
    spoken = [*filter(None, found["train"].texts), *found["dev"].texts]
    assert sorted(spoken) == sorted(filter(None, parts(data)["train"].texts))
    assert found["dev"].texts == parts(data, task=TRANSCRIPTS, dev_share=0.2, seed=4)["dev"].texts
    other = parts(data, task=TRANSCRIPTS, dev_share=0.2, labels={"seed": 1})
    assert found["dev"].texts != other["dev"].texts


def test_classes_that_the_test_part_lacks_are_tested_on_recordings_held_out(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", 120, None, lambda n, split: f"{split}{n % 3}")
    config = PREPARE.model_copy(update={"label": "speaker"})
    prepare(config, corpus, tmp_path / "prepared")
    data = SpeechData(tmp_path / "prepared")
    test = parts(data)["test"]
    assert len(test.labels) == data.about["held_out_items"] > 0
    assert (test.labels != UNLABELLED).all()
    assert len(parts(data, task=TRANSCRIPTS)["test"].labels) == data.about["test_items"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"task": TRANSCRIPTS, "augment": {"crop_seconds": 1.0}}, "set augment.crop_seconds=null"),
        ({"task": TRANSCRIPTS, "text": "speaker"}, "set text=transcript"),
        ({"task": CLASSES, "dev_share": 0.1}, "set dev_share=0"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(block, message):
    with pytest.raises(ConfigError, match=message):
        parse(SpeechFinetuneConfig, {**RUN, **block})


def test_crops_hold_a_frame():
    block = {**RUN, "task": CLASSES, "augment": {"crop_seconds": 0.001}}
    train = train_recipe().model_dump(mode="json")
    prepare = {"min_seconds": 0.3}
    with pytest.raises(ConfigError, match=r"finetune.augment.crop_seconds 0.001 gives 0 frames"):
        parse(SpeechRecipe, {"ingest": {"source": "x"}, "prepare": prepare, "train": train, "finetune": block})
