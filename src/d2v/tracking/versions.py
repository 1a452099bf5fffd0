"""Versions in the model registry: their aliases and their files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from d2v.errors import CheckpointError
from d2v.tracking.models import REGISTERED

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
LINEAGE = "lineage"
"""Folder of a version with the items it was trained on and its card."""
PREFIX = "d2v-"
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Error codes of stores where there is no such model, version or alias."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: of the model.
        number: from 1.
        tags: facts and metrics.
        aliases: its roles, such as `champion`.
    """

    name: str
    number: int
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"

    @property
    def uri(self) -> str:
        """As recipes name it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def digest(self) -> str:
        """SHA-256 of its weights."""
        tags = ("model_sha256", "aligned_sha256", "encoder_sha256")
        return next((self.tags[tag] for tag in tags if self.tags.get(tag)), "")


@dataclass(frozen=True)
class Fetched:
    """A version's files on this machine.

    Attributes:
        model: the model folder.
        lineage: the folder of its lineage; None if it was registered without.
    """

    model: Path
    lineage: Path | None


def find(name: str, alias: str) -> Version | None:
    """The version with an alias; None if there is none."""
    return _found(lambda client: client.get_model_version_by_alias(name, alias))


def version_number(name: str, number: int) -> Version | None:
    """A version by its number; None if there is none."""
    return _found(lambda client: client.get_model_version(name, str(number)))


def by_uri(uri: str) -> Version | None:
    """The version that `models:/<name>@<alias>` or `models:/<name>/<number>` means; None if there is none."""
    name, at, alias = uri.removeprefix(REGISTERED).partition("@")
    if at:
        return find(name, alias)
    name, _, number = name.rpartition("/")
    return version_number(name, int(number)) if number.isdigit() else None


def _found(ask: Callable[[MlflowClient], ModelVersion]) -> Version | None:
    """None if the store says that there is none. A store that does not answer is an error.

    Raises:
        CheckpointError: the store failed.
    """
    try:
        return _version(ask(MlflowClient()))
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None
        raise CheckpointError(
            f"the model registry of {mlflow.get_tracking_uri()} does not answer ({error}): see whether its server "
            "runs and whether you may read it, then run this again"
        ) from error


def all_versions() -> list[Version]:
    """Every version of every model of this project, by name, newest first."""
    client = MlflowClient()
    names = [model.name for model in client.search_registered_models() if model.name.startswith(PREFIX)]
    found = [entry for name in sorted(names) for entry in client.search_model_versions(f"name = '{name}'")]
    versions = [_version(client.get_model_version(entry.name, entry.version)) for entry in found]
    return sorted(versions, key=lambda version: (version.name, -version.number))


def set_alias(version: Version, alias: str) -> None:
    """Move an alias to a version."""
    MlflowClient().set_registered_model_alias(version.name, alias, str(version.number))


def set_tag(version: Version, key: str, text: str) -> None:
    """Write a fact to a version."""
    MlflowClient().set_model_version_tag(version.name, str(version.number), key, text)


def has_files(name: str, version: str) -> bool:
    """Whether the artifact store still has something of a version."""
    try:
        return bool(mlflow.artifacts.list_artifacts(artifact_uri=f"{REGISTERED}{name}/{version}"))
    except (MlflowException, OSError):
        return False


def fetch(version: Version, into: Path) -> Fetched:
    """Copy a version's files to `into/<start of its digest>`, unless they are there.

    Raises:
        CheckpointError: its files are gone, or hold no model of ours.
    """
    folder = into / (version.digest or f"{version.name}-{version.number}")[:16]
    if not folder.is_dir():
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetching-") as scratch:
            try:
                found = Path(mlflow.artifacts.download_artifacts(f"{version.uri}/artifacts", dst_path=scratch))
            except (MlflowException, OSError) as error:
                raise CheckpointError(
                    f"the files of {version} cannot be read ({error}): restore the artifact store of "
                    f"{mlflow.get_tracking_uri()}, or go back to another version with d2v rollback"
                ) from error
            found.rename(folder)
    configs = sorted(folder.glob("*/config.json"))
    if not configs:
        raise CheckpointError(f"{version} holds no model folder of this project: register one by a training")
    lineage = folder / LINEAGE
    return Fetched(configs[0].parent, lineage if lineage.is_dir() else None)


def _version(entry: ModelVersion) -> Version:
    return Version(entry.name, int(entry.version), dict(entry.tags), tuple(entry.aliases or ()))
