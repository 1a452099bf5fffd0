"""The result of an import: an encoder in our names with the recipe it implies, and everything else in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from d2v.config import TrainConfig
from d2v.errors import CheckpointError
from d2v.modalities import registry
from d2v.model_folder import CONFIG, ENCODER, TEACHER, check_fits, read_config, shapes_of

HEAD = "head.safetensors"
"""Beside an imported encoder: what its file holds beyond the encoder, under the names it has there. Of a fine-tuned
model: its head in our names."""
REST = "rest.safetensors"
"""Beside a fine-tuned model: what its file holds beyond encoder and head, under the names it has there."""


@dataclass(frozen=True)
class Imported:
    """An encoder from elsewhere.

    Attributes:
        modality: registry name.
        recipe: the train block that the file implies.
        encoder: parameters in our names: of a pretrained model the student's.
        teacher: the teacher's in our names; empty where the file has none.
        head: everything else of use, under the source's own names: classifier, CTC projection, decoder, mask token.
        about: plain values that feed the encoder: normalisation, class names, tokenizer.
        unused: keys of the source that have no place here, such as tables that are rebuilt.
        notes: what a user should know, a sentence each.
        settings: of the model that the file holds, for its head: what the head is, and how it pools; None of a
            pretrained model.
        symbols: of a CTC head's outputs by id, as the source itself tells them; empty if it does not.
        preprocessor: how raw items become inputs, as transformers' preprocessor_config.json says it.
    """

    modality: str
    recipe: TrainConfig
    encoder: dict[str, Tensor]
    teacher: dict[str, Tensor] = field(default_factory=dict)
    head: dict[str, Tensor] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] | None = None
    symbols: tuple[str, ...] = ()
    preprocessor: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinetunedHead:
    """A head from elsewhere in our names: with its encoder it is a fine-tuned model.

    Attributes:
        task: the task's block of a finetune recipe, in plain values.
        about: facts of the task: its letters or class names.
        state: the head's parameters.
        used: the names in `Imported.head` of what it was made of.
    """

    task: dict[str, Any]
    about: dict[str, Any]
    state: dict[str, Tensor]
    used: frozenset[str]


def save_imported(folder: Path, imported: Imported, origin: str, finetuned: FinetunedHead | None = None) -> None:
    """Write an imported encoder as a model folder, which `load_encoder` reads; with its head in our names it is a
    fine-tuned model.

    Args:
        folder: created if it is not there.
        imported: what was read.
        origin: of it, for messages and for `config.json`.
        finetuned: the head in our names.

    Raises:
        CheckpointError: the weights do not fit the recipe (all keys named), or the folder holds another encoder.
    """
    if (folder / ENCODER).exists():
        raise CheckpointError(f"{folder} already holds an encoder: give a new folder, or remove this one")
    for state in filter(None, (imported.encoder, imported.teacher)):
        check_fits(registry.get(imported.modality), imported.recipe, shapes_of(state), origin)
    folder.mkdir(parents=True, exist_ok=True)
    used = finetuned.used if finetuned else frozenset()
    rest = {name: value for name, value in imported.head.items() if name not in used}
    heads = {HEAD: finetuned.state, REST: rest} if finetuned else {HEAD: rest}
    for name, state in {ENCODER: imported.encoder, TEACHER: imported.teacher, **heads}.items():
        if state:
            save_file(plain(state), folder / name)
    config = {
        "format": 1,
        "modality": imported.modality,
        "recipe": imported.recipe.model_dump(mode="json"),
        "class_names": [],
        "source": origin,
        **imported.about,
        **({"finetune": {"task": finetuned.task}, "task": finetuned.about} if finetuned else {}),
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_head(folder: Path) -> dict[str, Tensor]:
    """Weights that were imported beside an encoder, under the source's names; empty if there are none. Of a fine-tuned
    model they do not belong to the head either."""
    file = folder / (REST if "finetune" in read_config(folder) else HEAD)
    return load_file(file) if file.is_file() else {}


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, in one piece, sharing no memory."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
