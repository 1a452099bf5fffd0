"""A registered model by its name, as `d2v.load` and a recipe's `finetune.start` take it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

import d2v
from d2v.errors import CheckpointError
from d2v.tracking.registry import register_encoder
from tests.tracking.test_registry import save


def test_a_registered_encoder_is_loaded_by_its_alias(client: MlflowClient, tmp_path: Path) -> None:
    folder = save(tmp_path / "encoder", seed=0)
    with mlflow.start_run():
        register_encoder("vision", folder, {}, alias="champion")
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    found = d2v.load("models:/d2v-vision@champion").encode(image)
    assert np.array_equal(found, d2v.load(folder).encode(image))
    with pytest.raises(CheckpointError, match=r"not in the model registry.*models:/<name>@<alias>"):
        d2v.load("models:/d2v-vision@nobody")
