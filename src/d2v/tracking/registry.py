"""The model registry: encoders as `d2v-<modality>`, found by alias."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature, infer_signature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from d2v.errors import DataError
from d2v.modalities import registry

WEIGHTS, DIGEST = "encoder.safetensors", "encoder_sha256"
SERVING_PACKAGES = (*("fsspec", "mlflow", "numpy", "pillow", "pyarrow", "pydantic", "rich", "safetensors", "torch"),)


def register_encoder(modality: str, folder: Path, metrics: Mapping[str, float], alias: str = "challenger") -> str:
    """Have the encoder in the registry, once, under an alias. A new one is logged into the active MLflow run.

    Args:
        modality: the model is called `d2v-<modality>`.
        folder: run folder's `encoder` with config.json and encoder.safetensors.
        metrics: kept as tags of the version, so that versions can be compared without their runs.
        alias: moved to the encoder's version.

    Returns:
        The version: a new one, or the one that holds these very weights.

    Raises:
        DataError: the folder holds no encoder.
    """
    missing = [file for file in ("config.json", WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{folder} holds no encoder (no {' and no '.join(missing)}): train first, then evaluate again")
    name, client = f"d2v-{modality}", MlflowClient()
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    version = _version_with(client, name, digest) or _log_encoder(name, folder)
    client.set_registered_model_alias(name, alias, version)
    tags = {DIGEST: digest} | {key: f"{value:g}" for key, value in sorted(metrics.items())}
    for key, text in tags.items():
        client.set_model_version_tag(name, version, key, text)
    return version


def _version_with(client: MlflowClient, name: str, digest: str) -> str | None:
    found = client.search_model_versions(f"name = '{name}' and tags.{DIGEST} = '{digest}'", max_results=1)
    return str(found[0].version) if found else None


def _log_encoder(name: str, folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text())
    modality = registry.get(config["modality"])
    example = modality.example_request(config)
    width = int(config["recipe"]["encoder"]["width"])
    model = mlflow.pyfunc.log_model(
        name="encoder",
        python_model=str(Path(__file__).with_name("pyfunc_encoder.py")),
        artifacts={"encoder": str(folder)},
        code_paths=[str(Path(__file__).parents[1])],
        signature=_signature(example, modality.free_axes, width),
        input_example=example,
        pip_requirements=pinned(SERVING_PACKAGES + modality.packages),
        registered_model_name=name,
    )
    return str(model.registered_model_version)


def _signature(example: np.ndarray, free_axes: tuple[int, ...], width: int) -> ModelSignature:
    """Requests like the example, of any size along the free axes; embeddings (n, width)."""
    inferred = infer_signature(example, np.zeros((1, width), dtype=np.float32))
    shape = tuple(-1 if axis in free_axes else size for axis, size in enumerate(example.shape))
    (request,) = inferred.inputs.inputs
    return ModelSignature(Schema([TensorSpec(request.type, shape)]), inferred.outputs)


def pinned(packages: tuple[str, ...]) -> list[str]:
    """`name==version` of installed packages, without local build suffixes, which no index has."""
    return [f"{package}=={importlib.metadata.version(package).split('+')[0]}" for package in packages]
