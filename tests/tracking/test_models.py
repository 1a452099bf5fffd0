"""A registered model by its name, as `d2v.load` and a recipe's `finetune.start` take it."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.tracking import MlflowClient

import d2v
from d2v.errors import CheckpointError
from d2v.tracking import versions
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


def test_a_registry_that_fails_is_not_one_without_a_champion(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert versions.find("d2v-vision", "champion") is None
    assert versions.by_uri("models:/d2v-vision/3") is None

    def fails(*arguments: str) -> None:
        raise MlflowException("the server is away", error_code=INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", fails)
    with pytest.raises(CheckpointError, match="does not answer"):
        versions.find("d2v-vision", "champion")
