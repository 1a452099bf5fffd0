"""From a recipe to the module that the engine trains."""

from __future__ import annotations

from functools import partial

import torch

from d2v.config import Data2Vec2Config, TrainConfig
from d2v.modalities.base import Modality
from d2v.objectives.base import Objective
from d2v.objectives.data2vec1 import Data2Vec1
from d2v.objectives.data2vec2 import Data2Vec2


def build_objective(modality: Modality, recipe: TrainConfig) -> Objective:
    """Student, teacher, decoder and loss of a recipe, initialised from `recipe.seed`.

    Works under `torch.device("meta")`, so a recipe can be checked without its memory. Leaves torch's global
    generator as it found it.
    """
    draw = partial(modality.draw_masks, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        student = modality.build_encoder(recipe)
        shape = modality.mask_shape(recipe)
        if isinstance(recipe.objective, Data2Vec2Config):
            decoder = modality.build_decoder(recipe)
            return Data2Vec2(recipe.objective, student, decoder, shape.tokens, shape.hidden, draw, recipe.seed)
        return Data2Vec1(recipe.objective, student, shape.tokens, draw)
