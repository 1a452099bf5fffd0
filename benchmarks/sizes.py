"""The sizes that `python -m benchmarks step` times, and batches of noise for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from d2v.config import TrainConfig, changed, parse, read_recipe
from d2v.data.batch import Batch
from d2v.errors import ConfigError
from d2v.modalities import registry

_FILE = Path(__file__).with_name("sizes.yml")
HERTZ = 16_000


@dataclass(frozen=True)
class Size:
    """One training.

    Attributes:
        name: such as `v2_image_32`.
        modality: what it trains on.
        recipe: its train block.
    """

    name: str
    modality: str
    recipe: TrainConfig


def names_of(asked: str) -> list[str]:
    """The sizes that a list of names, `small` or `all` stands for."""
    names = list(yaml.safe_load(_FILE.read_text()))
    if asked == "all":
        return names
    return [name for name in names if not name.endswith("_base")] if asked == "small" else asked.split(",")


def read_size(name: str, conf: Path, precision: str, changes: Mapping[str, Any] | None = None) -> Size:
    """A size from the papers' recipes.

    Args:
        name: in the file.
        conf: folder of the recipes.
        precision: fp32 or bf16.
        changes: of the train block, beside the size's own.

    Raises:
        ConfigError: no such size, or its recipe is missing.
    """
    sizes = yaml.safe_load(_FILE.read_text())
    if name not in sizes:
        raise ConfigError(f"there is no size {name}: say --sizes with some of {', '.join(sizes)}")
    size = sizes[name]
    values = read_recipe(conf, size["recipe"], size["modality"])["train"]
    modality = registry.get(size["modality"])
    block = parse(modality.train_config, values, at=f"{size['recipe']}: {modality.name}.train")
    fixed = {"precision": precision, "data_workers": 0}
    return Size(name, modality.name, changed(block, size["changes"], fixed, changes or {}, at=f"{_FILE.name}:{name}"))


def noise_batch(size: Size, rank: int = 0) -> Batch:
    """A rank's inputs, of the shape and type that the size trains on; their values do not matter for speed."""
    samples = size.recipe.batch_unit // size.recipe.distributed.ranks
    ids = torch.arange(rank * samples, (rank + 1) * samples)
    generator = torch.Generator().manual_seed(rank)
    return Batch(NOISE[size.modality](size.recipe, samples, generator), ids, torch.zeros_like(ids), update=0)


def _images(recipe: Any, samples: int, generator: torch.Generator) -> Tensor:
    side = recipe.encoder.image_px
    return torch.randn(samples, 3, side, side, generator=generator)


def _waves(recipe: Any, samples: int, generator: torch.Generator) -> Tensor:
    return torch.randn(samples, int(HERTZ * recipe.augment.max_seconds), generator=generator)


def _ids(recipe: Any, samples: int, generator: torch.Generator) -> Tensor:
    encoder = recipe.encoder
    return torch.randint(10, encoder.vocab_size - 1, (samples, encoder.max_tokens), generator=generator)


NOISE: dict[str, Callable[[Any, int, torch.Generator], Tensor]] = {"vision": _images, "speech": _waves, "text": _ids}
"""Modality -> (recipe, samples, generator) -> inputs."""
