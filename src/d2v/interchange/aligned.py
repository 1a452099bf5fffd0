"""`d2v.load_aligned`: encoders of several modalities that share a space, see `d2v.alignment.space`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from d2v.alignment.space import encoder_fingerprint, read_space
from d2v.errors import DataError
from d2v.interchange.load import Model, load
from d2v.modalities import registry
from d2v.tracking.models import REGISTERED, registered_model


class AlignedModels(Mapping[str, Model]):
    """Encoders that share a space, by modality. Reading an item shows what it is; those that read texts come last,
    as any string is a text.

    Args:
        models: each with its head.
        source: where they came from, for people.
    """

    def __init__(self, models: Mapping[str, Model], source: str = "") -> None:
        order = [*registry.MODALITIES]
        by_reading = sorted(models, key=lambda name: (registry.get(name).takes_words, order.index(name)))
        self._models, self.source = {name: models[name] for name in by_reading}, source

    def __getitem__(self, modality: str) -> Model:
        return self._models[modality]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def width(self) -> int:
        """Numbers of a vector of the shared space."""
        return next(iter(self.values())).width_in("aligned")

    def fingerprint(self) -> str:
        """SHA-256 of all weights that make vectors, heads included."""
        digest = hashlib.sha256()
        for name, model in sorted(self.items()):
            assert model.aligned is not None
            digest.update(f"{name} {model.fingerprint()} ".encode())
            digest.update(encoder_fingerprint(model.aligned.head, None).encode())
        return digest.hexdigest()

    def model_of(self, item: Any) -> Model:
        """The encoder that takes an item: a file of any of the modalities, an array, an image, or a text.

        Raises:
            DataError: none of them takes it; the message has every reason.
        """
        reasons = []
        for name, model in self.items():
            modality = registry.get(name)
            if modality.names_file(item) and not os.path.isfile(item):
                reasons.append(f"{name}: {item} is not there")
            elif not modality.is_item(item):
                reasons.append(f"{name}: {type(item).__name__} is no item of it")
            else:
                try:
                    modality.read_item(item)
                    return model
                except DataError as error:
                    reasons.append(f"{name}: {error}")
        raise DataError("no modality of the space takes it: give another item. " + "; ".join(reasons))


def load_aligned(folder: str | Path, *, device: str | torch.device = "auto") -> AlignedModels:
    """The encoders of an aligned space by modality, ready for `encode(..., space="aligned")`.

    Args:
        folder: of the space, or a registered one such as `models:/d2v-aligned@champion`.
        device: `auto` takes a GPU if there is one.

    Raises:
        CheckpointError: there is no such space, or it is damaged.

    Example:
        >>> models = load_aligned("data/06_models/aligned/embedded/space")  # doctest: +SKIP
        >>> text, pictures = (models[name] for name in ("text", "vision"))  # doctest: +SKIP
        >>> a, b = text.encode("a red B", space="aligned"), pictures.encode("b.png", space="aligned")  # doctest: +SKIP
        >>> float(a @ b)  # doctest: +SKIP
        0.7
    """
    source = str(folder)
    if source.startswith(REGISTERED):
        folder = registered_model(source)
    space = read_space(Path(folder))
    models = {name: load(space.encoder_folder(name), device="cpu").align(head) for name, head in space.heads.items()}
    return AlignedModels({name: model.to(device) for name, model in models.items()}, source)
