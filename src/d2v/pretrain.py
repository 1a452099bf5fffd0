"""Pretraining as one call: training with its online probe, and an encoder folder at the end."""

from __future__ import annotations

from pathlib import Path

from d2v.config import EvaluateConfig, TrainConfig
from d2v.evaluation.online import OnlineProbe
from d2v.interchange.folder import save_encoder
from d2v.modalities.base import Modality
from d2v.objectives.base import Objective
from d2v.training.run import TrainResult, train
from d2v.training.tracker import Tracker


def pretrain(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig | None = None,
    tracker: Tracker | None = None,
) -> TrainResult:
    """Pretrain, or go on pretraining, and leave `out/encoder`.

    Args:
        modality: from `d2v.modalities.registry`.
        recipe: its train block.
        prepared: folder that prepare left.
        out: run folder.
        evaluation: settings of the online probe.
        tracker: where metrics go, such as an MLflow run.

    Raises:
        D2vError: see `d2v.training.run.train`.

    Example:
        >>> vision = registry.get("vision")  # doctest: +SKIP
        >>> pretrain(vision, recipe, Path("prepared"), Path("run"))
    """
    data = modality.open(prepared)
    probe = OnlineProbe(modality, recipe, data, evaluation or EvaluateConfig())

    def export(folder: Path, objective: Objective) -> None:
        save_encoder(folder, objective, modality.name, recipe, modality.describe(data))

    return train(modality, recipe, prepared, out, tracker, probe, export)
