"""Pretraining as one call: training with its online probe, and an encoder folder at the end."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from d2v.config import EvaluateConfig, TrainConfig
from d2v.evaluation.online import OnlineProbe
from d2v.interchange.folder import save_encoder
from d2v.modalities.base import Modality
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.training.launch import ForLead, find_place, launch
from d2v.training.run import TrainResult, train
from d2v.training.tracker import NullTracker, Tracker


def pretrain(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig | None = None,
    tracker: Tracker | None = None,
) -> TrainResult:
    """Pretrain, or go on pretraining, on as many ranks as the recipe asks for, and leave `out/encoder`.

    Args:
        modality: from `d2v.modalities.registry`.
        recipe: its train block.
        prepared: folder that prepare left.
        out: run folder.
        evaluation: settings of the online probe.
        tracker: where metrics go, such as an MLflow run.

    Raises:
        D2vError: see `d2v.training.run.train` and `d2v.training.launch.launch`.

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
    )


def _pretrain_rank(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig,
    tracker: ForLead[Tracker],
) -> TrainResult:
    """What every rank does. The data may not be there before the ranks have met, so it is opened when it is needed."""

    @cache
    def online() -> OnlineProbe:
        return OnlineProbe(modality, recipe, modality.open(prepared), evaluation)

    def probe(encoder: Encoder) -> dict[str, float]:
        return online()(encoder)

    def export(folder: Path, objective: Objective, weights_of: WeightsOf) -> None:
        save_encoder(folder, objective, modality.name, recipe, modality.describe(modality.open(prepared)), weights_of)

    leads = find_place().leads
    return train(modality, recipe, prepared, out, tracker.open() if leads else NullTracker(), probe, export)
