"""What a series recipe says beyond the shared blocks."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from d2v.config import Block, EvaluateConfig, Fraction, NonNegativeInt, Positive, PositiveInt, TrainConfig
from d2v.modalities.checks import check_targets


class SeriesIngestConfig(Block):
    """Where the series come from: the embedded corpus `waves`, or a path or an fsspec URL of CSV files, one series a
    file, one step a row, one channel a column; class folders are labels."""

    source: str
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the source, e.g. count of waves")
    test_fraction: Fraction = Field(0.1, description="share of the hash split where the source has no test split")
    max_item_bytes: PositiveInt = 64 * 2**20
    shard_bytes: PositiveInt = 64 * 2**20


class SeriesPrepareConfig(Block):
    """The model-ready store: float32 steps, with the channels' means and standard deviations. Series shorter than
    `min_steps` are left out."""

    min_steps: PositiveInt = 32
    probe_train_items: PositiveInt = 2000
    probe_test_items: PositiveInt = 1000
    seed: NonNegativeInt = 0


class SeriesEncoderConfig(Block):
    """A post-norm transformer over patches of `patch_steps` steps, with fixed positions. It can drop hidden tokens
    (data2vec 2.0) and can see a vector in their places (1.0)."""

    channels: PositiveInt = 1
    patch_steps: PositiveInt = 4
    max_steps: PositiveInt = 256
    width: PositiveInt = 64
    depth: PositiveInt = 4
    heads: PositiveInt = 4
    mlp_ratio: Positive = 4.0
    norm_eps: Positive = 1e-5
    dropout: Fraction = 0.0

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
    ratio: Fraction = 0.6


class SeriesTrainConfig(TrainConfig):
    encoder: SeriesEncoderConfig
    mask: RandomMask = RandomMask()

    @model_validator(mode="after")
    def _parts_fit(self) -> SeriesTrainConfig:
        check_targets(self, self.encoder.depth)
        return self


class SeriesRecipe(Block):
    """All blocks of `conf/<env>/parameters_series.yml`."""

    ingest: SeriesIngestConfig
    prepare: SeriesPrepareConfig = SeriesPrepareConfig()
    train: SeriesTrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _series_hold_patches(self) -> SeriesRecipe:
        least = 2 * self.train.encoder.patch_steps
        if self.prepare.min_steps < least:
            raise ValueError(
                f"prepare.min_steps {self.prepare.min_steps} is less than two patches (one hidden, one visible): set "
                f"it to at least {least}"
            )
        return self
