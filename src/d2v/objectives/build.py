"""From a recipe to the module that the engine trains."""

from __future__ import annotations

import torch

from d2v.config import TrainConfig
from d2v.errors import ConfigError
from d2v.modalities.base import Modality
from d2v.objectives.base import Objective, Pretraining
from d2v.objectives.beit import Beit
from d2v.objectives.data2vec1 import Data2Vec1
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.objectives.hubert import Hubert
from d2v.objectives.mae import Mae
from d2v.objectives.maskfeat import MaskFeat
from d2v.objectives.mlm import Mlm
from d2v.objectives.wav2vec2 import Wav2Vec2

OBJECTIVES: dict[str, type[Pretraining]] = {
    "data2vec2": Data2Vec2,
    "data2vec1": Data2Vec1,
    "mae": Mae,
    "maskfeat": MaskFeat,
    "beit": Beit,
    "wav2vec2": Wav2Vec2,
    "hubert": Hubert,
    "mlm": Mlm,
}
"""By the name that a recipe has for them."""


def fitting(modality: Modality, recipe: TrainConfig) -> list[str]:
    """Names of the objectives that the modality has all for."""
    kinds = OBJECTIVES.items()
    return [name for name, kind in kinds if kind.needs is None or kind.supply(modality, recipe) is not None]


def build_objective(modality: Modality, recipe: TrainConfig) -> Objective:
    """Student, teacher, decoder and loss of a recipe, initialised from `recipe.seed`.

    Works under `torch.device("meta")`, so a recipe can be checked without its memory. Leaves torch's global
    generator as it found it.

    Raises:
        ConfigError: the modality has no such targets as the objective needs.
    """
    name = recipe.objective.name
    if name not in (known := fitting(modality, recipe)):
        raise ConfigError(
            f"objective {name} does not fit {modality.name}, which has no {OBJECTIVES[name].needs}: set "
            f"train.objective.name={' or '.join(known)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        student = modality.build_encoder(recipe)
        return OBJECTIVES[name].build(recipe.in_updates().objective, student, modality, recipe)
