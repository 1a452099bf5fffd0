"""An MLflow store in a scratch place, and a small saved encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database after MLflow's migrations, which take seconds; tests copy it."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def client(empty_store: Path, tmp_path: Path) -> Iterator[MlflowClient]:
    """A client on a fresh store, which is also MLflow's current one while the test runs."""
    copy = tmp_path / "mlflow.db"
    copy.write_bytes(empty_store.read_bytes())
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{copy}"
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    client = MlflowClient(uri)
    mlflow.set_experiment(experiment_id=client.create_experiment("d2v", (tmp_path / "artifacts").as_uri()))
    yield client
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri(before)
