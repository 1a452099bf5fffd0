"""What a modality must supply. Everything above this package speaks only to these types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from d2v.config import Block, TrainConfig
from d2v.data.batch import Batch, Inputs, SampleKeys

if TYPE_CHECKING:
    from d2v.models.encoder import Encoder


@dataclass(frozen=True)
class ProbeSet:
    """A fixed labelled set for frozen-encoder probes.

    Attributes:
        train_inputs, test_inputs: n normalised model inputs, never augmented.
        train_labels, test_labels: (n,) int64 class ids.
        class_names: names by class id; empty when the data has no labels.
    """

    train_inputs: Inputs
    train_labels: Tensor
    test_inputs: Inputs
    test_labels: Tensor
    class_names: tuple[str, ...]


class PreparedData(Protocol):
    """A prepared folder opened for reading."""

    @property
    def fingerprint(self) -> str:
        """Hash of the prepared contents."""
        ...

    @property
    def num_train(self) -> int:
        """Items for pretraining."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by id; empty when unlabelled."""
        ...

    def train_lengths(self, recipe: TrainConfig) -> np.ndarray | None:
        """(num_train,) int64 input positions of each item, no more than the recipe's longest crop; None where all
        items are alike."""
        ...

    def batch(self, keys: SampleKeys, recipe: TrainConfig) -> Batch:
        """Load, crop to `keys.length`, augment and normalise; a pure function of (recipe.seed, epoch, sample id)."""
        ...

    def probe_set(self, recipe: TrainConfig) -> ProbeSet:
        """The fixed probe set at the encoder's input size."""
        ...


@dataclass(frozen=True)
class Modality:
    """One modality: its recipe type and the functions behind the shared pipelines.

    Attributes:
        name: also the namespace of its parameters and pipelines.
        recipe: Block with the parts ingest, prepare, train, evaluate.
        ingest: (config, out folder) -> report.
        prepare: (config, corpus folder, out folder) -> report.
        open: prepared folder -> PreparedData.
        build_encoder: recipe -> Encoder, randomly initialised from torch's generator.
        grid: recipe -> (height, width) of tokens that lie in a plane, row by row; None for a sequence.
        max_tokens: recipe -> tokens of the longest input.
        hidden_tokens: (recipe, T) -> tokens that every data2vec 2.0 mask over T tokens hides: at least one, not all.
            Neither it nor T minus it falls as T grows. Takes an int or a tensor of them.
        draw_masks: (recipe, keys (N,), T, lengths (N,) or None) -> is_masked (N, T) bool, a pure function of the keys;
            never True at or after a row's length.
        baseline_name: what the plain features are called in tables, such as "raw pixels".
        baseline_features: inputs -> (n, d) plain features that an encoder must beat.
        describe: data -> plain values that travel with a trained encoder: normalisation, class names.
        example_request: config.json of an encoder -> raw items as a user sends them, for the model's signature.
        free_axes: axes of such a request along which requests may differ; the first is the number of items.
        to_inputs: (raw items, config.json) -> model inputs; raises DataError for what does not fit.
        to_pictures: (inputs, data) -> (n, height, width, 3) uint8 for people.
        picture_grid: T -> (rows, columns) of equal cells that tokens take in such a picture, row by row; the last row
            may have cells left over.
        pictures_per_row: how many of them fit side by side on a page.
        packages: what serving an encoder of it needs beside the shared packages.
    """

    name: str
    recipe: type[Block]
    ingest: Callable[[Any, Path], Any]
    prepare: Callable[[Any, Path, Path], Any]
    open: Callable[[Path], Any]
    build_encoder: Callable[[Any], Encoder]
    grid: Callable[[Any], tuple[int, int] | None]
    max_tokens: Callable[[Any], int]
    hidden_tokens: Callable[[Any, Any], Any]
    draw_masks: Callable[[Any, Tensor, int, Tensor | None], Tensor]
    baseline_name: str
    baseline_features: Callable[[Inputs], Tensor]
    describe: Callable[[Any], dict[str, Any]]
    example_request: Callable[[dict[str, Any]], np.ndarray]
    to_inputs: Callable[[Any, dict[str, Any]], Inputs]
    to_pictures: Callable[[Inputs, Any], np.ndarray]
    picture_grid: Callable[[int], tuple[int, int]]
    free_axes: tuple[int, ...] = (0,)
    pictures_per_row: int = 8
    packages: tuple[str, ...] = ()

    @property
    def train_config(self) -> type[TrainConfig]:
        """The type of the recipe's train block."""
        return self.recipe.model_fields["train"].annotation  # type: ignore[return-value]
