"""A modality's training with nothing around it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from d2v.config import TrainConfig
from d2v.modalities.base import Modality
from d2v.objectives.build import build_objective
from d2v.training.job import Job


def plain_job(modality: Modality, recipe: TrainConfig, prepared: Path, **fields: Any) -> Job:
    """The recipe's objective on prepared data, without probe and export unless `fields` has them."""
    build = partial(build_objective, modality, recipe)
    return Job(f"{modality.name}.train", recipe, partial(modality.open, prepared), build, **fields)
