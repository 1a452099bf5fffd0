"""Pretraining as one call: training with its online probe, and an encoder folder at the end."""

from __future__ import annotations

import hashlib
from functools import cache, partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2v.config import EvaluateConfig, TrainConfig
from d2v.distributed.launch import ForLead, find_place, launch
from d2v.errors import CheckpointError
from d2v.evaluation.online import OnlineProbe
from d2v.modalities.base import Modality
from d2v.model_folder import ENCODER, TEACHER, load_state, read_config, save_encoder
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.progress import say
from d2v.tracker import NullTracker, Tracker
from d2v.training.train import TrainResult, train

DECODER = "decoder.safetensors"
"""What only pretraining goes on from, in an encoder's folder: decoder, heads, codebooks."""


def pretrain(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig | None = None,
    tracker: Tracker | None = None,
    start: Path | None = None,
) -> TrainResult:
    """Pretrain, or go on pretraining, on as many ranks as the recipe asks for, and leave `out/encoder`.

    Args:
        modality: from `d2v.modalities.registry`.
        recipe: its train block.
        prepared: folder that prepare left.
        out: run folder.
        evaluation: settings of the online probe.
        tracker: where metrics go, such as an MLflow run.
        start: folder of the encoder to start from, which `recipe.start` names; None for random weights.

    Raises:
        CheckpointError: the encoder to start from is missing, damaged, of another modality or of other sizes.
        D2vError: see `d2v.training.train.train` and `d2v.distributed.launch.launch`.

    Example:
        >>> vision = registry.get("vision")  # doctest: +SKIP
        >>> pretrain(vision, recipe, Path("prepared"), Path("run"))
    """
    return launch(
        recipe.distributed,
        out,
        _pretrain_rank,
        modality=modality,
        recipe=recipe,
        prepared=prepared,
        out=out,
        evaluation=evaluation or EvaluateConfig(),
        tracker=ForLead(tracker or NullTracker()),
        start=start,
    )


def _pretrain_rank(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig,
    tracker: ForLead[Tracker],
    start: Path | None,
) -> TrainResult:
    """What every rank does. The data may not be there before the ranks have met, so it is opened when it is needed."""

    @cache
    def online() -> OnlineProbe:
        return OnlineProbe(modality, recipe, modality.open(prepared), evaluation)

    def probe(encoder: Encoder) -> dict[str, float]:
        return online()(encoder)

    def export(folder: Path, objective: Objective, weights_of: WeightsOf) -> None:
        save_encoder(folder, objective, modality.name, recipe, modality.describe(modality.open(prepared)), weights_of)
        rest = weights_of(objective, _is_rest)
        if rest:
            save_file(rest, folder / DECODER)

    leads = find_place().leads
    return train(
        modality,
        recipe,
        prepared,
        out,
        tracker.open() if leads else NullTracker(),
        probe,
        export,
        build=partial(build_from, start) if start else build_objective,
        origin=digest_of(start, modality.name) if start else "",
    )


# ------------------------------------------------------------------------------------------- starting


def build_from(start: Path, modality: Modality, recipe: TrainConfig) -> Objective:
    """The recipe's objective with the weights of an encoder folder.

    A teacher that the folder does not have starts as the student's copy; decoder and heads that are not there or do
    not fit start at random, and a line says so.

    Raises:
        CheckpointError: the encoder does not fit the recipe (all keys named), or cannot be read.
    """
    objective = build_objective(modality, recipe)
    student = _read(start / ENCODER)
    load_state(objective.student, student, str(start / ENCODER))
    if objective.teacher is not None:
        whole = _read(start / TEACHER) if (start / TEACHER).is_file() else student
        own = objective.teacher.encoder.state_dict()
        load_state(objective.teacher.encoder, {name: whole[name] for name in own if name in whole}, str(start))
    _take_rest(objective, start)
    return objective


def _take_rest(objective: Objective, start: Path) -> None:
    own = {name: tuple(value.shape) for name, value in objective.state_dict().items() if _is_rest(name)}
    given = _read(start / DECODER) if (start / DECODER).is_file() else {}
    if own == {name: tuple(value.shape) for name, value in given.items()}:
        objective.load_state_dict(given, strict=False)
        say(f"train: starts from the weights in {start}")
    else:
        say(f"train: starts from the encoder in {start}; its decoder and heads are others, so they start at random")


def _is_rest(name: str) -> bool:
    return not name.startswith(("student.", "teacher."))


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


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{file} cannot be read ({error}): restore the file, or set train.start to another model or to null"
        ) from error
