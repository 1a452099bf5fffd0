"""Registered encoders: versions, alias, and what comes back from the registry."""

from __future__ import annotations

import io
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image

from d2v.config import parse
from d2v.data.digests import DIGESTS
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.vision.raw_inputs import to_inputs
from d2v.model_folder import load_encoder, save_encoder
from d2v.objectives.build import build_objective
from d2v.tracking.registry import pinned, register_encoder

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
RECIPE = {
    "objective": {
        "name": "data2vec2",
        "masks_per_sample": 2,
        "decoder": {"layers": 1, "width": 16, "groups": 1},
        "targets": {"top_k_layers": 1},
        "ema": {"decay_start": 0.99, "decay_end": 0.999},
    },
    "encoder": {"image_px": 16, "patch_px": 4, "width": 16, "depth": 1, "heads": 2},
    "mask": {"kind": "block"},
    "optimizer": {"lr": 1e-3},
    "batch_size": 2,
    "max_updates": 1,
}


def save(folder: Path, seed: int) -> Path:
    recipe = parse(registry.get("vision").train_config, RECIPE | {"seed": seed})
    objective = build_objective(registry.get("vision"), recipe)
    save_encoder(folder, objective, "vision", recipe, {"mean": MEAN, "std": STD})
    return folder


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "encoder", seed=0)


def test_the_newest_encoder_is_the_challenger(client: MlflowClient, folder: Path, tmp_path: Path) -> None:
    with mlflow.start_run():
        versions = [
            register_encoder("vision", folder, {"probe/knn": 0.25}),
            register_encoder("vision", save(tmp_path / "other", seed=1), {"probe/knn": 0.5}),
        ]
    assert versions == ["1", "2"]
    challenger = client.get_model_version_by_alias("d2v-vision", "challenger")
    assert str(challenger.version) == "2"
    assert challenger.tags["probe/knn"] == "0.5"


def test_the_same_encoder_is_registered_once(client: MlflowClient, folder: Path) -> None:
    with mlflow.start_run():
        versions = [register_encoder("vision", folder, {"probe/knn": value}) for value in (0.25, 0.3)]
    assert versions == ["1", "1"]
    assert client.get_model_version("d2v-vision", "1").tags["probe/knn"] == "0.3"


def test_a_new_name_of_a_key_changes_no_recipe_digest(client: MlflowClient, folder: Path) -> None:
    digests = []
    (folder / DIGESTS).unlink()  # earlier versions, whose names these are, wrote none
    with mlflow.start_run():
        for text in (config := (folder / "config.json").read_text(), config.replace("_matmul", "_products")):
            (folder / "config.json").write_text(text)
            register_encoder("vision", folder, {})
            digests.append(client.get_model_version("d2v-vision", "1").tags["recipe_digest"])
    assert '"float32_products"' in text
    assert digests[0] == digests[1]


def test_the_registered_model_is_the_encoder(client: MlflowClient, folder: Path) -> None:
    with mlflow.start_run():
        register_encoder("vision", folder, {})
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    files = pd.DataFrame({"image": [png(image) for image in images]})
    served = mlflow.pyfunc.load_model("models:/d2v-vision@challenger").predict(files)
    encoder, _ = load_encoder(folder)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        own = encoder.features((pixels - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1))
    np.testing.assert_allclose(served, own.numpy(), rtol=1e-5, atol=1e-6)


def test_inputs_of_other_sizes_and_types_mean_the_same() -> None:
    config = {"recipe": RECIPE, "mean": MEAN, "std": STD}
    grey = np.full((1, 40, 24, 3), 128, dtype=np.uint8)
    two = to_inputs([grey[0], grey[0, :20]], config).values
    assert two.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(two[1:], to_inputs(grey[:, :20], config).values)
    as_bytes, as_floats = to_inputs(grey, config).values, to_inputs(grey / 255.0, config).values
    assert as_bytes.shape == (1, 3, 16, 16)
    np.testing.assert_allclose(as_bytes, as_floats, atol=1e-6)


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3)), np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 3), np.int64), []])
def test_other_inputs_are_refused_by_name(images: np.ndarray) -> None:
    with pytest.raises(DataError, match="give"):
        to_inputs(images, {"recipe": RECIPE, "mean": MEAN, "std": STD})


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train first"):
        register_encoder("vision", tmp_path, {})


def test_requirements_are_pinned_to_public_versions() -> None:
    (line,) = pinned(("torch",))
    assert line.startswith("torch==")
    assert "+" not in line
