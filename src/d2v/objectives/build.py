"""From a recipe to the module that the engine trains."""

from __future__ import annotations

from functools import partial

import torch

from d2v.config import Data2Vec2Config, TrainConfig
from d2v.modalities.base import Modality
from d2v.models.decoder import ConvDecoder
from d2v.objectives.base import Objective
from d2v.objectives.data2vec1 import Data2Vec1
from d2v.objectives.data2vec2 import Data2Vec2


def build_objective(modality: Modality, recipe: TrainConfig) -> Objective:
    """Student, teacher, decoder and loss of a recipe, initialised from `recipe.seed`.

    Works under `torch.device("meta")`, so a recipe can be checked without its memory. Leaves torch's global
    generator as it found it.
    """
    config, draw = recipe.objective, partial(modality.draw_masks, recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        student = modality.build_encoder(recipe)
        longest = modality.max_tokens(recipe)
        if not isinstance(config, Data2Vec2Config):
            return Data2Vec1(config, student, longest, draw)
        decoder = ConvDecoder(student.width, config.decoder, modality.grid(recipe))
        hidden = partial(modality.hidden_tokens, recipe)
        return Data2Vec2(config, student, decoder, longest, hidden, draw, recipe.seed)
