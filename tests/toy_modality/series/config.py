"""What a series recipe says beyond the shared blocks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from d2v.config import Block, EvaluateConfig, Fraction, NonNegativeInt, Positive, PositiveInt, TrainConfig
from d2v.modalities.checks import check_targets


class SeriesIngestConfig(Block):
    """Where the series come from. A CSV file is one series: one step a row, one channel a column; class folders are
    labels."""

    source: str
    """The embedded corpus `waves`, or a path or an fsspec URL of CSV files."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source: those of `waves` (such as `count`), or of a URL's file system such as `anon: true`."""
    test_fraction: Fraction = 0.1
    """Share that becomes the test split, by a hash of the content, of the items that the source puts into no split."""
    no_label: tuple[str, ...] | None = None
    """Labels that mean no label; null: only -1, unless it is a class beside 0 and 1."""
    max_item_bytes: PositiveInt = 64 * 2**20
    """Files with more bytes are refused."""
    shard_bytes: PositiveInt = 64 * 2**20
    """Bytes of items in a shard, which also bounds memory; the content of the corpus does not depend on it."""


class SeriesPrepareConfig(Block):
    """The model-ready store: float32 steps, with the channels' means and standard deviations."""

    min_steps: PositiveInt = 32
    """Shorter series are left out."""
    probe_train_items: PositiveInt = 2000
    """Labelled train series at most in the probe set."""
    probe_test_items: PositiveInt = 1000
    """Labelled test series at most in the probe set."""
    seed: NonNegativeInt = 0
    """Seed of the probe set's choice."""


class SeriesEncoderConfig(Block):
    """A post-norm transformer over patches of `patch_steps` steps, with fixed positions. It can drop hidden tokens
    (data2vec 2.0) and can see a vector in their places (1.0)."""

    channels: PositiveInt = 1
    """Numbers in a step."""
    patch_steps: PositiveInt = 4
    """Steps of a patch, one token."""
    max_steps: PositiveInt = 256
    """Steps of the longest series that the encoder takes."""
    width: PositiveInt = 64
    """Numbers in a token's features; even, and a multiple of `heads`."""
    depth: PositiveInt = 4
    """Blocks, whose outputs can be targets."""
    heads: PositiveInt = 4
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of the hidden layer of a block's MLP, as a multiple of `width`."""
    norm_eps: Positive = 1e-5
    """Added to the variance in every LayerNorm."""
    dropout: Fraction = 0.0
    """Dropout rate after attention and MLP."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> SeriesEncoderConfig:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width {self.width} must be even and split into {self.heads} heads: change encoder.heads")
        return self

    @property
    def max_tokens(self) -> int:
        """Patches of the longest series."""
        return self.max_steps // self.patch_steps


class RandomMask(Block):
    """Exactly `ratio` of the patches, chosen at random."""

    kind: Literal["random"] = "random"
    """Picks this mask."""
    ratio: Fraction = 0.6
    """Share of the patches that is masked; larger is harder."""


class SeriesTrainConfig(TrainConfig):
    """Pretraining on series."""

    encoder: SeriesEncoderConfig
    """The student's architecture, which is the teacher's too."""
    mask: RandomMask = RandomMask()
    """What the student does not see."""

    @model_validator(mode="after")
    def _parts_fit(self) -> SeriesTrainConfig:
        check_targets(self, self.encoder.depth)
        return self


class SeriesRecipe(Block):
    """All blocks of `conf/<env>/parameters_series.yml`."""

    ingest: SeriesIngestConfig
    """Where raw data come from."""
    prepare: SeriesPrepareConfig = SeriesPrepareConfig()
    """From the corpus to the model-ready store."""
    train: SeriesTrainConfig
    """Pretraining."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Probes of the frozen encoder."""

    @model_validator(mode="after")
    def _series_hold_patches(self) -> SeriesRecipe:
        least = 2 * self.train.encoder.patch_steps
        if self.prepare.min_steps < least:
            raise ValueError(
                f"prepare.min_steps {self.prepare.min_steps} is less than two patches (one masked, one visible): set "
                f"it to at least {least}"
            )
        return self
