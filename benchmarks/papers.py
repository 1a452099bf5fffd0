"""The cost of the papers' recipes on clusters, calculated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from d2v.config import parse, read_recipe
from d2v.modalities import registry
from d2v.models.shards import count
from d2v.objectives.build import build_objective
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.training.scale import Choice, activation_bytes, choose_stage, traffic_bytes
from d2v.training.states import trained

PAPERS = {
    "ViT-B": ("imagenet", "vision"),
    "ViT-L": ("imagenet_large", "vision"),
    "ViT-H": ("imagenet_huge", "vision"),
    "audio L": ("librilight", "speech"),
    "text L": ("bookwiki_large", "text"),
}
"""Model -> environment of conf/ and modality."""

RANKS = (8, 64, 512)
GPU_BYTES = (80e9, 141e9)


@dataclass(frozen=True)
class Model:
    """A recipe of data2vec 2.0.

    Attributes:
        name: for people.
        trained: parameters of student and decoder.
        frozen: all others, the teacher's.
        batch: samples of an update, of the longest kind.
        activations: bytes of a sample, stored and recomputed.
    """

    name: str
    trained: int
    frozen: int
    batch: int
    activations: tuple[float, float]


@dataclass(frozen=True)
class Costs:
    """A model on so many GPUs.

    Attributes:
        model: which.
        ranks: GPUs.
        samples: of one rank; at least one.
        choices: one for each of GPU_BYTES; None where nothing fits.
    """

    model: Model
    ranks: int
    samples: int
    choices: tuple[Choice | None, ...]

    def sent_bytes(self, stage: int) -> float:
        """Of a rank in an update."""
        return traffic_bytes(self.model.trained, self.model.frozen, stage, self.ranks)


def read_models(conf: Path) -> list[Model]:
    """The models of PAPERS, built without their memory.

    Raises:
        ConfigError: a recipe is missing or wrong.
    """
    return [_read(conf, name) for name in PAPERS]


def _read(conf: Path, name: str) -> Model:
    environment, modality_name = PAPERS[name]
    values = read_recipe(conf, environment, modality_name)["train"]
    modality = registry.get(modality_name)
    recipe = parse(modality.train_config, values, at=f"{modality_name}.train")
    with torch.device("meta"):
        objective = cast(Data2Vec2, build_objective(modality, recipe))
        stored, recomputed = (activation_bytes(objective, objective.longest, again) for again in (False, True))
    own = count(trained(objective).values())
    others = count(objective.parameters()) - own
    return Model(name, own, others, recipe.batch_unit, (stored, recomputed))


def calculate(model: Model) -> list[Costs]:
    """The model on each of RANKS. Where its batch has fewer samples than there are GPUs, each has one."""
    costs = []
    for ranks in RANKS:
        samples = math.ceil(model.batch / ranks)
        stored, recomputed = (samples * size for size in model.activations)
        choices = tuple(
            choose_stage(model.trained, model.frozen, ranks, (stored, recomputed), size) for size in GPU_BYTES
        )
        costs.append(Costs(model, ranks, samples, choices))
    return costs
