"""The model that is served: a folder, or an entry of the registry whose alias may move."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from d2v.errors import CheckpointError
from d2v.search.index import fingerprint
from d2v.tracking import versions
from d2v.tracking.models import REGISTERED
from d2v.tracking.served import ServedModel, served_model


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    Attributes:
        model: answers requests.
        identity: another one means that the source has another model now.
        label: for people: `models:/<name>/<version>` or the folder.
    """

    model: ServedModel
    identity: str
    label: str

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights and the space, as an index has it."""
        return fingerprint(self.model)


@dataclass(frozen=True)
class Source:
    """Where the served model is taken from.

    Attributes:
        name: a model folder, `models:/<name>@<alias>` or `models:/<name>/<version>`.
        environment: variables D2V_SERVE_*, which limit requests.
        device: `cpu`, `cuda`, ...
    """

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def identity(self) -> str:
        """Of the model that the source has now. Raises CheckpointError if there is none."""
        return self._now()[0]

    def load(self) -> Loaded:
        """The model that the source has now, after it has answered its example. A registered model's weights are read
        by the code that runs here: none of the code that the registry keeps beside them is run.

        Raises:
            CheckpointError: there is none, or it is damaged, or its embeddings are not finite.
        """
        identity, label, folder_in = self._now()
        with tempfile.TemporaryDirectory(prefix="d2v-serve-") as scratch:
            model = served_model(folder_in(Path(scratch)), self.environment, self.device)
        model.try_out()
        return Loaded(model, identity, label)

    def _now(self) -> tuple[str, str, Callable[[Path], Path]]:
        """(identity, label, scratch folder -> model folder)."""
        if not self.name.startswith(REGISTERED):
            folder = Path(self.name)
            return _state_of(folder), str(folder), lambda scratch: folder
        version = versions.by_uri(self.name)
        if version is None:
            raise CheckpointError(
                f"{self.name} is not in the model registry: see `d2v models`, and give models:/<name>@<alias>"
            )
        return version.uri, version.uri, lambda scratch: versions.fetch(version, scratch).model


def _state_of(folder: Path) -> str:
    """Sizes and times of a model folder's files."""
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
        found = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror}): give a model folder") from error
    return str(found)
