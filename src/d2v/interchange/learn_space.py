"""A space to compare items in for an encoder that was made without one, from a user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from d2v.config import parse
from d2v.data.batch import Inputs
from d2v.errors import CheckpointError, ConfigError
from d2v.evaluation.search_space import MOST_ITEMS, SearchSpace, pool
from d2v.interchange.encode_files import some_items
from d2v.interchange.load import load
from d2v.modalities import registry
from d2v.modalities.long_items import inputs_of
from d2v.model_folder import CONFIG
from d2v.progress import Progress


def learn_space(folder: Path, files: Sequence[Path], device: str = "auto") -> SearchSpace:
    """Learn the space of a model folder and write it there.

    Args:
        folder: of an encoder.
        files: items like those that will be compared; of more than MOST_ITEMS some at equal distances.
        device: that computes.

    Raises:
        CheckpointError: it is no model folder.
        ConfigError: it is a fine-tuned model.
        DataError: no items, or items that do not differ.
    """
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a model folder: give one, such as `d2v import` writes")
    model = load(folder, device=device)
    if model.task is not None:
        raise ConfigError(f"{folder} is a fine-tuned model: give the folder of an encoder")
    modality = registry.get(model.modality)
    grid = modality.grid(parse(modality.train_config, model.about["recipe"], at="recipe"))
    found = []
    with Progress("space", None) as progress:
        for window in model.batch_limit().windows(some_items(model, files, MOST_ITEMS), model.tokens_of):
            for numbers in model.batch_limit().by_length([model.tokens_of(one) for one in window]):
                inputs = inputs_of(modality, [window[number] for number in numbers], model.about, "cut")
                found.append(pool(*model.tokens(Inputs(inputs.values, inputs.lengths)), grid).cpu())
            progress.advance(len(window))
    space = SearchSpace.learned(torch.cat(found) if found else torch.zeros(0, model.width), grid)
    space.save(folder)
    return space
