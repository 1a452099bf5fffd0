"""What a modality must supply. Everything above this package speaks only to these types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from d2v.config import Block, TrainConfig
from d2v.data.batch import Batch, SampleKeys

if TYPE_CHECKING:
    from d2v.models.decoder import ConvDecoder
    from d2v.models.encoder import Encoder


@dataclass(frozen=True)
class ProbeSet:
    """A fixed labelled set for frozen-encoder probes.

    Attributes:
        train_inputs, test_inputs: (n, ...) normalised model inputs, never augmented.
        train_labels, test_labels: (n,) int64 class ids.
        class_names: names by class id; empty when the data has no labels.
    """

    train_inputs: Tensor
    train_labels: Tensor
    test_inputs: Tensor
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

    def batch(self, keys: SampleKeys, recipe: TrainConfig) -> Batch:
        """Load, augment and normalise; a pure function of (recipe.seed, epoch, sample id)."""
        ...

    def probe_set(self, recipe: TrainConfig) -> ProbeSet:
        """The fixed probe set at the encoder's input size."""
        ...


@dataclass(frozen=True)
class MaskShape:
    """Sizes of a recipe's masks: tokens in a sequence, and hidden ones (0 where rows may differ)."""

    tokens: int
    hidden: int


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
        build_decoder: (recipe) -> the convolutional decoder of data2vec 2.0.
        mask_shape: recipe -> sizes of its masks.
        draw_masks: (recipe, keys (N,)) -> is_masked (N, tokens) bool, a pure function of the keys.
        baseline_name: what the plain features are called in tables, such as "raw pixels".
        baseline_features: inputs -> (n, d) plain features that an encoder must beat.
        describe: data -> plain values that travel with a trained encoder: normalisation, class names.
        example_request: config.json of an encoder -> raw items as a user sends them, for the model's signature.
        to_inputs: (raw items, config.json) -> model inputs; raises DataError for what does not fit.
        to_pictures: (inputs, data) -> (n, height, width, 3) uint8 for people.
    """

    name: str
    recipe: type[Block]
    ingest: Callable[[Any, Path], Any]
    prepare: Callable[[Any, Path, Path], Any]
    open: Callable[[Path], Any]
    build_encoder: Callable[[Any], Encoder]
    build_decoder: Callable[[Any], ConvDecoder]
    mask_shape: Callable[[Any], MaskShape]
    draw_masks: Callable[[Any, Tensor], Tensor]
    baseline_name: str
    baseline_features: Callable[[Tensor], Tensor]
    describe: Callable[[Any], dict[str, Any]]
    example_request: Callable[[dict[str, Any]], np.ndarray]
    to_inputs: Callable[[np.ndarray, dict[str, Any]], Tensor]
    to_pictures: Callable[[Tensor, PreparedData], np.ndarray]

    @property
    def train_config(self) -> type[TrainConfig]:
        """The type of the recipe's train block."""
        return self.recipe.model_fields["train"].annotation  # type: ignore[return-value]
