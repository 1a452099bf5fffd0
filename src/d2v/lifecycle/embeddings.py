"""Features of a random sample of training items, kept with an encoder as the reference for drift."""

from __future__ import annotations

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
from d2v.evaluation.features import extract_features
from d2v.evaluation.probe_set import some_rows
from d2v.models.encoder import Encoder

REFERENCE = "reference.safetensors"
REFERENCE_ITEMS = 1000
BATCH_ITEMS = 32


def embed_some(encoder: Encoder, data: Any, recipe: TrainConfig, count: int, seed: int) -> Tensor:
    """(n, D) features of at most `count` training items, drawn by `seed`, as training crops them.

    Items of one length go together: a crop must not depend on what else is in its batch.

    Args:
        encoder: in evaluation mode.
        data: the prepared folder, opened.
        recipe: the encoder's train block.
        count: items at most.
        seed: of the draw.
    """
    encoder = encoder.to(own_device())
    chosen = some_rows(data.num_train, count, seed).numpy()
    lengths = data.train_lengths(recipe)
    of_each = np.zeros(len(chosen), np.int64) if lengths is None else lengths[chosen]
    batches = []
    for length in np.unique(of_each):
        alike = chosen[of_each == length]
        for begin in range(0, len(alike), BATCH_ITEMS):
            rows = alike[begin : begin + BATCH_ITEMS]
            keys = SampleKeys(0, rows, np.zeros_like(rows), None if lengths is None else int(length))
            batch = data.batch(keys, recipe)
            batches.append(extract_features(encoder, Inputs(batch.inputs, batch.lengths), BATCH_ITEMS))
    return torch.cat(batches)


def save_reference(features_ND: Tensor, folder: Path) -> None:
    """Keep a sample of features in a folder."""
    save_file({"features": features_ND.contiguous()}, folder / REFERENCE)


def read_reference(folder: Path | None) -> Tensor | None:
    """(n, D) what `save_reference` wrote; None where a version has none."""
    if folder is None or not (folder / REFERENCE).is_file():
        return None
    try:
        return load_file(folder / REFERENCE)["features"]
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / REFERENCE} cannot be read ({error}): restore the registered version's files"
        ) from error
