"""Encoders from elsewhere are fed as their authors fed them, or refused by name: rates, normalisation, sizes, crops."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from d2v.errors import CheckpointError, DataError
from d2v.interchange.huggingface_export import export_huggingface
from d2v.interchange.importing import import_model
from d2v.interchange.load import load
from d2v.interchange.readers import read_source
from d2v.modalities import registry
from tests.interchange import encoders
from tests.interchange.parity import assert_close

IMAGE = np.random.default_rng(0).integers(80, 180, (50, 70, 3)).astype(np.uint8)
"""Far from black and white, where transformers cuts off what bicubic interpolation adds, after each direction."""
WAVE = (0.1 * np.random.default_rng(0).standard_normal(4000)).astype(np.float32)


def folder_of(tmp_path: Path, modality: str, said: dict[str, Any] | None, file: str = "preprocessor_config") -> Path:
    """A folder of transformers with an encoder of data2vec 1.0, and what it says of its items."""
    folder = tmp_path / "theirs"
    export_huggingface(encoders.save(tmp_path / "ours", modality, 1), folder)
    (folder / "preprocessor_config.json").unlink()
    if said is not None:
        (folder / f"{file}.json").write_text(json.dumps(said))
    return folder


def inputs_of(folder: Path, item: np.ndarray) -> torch.Tensor:
    """What the encoder of a folder sees of one item."""
    source = read_source(folder)
    about = {"recipe": source.recipe.model_dump(mode="json"), **source.about}
    return registry.get(source.modality).to_inputs([item], about).values


# --------------------------------------------------------------------------------------------- images

BEIT = {"image_processor_type": "BeitImageProcessor", "size": {"height": 24, "width": 24}}
FOLLOWED: dict[str, dict[str, Any]] = {
    "as transformers by default": BEIT,
    "bilinear": {**BEIT, "resample": 2},
    "nearest": {**BEIT, "resample": 0},
    "own mean": {**BEIT, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.9, 0.8, 0.7]},
    "one mean for all": {**BEIT, "image_mean": 0.25, "image_std": 0.5},
    "not normalised": {**BEIT, "do_normalize": False},
    "not rescaled": {**BEIT, "do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    "rescaled to -1 and 1": {**BEIT, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    "neither": {**BEIT, "do_rescale": False, "do_normalize": False},
    "centre of a shorter side": {
        **BEIT,
        "size": {"shortest_edge": 30},
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 24},
    },
    "centre of a square": {
        **BEIT,
        "size": {"height": 36, "width": 30},
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 24},
    },
    "centre alone": {**BEIT, "do_resize": False, "do_center_crop": True, "crop_size": {"height": 24, "width": 24}},
    "a plain number": {"feature_extractor_type": "BeitFeatureExtractor", "size": 24, "crop_size": 24, "resample": 2},
    "ViT's silence": {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}},
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_images_are_prepared_as_transformers_prepares_them(tmp_path, name):
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    folder = folder_of(tmp_path, "vision", FOLLOWED[name])
    kind = "ViTImageProcessor" if name.startswith("ViT") else "BeitImageProcessor"
    theirs = getattr(transformers, kind).from_pretrained(folder)(IMAGE, return_tensors="pt")["pixel_values"]
    ours = inputs_of(folder, IMAGE)
    assert ours.shape == theirs.shape
    level = 1 / 255 / min(read_source(folder).about["std"])  # transformers rounds to whole levels after each direction
    assert float((ours - theirs).abs().max()) < 1.5 * level
    assert float((ours - theirs).mean().abs()) < 0.1 * level


@pytest.mark.parametrize("name", ["bilinear", "centre of a shorter side", "not rescaled"])
def test_our_own_folder_and_export_prepare_images_in_the_same_way(tmp_path, name):
    folder = folder_of(tmp_path, "vision", FOLLOWED[name])
    expected = inputs_of(folder, IMAGE)
    shutil.rmtree(tmp_path / "ours")
    import_model(folder, tmp_path / "ours")
    export_huggingface(tmp_path / "ours", tmp_path / "again")
    assert_close(inputs_of(tmp_path / "again", IMAGE), expected)
    assert_close(load(tmp_path / "ours").to_inputs([IMAGE]).values, expected)


REFUSED = [
    ({**BEIT, "size": {"height": 32, "width": 32}}, r"size=\{'height': 32.*24 x 24 px"),
    ({**BEIT, "size": {"shortest_edge": 24}}, "size="),
    ({**BEIT, "size": {"longest_edge": 24}}, "size="),
    ({**BEIT, "do_center_crop": True, "crop_size": {"height": 16, "width": 16}}, "crop_size="),
    ({**BEIT, "resample": 1}, r"resample=1 \(Lanczos\)"),
    ({**BEIT, "resample": 5}, r"resample=5 \(Hamming\)"),
    ({**BEIT, "rescale_factor": 0}, "rescale_factor=0"),
    ({**BEIT, "image_std": [0.5, 0.0, 0.5]}, "image_std="),
    ({**BEIT, "image_mean": [0.5]}, "image_mean="),
    ({**BEIT, "do_pad": True}, "do_pad=True"),
    ({"image_processor_type": "FlavaImageProcessor", "size": {"height": 24, "width": 24}}, "a FlavaImageProcessor"),
]


@pytest.mark.parametrize(("said", "words"), REFUSED)
def test_steps_that_cannot_be_followed_are_named(tmp_path, said, words):
    with pytest.raises(CheckpointError, match=words):
        read_source(folder_of(tmp_path, "vision", said))


def test_images_that_are_not_resized_must_have_the_encoders_side(tmp_path):
    folder = folder_of(tmp_path, "vision", {**BEIT, "do_resize": False})
    assert inputs_of(folder, IMAGE[:24, :24]).shape == (1, 3, 24, 24)
    with pytest.raises(DataError, match=r"70 x 50 px.*give 24 x 24 px"):
        inputs_of(folder, IMAGE)


def test_a_folder_that_says_nothing_gets_imagenets_mean_and_a_note(tmp_path):
    source = read_source(folder_of(tmp_path, "vision", None))
    assert source.about["mean"] == [0.485, 0.456, 0.406]
    assert any("does not say how images are normalised" in note for note in source.notes)


# ----------------------------------------------------------------------------------------- recordings

EXTRACTOR = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 16000,
    "padding_value": 0.0,
    "padding_side": "right",
    "return_attention_mask": True,
}


@pytest.mark.parametrize("normalised", [True, False, None])
@pytest.mark.parametrize("file", ["preprocessor_config", "processor_config"])
def test_recordings_are_prepared_as_transformers_prepares_them(tmp_path, normalised, file):
    transformers = pytest.importorskip("transformers", reason="install the extra `interchange` to run this test")
    said = EXTRACTOR if normalised is None else {**EXTRACTOR, "do_normalize": normalised}
    folder = folder_of(tmp_path, "speech", said if file.startswith("pre") else {"feature_extractor": said}, file)
    extractor = transformers.Wav2Vec2FeatureExtractor(**said)
    theirs = extractor(WAVE, sampling_rate=16000, return_tensors="pt")["input_values"]
    features = transformers.AutoModel.from_pretrained(folder).eval()(theirs).last_hidden_state.mean(1)
    assert_close(torch.from_numpy(load(folder).encode(WAVE))[None], features.detach(), 1e-3 if normalised else 2e-3)
    if normalised is False:
        assert torch.equal(inputs_of(folder, WAVE), torch.from_numpy(WAVE)[None])
    else:
        assert float(inputs_of(folder, WAVE).std()) == pytest.approx(1.0, abs=1e-2)


def test_recordings_that_are_not_normalised_stay_so_in_our_folder_and_export(tmp_path):
    folder = folder_of(tmp_path, "speech", {**EXTRACTOR, "do_normalize": False})
    expected = load(folder).encode(WAVE)
    shutil.rmtree(tmp_path / "ours")
    assert any("fed as they are" in note for note in import_model(folder, tmp_path / "ours").source.notes)
    export_huggingface(tmp_path / "ours", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())["do_normalize"] is False
    for copy in ("ours", "again"):
        assert_close(torch.from_numpy(load(tmp_path / copy).encode(WAVE)), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sampling_rate", 8000), ("padding_value", 1.0), ("padding_side", "left"), ("feature_size", 80),
     ("feature_extractor_type", "Speech2TextFeatureExtractor")],
)  # fmt: skip
def test_settings_of_recordings_that_cannot_be_followed_are_named(tmp_path, name, value):
    with pytest.raises(CheckpointError, match=f"{name}={value!r}"):
        read_source(folder_of(tmp_path, "speech", {**EXTRACTOR, name: value}))


def test_without_an_attention_mask_a_recordings_features_are_those_it_has_alone(tmp_path):
    folder = folder_of(tmp_path, "speech", {**EXTRACTOR, "return_attention_mask": False})
    config = json.loads((folder / "config.json").read_text())
    del config["d2v_padding"]  # which our exports alone have
    (folder / "config.json").write_text(json.dumps(config))
    model = load(folder)
    alone, beside = model.encode(WAVE[:2500]), model.encode([WAVE[:2500], WAVE])[0]
    assert_close(torch.from_numpy(beside), torch.from_numpy(alone))
    assert any("attention mask" in note for note in read_source(folder).notes)


# --------------------------------------------------------------------------------------- the reference


def reference(goldens: Path, tmp_path: Path, name: str, **cfg: Any) -> Path:
    content = torch.load(goldens / f"{name}.fairseq.pt", weights_only=True)
    torch.save({**content, **cfg}, tmp_path / "reference.pt")
    return tmp_path / "reference.pt"


@pytest.mark.goldens
@pytest.mark.parametrize(("normalised", "std"), [(True, 1.0), (False, float(WAVE.std()))])
def test_the_references_recordings_are_normalised_as_its_task_says(shared_goldens, tmp_path, normalised, std):
    content = torch.load(shared_goldens / "v2_audio.fairseq.pt", weights_only=True)
    cfg = {**content["cfg"], "task": {"normalize": normalised, "sample_rate": 16000}}
    file = reference(shared_goldens, tmp_path, "v2_audio", cfg=cfg)
    assert float(inputs_of(file, WAVE).std()) == pytest.approx(std, rel=1e-2)


@pytest.mark.goldens
def test_the_references_other_rates_are_refused(shared_goldens, tmp_path):
    content = torch.load(shared_goldens / "v1_audio.fairseq.pt", weights_only=True)
    cfg = {**content["cfg"], "task": {"sample_rate": 8000}}
    with pytest.raises(CheckpointError, match="sampling_rate=8000"):
        read_source(reference(shared_goldens, tmp_path, "v1_audio", cfg=cfg))


@pytest.mark.goldens
def test_the_references_images_have_its_tasks_mean(shared_goldens, tmp_path):
    plain = read_source(shared_goldens / "v1_image.fairseq.pt")
    assert plain.about["mean"] == [0.485, 0.456, 0.406]
    args = argparse.Namespace(imagenet_default_mean_and_std=False)
    beit = read_source(reference(shared_goldens, tmp_path, "v1_image", args=args, cfg=None))
    assert beit.about["mean"] == beit.about["std"] == [0.5] * 3
    content = torch.load(shared_goldens / "v1_image.fairseq.pt", weights_only=True)
    task = {"normalization_mean": [0.1, 0.2, 0.3], "normalization_std": [1.0, 1.0, 0.5]}
    told = read_source(reference(shared_goldens, tmp_path, "v1_image", cfg={**content["cfg"], "task": task}))
    assert told.about["mean"] == [0.1, 0.2, 0.3]
