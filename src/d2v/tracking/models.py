"""From a model's name in a recipe to its folder: a folder, a run's encoder, or an entry of the registry."""

from __future__ import annotations

from pathlib import Path

from d2v.errors import CheckpointError

REGISTERED = "models:/"


def find_model(name: str, pretrained: Path) -> Path | None:
    """The model folder that `finetune.start` means; None for random weights.

    Args:
        name: `pretrained`, `scratch`, a folder, or `models:/<name>@<alias>` or `models:/<name>/<version>`.
        pretrained: what `pretrained` stands for.

    Raises:
        CheckpointError: there is no such folder, or no such entry.
    """
    if name == "scratch":
        return None
    return pretrained if name == "pretrained" else _named(name, "finetune.start", ", pretrained or scratch")


def find_start(name: str | None) -> Path | None:
    """The model folder that `train.start` means; None for random weights.

    Raises:
        CheckpointError: there is no such folder, or no such entry.
    """
    return None if name is None else _named(name, "train.start", " or null")


def _named(name: str, key: str, others: str) -> Path:
    if name.startswith(REGISTERED):
        return registered_model(name)
    if not Path(name).is_dir():
        raise CheckpointError(
            f"{key} {name!r} is not a folder: give a model folder, models:/d2v-<modality>@champion{others}. It was "
            f"looked for in {Path.cwd()}"
        )
    return Path(name)


def registered_model(uri: str) -> Path:
    """A copy of a registered model's folder, in MLflow's cache.

    Raises:
        CheckpointError: there is no such entry, or it holds no model of ours.
    """
    import mlflow

    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    except mlflow.exceptions.MlflowException as error:
        raise CheckpointError(
            f"{uri} is not in the model registry of {mlflow.get_tracking_uri()} ({error}): see `mlflow ui` for what "
            "is, and give models:/<name>@<alias>"
        ) from error
    configs = sorted(folder.rglob("config.json"))
    if not configs:
        raise CheckpointError(f"{uri} holds no model folder of this project: give the name of a registered encoder")
    return configs[0].parent
