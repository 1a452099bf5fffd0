import io
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from d2v.config import parse
from d2v.data.batch import SampleKeys
from d2v.data.digests import DIGESTS
from d2v.data.ingest import ingest
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.vision.config import VisionIngestConfig, VisionPrepareConfig, VisionTrainConfig
from d2v.modalities.vision.data import VisionData
from d2v.modalities.vision.modality import Vision
from d2v.modalities.vision.preparation import prepare
from d2v.modalities.vision.reading import FACTS, read_image
from tests.objectives.helpers import SMALL

PREPARE = VisionPrepareConfig(store_px=16, probe_train_images=20, probe_test_images=9)


def picture(seed: int, height: int, width: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_corpus(folder, count=60, labels=("cat", "dog", "eel"), sides=((20, 16), (12, 12), (16, 31))):
    items = []
    for n in range(count):
        split = "test" if n % 4 == 0 else "train"
        items.append(
            Item(f"{n}.png", picture(n, *sides[n % len(sides)]), labels[n % len(labels)] if labels else None, split)
        )
    source = Source("pictures", f"{count}", count, lambda start: iter(items[start:]))
    config = VisionIngestConfig(source="x")
    ingest(source, lambda data: read_image(data, config), FACTS, folder, {}, 5_000, 0.1)
    return folder


@pytest.fixture
def prepared(tmp_path):
    prepare(PREPARE, make_corpus(tmp_path / "corpus"), tmp_path / "prepared")
    return tmp_path / "prepared"


def recipe(**changes) -> VisionTrainConfig:
    return parse(VisionTrainConfig, SMALL | changes)


def keys(rows, epoch=0, update=0) -> SampleKeys:
    rows = np.asarray(rows)
    return SampleKeys(update, rows, np.full(len(rows), epoch))


def test_counts_statistics_and_labels(prepared):
    data = VisionData(prepared)
    assert (data.num_train, data.about["test_items"], data.class_names) == (45, 15, ("cat", "dog", "eel"))
    assert data.about["enlarged_items"] == 20
    pixels = data.train.fixed("data", np.arange(45)).reshape(-1, 3) / 255.0
    np.testing.assert_allclose(data.about["mean"], pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(data.about["std"], pixels.std(0), rtol=1e-9)


def test_batches_are_pure_functions_of_seed_epoch_and_sample(prepared):
    data, config = VisionData(prepared), recipe()
    whole = data.batch(keys(range(10)), config).inputs
    assert whole.shape == (10, 3, 16, 16)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(data.batch(keys([7, 3]), config).inputs, whole[[7, 3]], rtol=0, atol=1e-6)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy.batch(keys(range(10)), config).inputs, whole)
    assert not torch.equal(data.batch(keys(range(10), epoch=1), config).inputs, whole)
    assert not torch.equal(data.batch(keys(range(10)), recipe(seed=5)).inputs, whole)


def test_batches_are_normalised(prepared):
    config = recipe(augment={"crop_scale": [1.0, 1.0], "flip": 0.0})
    inputs = VisionData(prepared).batch(keys(range(45)), config).inputs
    assert float(inputs.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(inputs.std()) == pytest.approx(1.0, abs=0.25)


def test_probe_set_is_fixed_balanced_and_held_out(prepared, tmp_path):
    data = VisionData(prepared)
    probe = data.probe_set(recipe())
    assert probe.train_inputs.values.shape == (20, 3, 16, 16)
    assert sorted(np.bincount(probe.train_labels)) == [6, 7, 7]
    assert np.bincount(probe.test_labels).tolist() == [3, 3, 3]
    prepare(PREPARE, tmp_path / "corpus", tmp_path / "again")
    assert torch.equal(VisionData(tmp_path / "again").probe_set(recipe()).test_inputs.values, probe.test_inputs.values)
    pictures = Vision().to_images(probe.test_inputs, data)
    rows = data.about["probe"]["test"]
    assert np.array_equal(pictures, data.test.fixed("data", rows).reshape(-1, 16, 16, 3))
    assert Vision().baseline_features(probe.test_inputs).shape == (9, 768)
    assert Vision().describe(data)["class_names"] == ["cat", "dog", "eel"]


def test_jpeg_storage_keeps_shapes_and_gives_the_same_kind_of_batch(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    prepare(PREPARE.model_copy(update={"storage": "jpeg"}), corpus, tmp_path / "prepared")
    data = VisionData(tmp_path / "prepared")
    from d2v.modalities.vision.reading import decode

    assert decode(data.train.binary("data", 1)).shape[:2] in ((16, 31), (20, 16), (16, 16))
    assert data.batch(keys(range(5)), recipe()).inputs.shape == (5, 3, 16, 16)
    assert data.probe_set(recipe()).test_inputs.values.shape == (9, 3, 16, 16)


def test_unchanged_is_a_quick_check(prepared, tmp_path, monkeypatch):
    from d2v.modalities.vision import preparation

    monkeypatch.setattr(preparation, "_Preparation", None)
    assert prepare(PREPARE, tmp_path / "corpus", prepared)["train_items"] == 45


def test_a_change_of_the_corpus_or_the_parameters_prepares_again(prepared, tmp_path):
    first = VisionData(prepared).fingerprint
    prepare(PREPARE.model_copy(update={"store_px": 8}), tmp_path / "corpus", prepared)
    second = VisionData(prepared).fingerprint
    make_corpus(tmp_path / "corpus", count=50)
    prepare(PREPARE, tmp_path / "corpus", prepared)
    assert len({first, second, VisionData(prepared).fingerprint}) == 3


def test_unlabelled_images_have_no_probe_labels(tmp_path):
    prepare(PREPARE, make_corpus(tmp_path / "corpus", labels=()), tmp_path / "prepared")
    probe = VisionData(tmp_path / "prepared").probe_set(recipe())
    assert probe.class_names == ()
    assert set(probe.test_labels.tolist()) == {-1}


def test_encoder_larger_than_the_store_names_the_fix(prepared):
    config = recipe(encoder=SMALL["encoder"] | {"image_px": 32})
    with pytest.raises(ConfigError, match=r"set prepare.store_px=32"):
        VisionData(prepared).batch(keys([0]), config)


def test_errors_name_the_step_to_run(tmp_path, prepared):
    with pytest.raises(DataError, match="run the ingest step first"):
        prepare(PREPARE, tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(DataError, match="run the prepare step first"):
        VisionData(tmp_path / "nothing")
    about = json.loads((prepared / "prepared.json").read_text())
    (prepared / "prepared.json").write_text(json.dumps(about | {"train_items": 99}))
    (prepared / DIGESTS).unlink()
    with pytest.raises(DataError, match="lacks shards"):
        VisionData(prepared)
