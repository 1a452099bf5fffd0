"""Models to serve, as folders and in a registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from d2v.modalities.text.tokenizer import train_tokenizer
from d2v.serving.source import Loaded, Source
from d2v.tracking.registry import register_encoder
from tests.interchange import encoders

TOKENIZER = train_tokenizer(["to be or not to be"], 300).to_json()
LIMITS = {"D2V_SERVE_MAX_ITEMS": "10", "D2V_SERVE_MAX_CHARACTERS": "30"}


def save_text(folder: Path, depth: int = 1) -> Path:
    """An encoder of texts."""
    return encoders.save(folder, "text", 2, {"tokenizer": TOKENIZER}, depth=depth)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("served") / "encoder")


@pytest.fixture(scope="session")
def loaded(folder: Path) -> Loaded:
    """The encoder of texts, with low limits."""
    return Source(str(folder), LIMITS).load()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a registry with two versions of d2v-text."""
    folder = tmp_path_factory.mktemp("registry")
    before, uri = mlflow.get_tracking_uri(), f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    experiment = MlflowClient().create_experiment("d2v", (folder / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        for depth in (1, 2):
            register_encoder("text", save_text(folder / str(depth), depth), {})
    yield folder
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)


@pytest.fixture
def two_versions(registry: Path) -> Callable[[int], None]:
    """That registry, with version 1 as the champion. Gives what moves the alias to another version."""
    client = MlflowClient(f"sqlite:///{registry / 'mlflow.db'}")

    def promote(version: int) -> None:
        client.set_registered_model_alias("d2v-text", "champion", str(version))

    promote(1)
    return promote
