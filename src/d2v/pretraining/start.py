"""Pretraining from the weights of a model folder instead of random ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

from d2v.config import TrainConfig
from d2v.errors import CheckpointError
from d2v.modalities.base import Modality
from d2v.model_folder import DECODER, ENCODER, TEACHER, is_rest, load_state, read_config, read_weights
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.progress import log


def build_from(start: Path, modality: Modality, recipe: TrainConfig) -> Objective:
    """The recipe's objective with the weights of an encoder folder.

    A teacher that the folder does not have starts as the student's copy; decoder and heads that are not there or do
    not fit start at random, and a line says so.

    Raises:
        CheckpointError: the encoder does not fit the recipe (all keys named), or cannot be read.
    """
    objective = build_objective(modality, recipe)
    student = read_weights(start / ENCODER)
    load_state(objective.student, student, str(start / ENCODER))
    if objective.teacher is not None:
        whole = read_weights(start / TEACHER) if (start / TEACHER).is_file() else student
        own = objective.teacher.encoder.state_dict()
        load_state(objective.teacher.encoder, {name: whole[name] for name in own if name in whole}, str(start))
    _take_rest(objective, start)
    return objective


def _take_rest(objective: Objective, start: Path) -> None:
    own = {name: tuple(value.shape) for name, value in objective.state_dict().items() if is_rest(name)}
    given = read_weights(start / DECODER) if (start / DECODER).is_file() else {}
    if own == {name: tuple(value.shape) for name, value in given.items()}:
        objective.load_state_dict(given, strict=False)
        log(f"train: starts from the weights in {start}")
    else:
        log(f"train: starts from the encoder in {start}; its decoder and heads are others, so they start at random")


def digest_of(start: Path, modality: str) -> str:
    """Of all weights that a training can start from.

    Raises:
        CheckpointError: the folder holds no model, or one of another modality.
    """
    of = read_config(start).get("modality")
    if of != modality:
        raise CheckpointError(f"{start} is a model for {of}, not for {modality}: set {modality}.train.start to another")
    digest = hashlib.sha256()
    for file in (start / name for name in (ENCODER, TEACHER, DECODER)):
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]
