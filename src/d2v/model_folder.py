"""Our own model folder: `config.json` beside `encoder.safetensors` (the student's) and, where the objective has a
teacher, `teacher.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from d2v.config import TrainConfig, current_names, parse
from d2v.data import digests
from d2v.data.disk import read_json
from d2v.errors import CheckpointError
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective

CONFIG, ENCODER, TEACHER = "config.json", "encoder.safetensors", "teacher.safetensors"
BLOCK_COUNTS = ("depth", "prenet_depth", "position_layers")
"""Numbers of an encoder's settings that say how many parts with weights of their own it has."""
TABLE_BYTES, TABLES_PER_WEIGHTS = 4 * 2**30, 16
"""The most that tables which are no weights, such as those of relative positions, may take."""
DECODER = "decoder.safetensors"
"""What only pretraining and its probes go on from: decoder, heads, codebooks."""
RESTORE = "train again, restore the file, or name another model"
CHANGED = f"To have it as it was, {RESTORE}; if you changed it on purpose, remove {digests.DIGESTS} beside it"


def own_weights(module: nn.Module, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """Copies of the weights of a module that is whole in this process."""
    own = module.state_dict()
    return {name: value.detach().cpu().contiguous().clone() for name, value in own.items() if wanted(name)}


def save_encoder(
    folder: Path,
    objective: Objective,
    modality: str,
    recipe: TrainConfig,
    extra: Mapping[str, Any] | None = None,
    weights_of: WeightsOf = own_weights,
) -> bool:
    """Write the student's encoder, and the teacher's if there is one, with what is needed to rebuild and feed them.
    One of the two is in memory at a time.

    Args:
        folder: created if it is not there.
        objective: whose student and teacher are saved.
        modality: registry name.
        recipe: the train block they were built from.
        extra: further plain values for `config.json`, such as normalisation and class names.
        weights_of: gathers weights that are spread over processes; all of them call this function then.

    Returns:
        Whether this process is the one that wrote it.
    """
    writes = _write(weights_of(objective.student, lambda name: True), folder / ENCODER)
    if writes:
        (folder / TEACHER).unlink(missing_ok=True)  # that of another objective, trained here before
    if objective.teacher is not None:
        _write(teacher_weights(objective, weights_of), folder / TEACHER)
    if writes:
        config = {"format": 1, "modality": modality, "recipe": recipe.model_dump(mode="json"), **(extra or {})}
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        digests.seal(folder)
    return writes


def teacher_weights(objective: Objective, weights_of: WeightsOf = own_weights) -> dict[str, Tensor]:
    """The weights of a whole encoder: the teacher's, and the student's where it has none of its own."""
    if objective.teacher is None:
        return weights_of(objective.student, lambda name: True)
    own = objective.teacher.encoder.state_dict().keys()
    return {
        **weights_of(objective.student, lambda name: name not in own),
        **weights_of(objective.teacher.encoder, lambda name: True),
    }


def _write(weights: dict[str, Tensor], file: Path) -> bool:
    """Whether there was something to write."""
    if weights:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, file)
    return bool(weights)


def load_encoder(folder: Path, teacher: bool = False) -> tuple[Encoder, dict[str, Any]]:
    """Rebuild an encoder saved by `save_encoder`, in eval mode on the CPU.

    Returns:
        (encoder, contents of config.json).

    Raises:
        CheckpointError: a file is missing or damaged, the weights do not fit the recipe, or there is no teacher.
    """
    config = read_config(folder)
    modality = registry.get(config["modality"])
    recipe = parse(modality.train_config, config["recipe"], at="recipe")
    weights = folder / (TEACHER if teacher else ENCODER)
    if teacher and not weights.exists():
        raise CheckpointError(
            f"{folder} has no {TEACHER}, as {recipe.objective.name} wrote it: load the student instead"
        )
    state = read_weights(weights)
    encoder = build_fitting(modality, recipe, shapes_of(state), str(weights))
    load_state(encoder, state, str(weights))
    return encoder.eval(), config


def load_objective(folder: Path, modality: Modality, recipe: TrainConfig) -> Objective | None:
    """The whole objective that an encoder was pretrained with, in eval mode on the CPU: student, teacher, decoder.

    Args:
        folder: a model folder.
        modality: whose encoder it is.
        recipe: the train block that it was trained with.

    Returns:
        None where the folder lacks the teacher, the decoder or the heads, as those of imported encoders do.

    Raises:
        CheckpointError: a file is damaged, or its weights do not fit the recipe.
    """
    if not (folder / ENCODER).is_file():
        return None
    student = read_weights(folder / ENCODER)
    check_fits(modality, recipe, shapes_of(student), str(folder / ENCODER))
    objective = build_objective(modality, recipe)
    needs_teacher = objective.teacher is not None
    needs_rest = any(is_rest(name) for name in objective.state_dict())
    needed = [ENCODER, *([TEACHER] if needs_teacher else []), *([DECODER] if needs_rest else [])]
    if not all((folder / name).is_file() for name in needed):
        return None
    load_state(objective.student, student, str(folder / ENCODER))
    if objective.teacher is not None:
        whole, own = read_weights(folder / TEACHER), objective.teacher.encoder.state_dict()
        given = {name: whole[name] for name in own if name in whole}
        load_state(objective.teacher.encoder, given, str(folder / TEACHER))
    if needs_rest:
        rest, own = read_weights(folder / DECODER), objective.state_dict()
        load_state(objective, {name: rest.get(name, own[name]) for name in own}, str(folder / DECODER))
    return objective.eval()


def is_rest(name: str) -> bool:
    """Whether a weight of an objective belongs to neither student nor teacher."""
    return not name.startswith(("student.", "teacher."))


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file of a model folder. Raises CheckpointError if it is damaged, changed or not there."""
    digests.check(file.parent, [file.name], CheckpointError, CHANGED)
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}): {RESTORE}") from error


Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Their shapes alone."""
    return {name: tuple(value.shape) for name, value in state.items()}


def build_fitting(modality: Modality, recipe: TrainConfig, shapes: Shapes, origin: str) -> Encoder:
    """The recipe's encoder, once it is known that its weights fill it: a config may ask for any size.

    Args:
        modality: whose encoder it is.
        recipe: the train block.
        shapes: of its weights.
        origin: of the weights, for messages.

    Raises:
        CheckpointError: weights and recipe do not fit (all keys named).
    """
    check_fits(modality, recipe, shapes, origin)
    return modality.build_encoder(recipe)


def check_fits(modality: Modality, recipe: TrainConfig, shapes: Shapes, origin: str) -> None:
    """Raises CheckpointError if weights do not fill the recipe's encoder. It is built without memory for its numbers,
    and if it has no more blocks than there are weights."""
    settings = getattr(recipe, "encoder", None)
    blocks = sum(getattr(settings, name, 0) for name in BLOCK_COUNTS)
    if blocks > len(shapes):
        raise CheckpointError(
            f"{origin} does not fit the model; use the recipe it was trained with: the recipe asks for {blocks:,} "
            f"blocks, and the file holds {len(shapes):,} weights"
        )
    with torch.device("meta"):
        planned = modality.build_encoder(recipe)
    refuse_misfits(planned, shapes, origin)
    weights = sum(value.nbytes for value in planned.parameters())
    tables = sum(value.nbytes for value in planned.buffers())
    if tables > max(TABLE_BYTES, TABLES_PER_WEIGHTS * weights):
        raise CheckpointError(
            f"{origin}: the recipe asks for {tables:,} bytes of tables beside {weights:,} bytes of weights: set "
            "recipe.encoder to the sizes it was trained with"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of a model folder's config.json, with the keys of its recipe under the names of today."""
    digests.check(folder, [CONFIG], CheckpointError, CHANGED)
    needs = {"modality": str, "recipe": dict}
    config = read_json(folder / CONFIG, CheckpointError, f"give a model folder, which holds {CONFIG}", needs)
    if config["modality"] not in registry.MODALITIES:
        return config
    blocks = {"train": config["recipe"], "finetune": config.get("finetune")}
    blocks = current_names(registry.recipe_type(config["modality"]), blocks)
    return config | {"recipe": blocks["train"]} | ({"finetune": blocks["finetune"]} if "finetune" in config else {})


def load_state(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load a state dict strictly; the error names every missing, unexpected and misshapen key."""
    refuse_misfits(module, shapes_of(state), origin)
    module.load_state_dict(dict(state))


def refuse_misfits(module: nn.Module, given: Shapes, origin: str) -> None:
    """Raises CheckpointError if weights of these shapes do not fill a module (all keys named)."""
    own = shapes_of(module.state_dict())
    lines = [f"missing {name} {own[name]}" for name in own.keys() - given.keys()]
    lines += [f"unexpected {name} {given[name]}" for name in given.keys() - own.keys()]
    both = own.keys() & given.keys()
    lines += [f"{name} is {given[name]}, should be {own[name]}" for name in both if own[name] != given[name]]
    if lines:
        listed = "\n  ".join(sorted(lines))
        raise CheckpointError(f"{origin} does not fit the model; use the recipe it was trained with:\n  {listed}")
