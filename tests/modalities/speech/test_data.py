import pickle

import numpy as np
import pytest
import torch

from d2v.config import Data2Vec2Config
from d2v.data.batch import Inputs, SampleKeys
from d2v.errors import DataError
from d2v.modalities.speech.config import SpeechAugmentConfig, SpeechTrainConfig
from d2v.modalities.speech.data import (
    SpeechData,
    baseline_features,
    log_mel,
    side_by_side,
    to_images,
)
from d2v.modalities.speech.modality import Speech
from d2v.modalities.speech.preparation import prepare
from tests.modalities.speech.sounds import tone
from tests.modalities.speech.test_preparation import PREPARE, make_corpus


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    prepare(PREPARE, make_corpus(folder / "corpus"), folder / "prepared")
    return SpeechData(folder / "prepared")


def recipe(max_seconds=20.0, seed=0):
    """The parts of a recipe that the data looks at."""
    augment = SpeechAugmentConfig(max_seconds=max_seconds)
    return SpeechTrainConfig.model_construct(seed=seed, augment=augment, objective=Data2Vec2Config.model_construct())


def keys(rows, epoch=0, length=None):
    rows = np.asarray(rows)
    return SampleKeys(0, rows, np.full(len(rows), epoch), length)


def whole(data, row):
    wave = data.train.view("data", row).view("<i2") / 32_768
    return (wave - wave.mean()) / np.sqrt(wave.var() + 1e-5)


def test_lengths_are_limited_by_the_longest_crop(data):
    lengths = data.train_lengths(recipe())
    assert lengths.dtype == np.int64
    assert (lengths.min(), lengths.max(), len(lengths)) == (9_600, 19_200, data.num_train)
    assert data.train_lengths(recipe(0.7)).max() == 11_200


def test_crops_are_pieces_of_recordings_that_were_normalised_whole(data):
    batch = data.batch(keys(range(12), length=8_000), recipe())
    assert batch.inputs.shape == (12, 8_000)
    assert (batch.inputs.dtype, batch.lengths) == (torch.float32, None)
    starts = []
    for row, crop in enumerate(batch.inputs.numpy()):
        wave = whole(data, row)
        score = np.correlate(wave, crop, "valid")
        starts.append(int(score.argmax()))
        np.testing.assert_allclose(crop, wave[starts[-1] : starts[-1] + 8_000], atol=2e-5)
    assert len(set(starts)) > 8


def test_batches_are_pure_functions_of_seed_epoch_and_sample(data):
    together = data.batch(keys(range(10), length=8_000), recipe()).inputs
    assert torch.equal(data.batch(keys([7, 3], length=8_000), recipe()).inputs, together[[7, 3]])
    assert torch.equal(pickle.loads(pickle.dumps(data)).batch(keys(range(10), length=8_000), recipe()).inputs, together)
    assert not torch.equal(data.batch(keys(range(10), 1, 8_000), recipe()).inputs, together)
    assert not torch.equal(data.batch(keys(range(10), length=8_000), recipe(seed=5)).inputs, together)


def test_without_a_length_rows_are_as_long_as_the_shortest(data):
    rows = [0, 1, 2, 3]
    lengths = data.train_lengths(recipe())[rows]
    assert data.batch(keys(rows), recipe()).inputs.shape == (4, lengths.min())
    assert data.batch(keys(rows), recipe(0.3)).inputs.shape == (4, 4_800)
    longest = int(lengths.argmax())
    inputs = data.batch(keys([rows[longest]]), recipe()).inputs
    np.testing.assert_allclose(inputs[0].numpy(), whole(data, rows[longest]), atol=2e-5)


def test_probe_set_is_padded_with_zeros(data):
    probe = data.probe_set(recipe())
    inputs = probe.train_inputs
    assert (len(inputs), len(probe.test_inputs), probe.class_names) == (20, 8, data.class_names)
    assert inputs.values.shape == (20, 16_000)  # probe_max_seconds is 1 s
    for row, wave, length in zip(data.about["probe"]["train"], inputs.values, inputs.lengths, strict=True):
        assert length == min(data.train_lengths(recipe())[row], 16_000)
        np.testing.assert_allclose(wave[:length].numpy(), whole(data, row)[:length], atol=2e-5)
        assert not wave[length:].any()


def test_baseline_features_do_not_see_padding(data):
    inputs = data.probe_set(recipe()).train_inputs
    features = baseline_features(inputs)
    assert features.shape == (20, 160)
    alone = torch.cat([baseline_features(inputs.select(torch.tensor([n]))) for n in range(20)])
    torch.testing.assert_close(features, alone, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(baseline_features(side_by_side([torch.ones(100), torch.ones(900)]))).all()


def test_mel_energies_are_where_the_tone_is():
    t = np.arange(16_000) / 16_000
    wave = torch.from_numpy(np.sin(2 * np.pi * 1_000 * t).astype(np.float32))
    energies, frames = log_mel(Inputs(wave[None]), 80)
    assert (energies.shape, frames.tolist()) == ((1, 98, 80), [98])
    mel = 2_595 * np.log10(1 + 1_000 / 700)
    top = 2_595 * np.log10(1 + 8_000 / 700)
    assert abs(int(energies[0, 50].argmax()) - (mel / top * 81 - 1)) <= 1


def test_pictures_are_as_wide_as_the_longest_and_white_where_nothing_is(data):
    waves = [torch.from_numpy(tone(seconds)) for seconds in (0.5, 1.0)]
    pictures = to_images(side_by_side(waves))
    assert (pictures.shape, pictures.dtype) == ((2, 64, 98, 3), np.uint8)
    assert (pictures[0, :, 48:] == 255).all()
    assert not (pictures[1] == 255).all(axis=-1).any()
    assert Speech().image_grid(49) == (1, 49)


def test_what_travels_with_an_encoder_is_plain(data):
    about = Speech().describe(data)
    assert (about["rate_hz"], about["class_names"]) == (16_000, list(data.class_names))
    assert about["data_fingerprint"] == data.fingerprint


def test_a_folder_that_was_not_prepared_is_named(tmp_path):
    with pytest.raises(DataError, match="run the prepare step first"):
        SpeechData(tmp_path)
