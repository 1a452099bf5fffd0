"""Features of a random sample of training items, kept with an encoder as the reference for drift."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2v.config import TrainConfig
from d2v.data.batch import Inputs, SampleKeys
from d2v.distributed.environment import own_device
from d2v.errors import CheckpointError
from d2v.evaluation.probe_set import some_rows
from d2v.evaluation.search_space import SearchSpace, extract_pooled
from d2v.models.encoder import Encoder

REFERENCE = "reference.safetensors"
FEATURES = {"plain": "features", "search": "search_features"}
"""Names of its tensors by space. Versions of before have plain features alone."""
REFERENCE_ITEMS = 1000
BATCH_ITEMS = 32


def embed_some(
    encoder: Encoder, data: Any, recipe: TrainConfig, count: int, seed: int, space: SearchSpace | None = None
) -> dict[str, Tensor]:
    """Features of at most `count` training items, drawn by `seed`, as training crops them: `plain` (n, D), and with a
    space to search in also `search` (n, R).

    Items of one length go together: a crop must not depend on what else is in its batch.

    Args:
        encoder: in evaluation mode.
        data: the prepared folder, opened.
        recipe: the encoder's train block.
        count: items at most.
        seed: of the draw.
        space: of the encoder, if it has one.
    """
    encoder, grid = encoder.to(own_device()), None if space is None else space.grid
    chosen = some_rows(data.num_train, count, seed).numpy()
    lengths = data.train_lengths(recipe)
    of_each = np.zeros(len(chosen), np.int64) if lengths is None else lengths[chosen]
    plain, pooled = [], []
    for length in np.unique(of_each):
        alike = chosen[of_each == length]
        for begin in range(0, len(alike), BATCH_ITEMS):
            rows = alike[begin : begin + BATCH_ITEMS]
            keys = SampleKeys(0, rows, np.zeros_like(rows), None if lengths is None else int(length))
            batch = data.batch(keys, recipe)
            of_both = extract_pooled(encoder, Inputs(batch.inputs, batch.lengths), grid, BATCH_ITEMS)
            plain.append(of_both[0])
            pooled.append(of_both[1])
    features = {"plain": torch.cat(plain)}
    return features if space is None else features | {"search": space(torch.cat(pooled))}


def save_reference(features: Mapping[str, Tensor], folder: Path) -> None:
    """Keep what `embed_some` gave in a folder."""
    save_file({FEATURES[space]: one.contiguous() for space, one in features.items()}, folder / REFERENCE)


def read_reference(folder: Path | None) -> dict[str, Tensor] | None:
    """What `save_reference` wrote; None where a version has none."""
    if folder is None or not (folder / REFERENCE).is_file():
        return None
    try:
        found = load_file(folder / REFERENCE)
        return {space: found[name] for space, name in FEATURES.items() if space == "plain" or name in found}
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"{folder / REFERENCE} cannot be read ({error}): restore the registered version's files"
        ) from error
