"""What a modality must supply. Everything above this package speaks only to these types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from d2v import moved
from d2v.config import Block, TrainConfig
from d2v.data.batch import Batch, Inputs, SampleKeys
from d2v.modalities.requests import Request

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


class LabelledSplit(Protocol):
    """Whole items of one part of a prepared folder with what is known of them, for fine-tuning."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class ids, UNLABELLED without one."""
        ...

    @property
    def scores(self) -> np.ndarray | None:
        """(n,) float64 numbers to predict, NaN without one; None where the data has none."""
        ...

    @property
    def texts(self) -> Sequence[str | None]:
        """(n,) what was said, or the names of all classes with commas between."""
        ...

    @property
    def seconds(self) -> np.ndarray | None:
        """(n,) how long recordings are; None for other data."""
        ...

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Some items as they are, normalised, side by side."""
        ...

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Items `keys.indices` for training; a pure function of (the recipe's seed, epoch, sample id)."""
        ...


class PreparedData(Protocol):
    """A prepared folder opened for reading."""

    @property
    def fingerprint(self) -> str:
        """Hash of the prepared contents."""
        ...

    @property
    def corpus_fingerprint(self) -> str:
        """Hash of the corpus that was prepared."""
        ...

    @property
    def has_own_test_items(self) -> bool:
        """Whether probes are tested on the corpus's test part, and not on items taken from train."""
        ...

    @property
    def num_train(self) -> int:
        """Items for pretraining."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by id; empty when unlabelled."""
        ...

    def train_lengths(self, recipe: Any) -> np.ndarray | None:
        """(num_train,) int64 input positions of each item, no more than the recipe's longest crop; None where all
        items are alike."""
        ...

    def batch(self, keys: SampleKeys, recipe: Any) -> Batch:
        """Load, crop to `keys.length`, augment and normalise; a pure function of (recipe.seed, epoch, sample id)."""
        ...

    def probe_set(self, recipe: TrainConfig) -> ProbeSet:
        """The fixed probe set at the encoder's input size."""
        ...


@dataclass(frozen=True)
class Patches:
    """What tokens hold, for objectives that reconstruct it. Inputs are all alike, without padding.

    Attributes:
        values: P, numbers that a token holds.
        cut: inputs -> (B, T, P).
        positions: width -> (1, T, width) fixed positions.
    """

    values: int
    cut: Callable[[Tensor], Tensor]
    positions: Callable[[int], Tensor]


@dataclass(frozen=True)
class LocalFrames:
    """Local features on the way from inputs to the encoder.

    Attributes:
        raw_BTC: as they are first made.
        normal_BTC: after their norm; they are what is quantised.
        projected_BTD: what the encoder goes on from, the stem's local features.
    """

    raw_BTC: Tensor
    normal_BTC: Tensor
    projected_BTD: Tensor


@dataclass(frozen=True)
class Frames:
    """Local features, for objectives that compare them.

    Attributes:
        channels: C.
        make: (encoder, inputs, factor on the gradient of what makes the raw features) -> LocalFrames.
    """

    channels: int
    make: Callable[[Encoder, Tensor, float], LocalFrames]


@dataclass(frozen=True)
class Vocabulary:
    """Token ids, for objectives that name words.

    Attributes:
        size: W, ids from 0.
        first_word: special tokens come before it.
        mask_id: stands for a hidden word; words are the ids from `first_word` up to it.
        table: encoder -> (W, D) its vectors of all words, which predictions are multiplied by.
    """

    size: int
    first_word: int
    mask_id: int
    table: Callable[[Encoder], Tensor]


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
        request: what a served model is sent, and how one item of it is read.
        labelled: (data, the recipe's finetune block, the encoder's train block) -> the parts "train" and "test" for
            fine-tuning.
        check_fits: (data, config.json of an encoder to tune or to measure) -> None; raises ConfigError if the data was
            prepared for other encoders.
        to_inputs: (list of raw items, config.json) -> model inputs; raises DataError for what does not fit.
        to_pictures: (inputs, data) -> (n, height, width, 3) uint8 for people.
        picture_grid: T -> (rows, columns) of equal cells that tokens take in such a picture, row by row; the last row
            may have cells left over.
        pictures_per_row: how many of them fit side by side on a page.
        packages: what serving an encoder of it needs beside the shared packages.
        patches: recipe -> Patches; None where tokens hold nothing to reconstruct (see `d2v.objectives.mae`).
        frames: recipe -> Frames; None where local features are nothing to compare (`d2v.objectives.wav2vec2`).
        vocabulary: recipe -> Vocabulary; None where tokens are no words (`d2v.objectives.mlm`).
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
    request: Request
    to_inputs: Callable[[Any, dict[str, Any]], Inputs]
    to_pictures: Callable[[Inputs, Any], np.ndarray]
    picture_grid: Callable[[int], tuple[int, int]]
    labelled: Callable[[Any, Any, Any], Mapping[str, LabelledSplit]] | None = None
    check_fits: Callable[[Any, Mapping[str, Any]], None] | None = None
    pictures_per_row: int = 8
    packages: tuple[str, ...] = ()
    patches: Callable[[Any], Patches] | None = None
    frames: Callable[[Any], Frames] | None = None
    vocabulary: Callable[[Any], Vocabulary] | None = None

    @property
    def train_config(self) -> type[TrainConfig]:
        """The type of the recipe's train block."""
        return self.recipe.model_fields["train"].annotation  # type: ignore[return-value]


if not TYPE_CHECKING:
    __getattr__ = moved.old_attributes(__name__)
