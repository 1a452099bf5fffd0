"""How frozen encoders are aligned: which pairs, which heads, how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, PositiveInt
from d2v.config.promotion import PromoteConfig
from d2v.config.training import OptimizerConfig, ScheduleConfig


class PairsConfig(Block):
    """Pairs of one kind. Without a table they are the items of the first modality's corpus, each with the text that the
    corpus knows of it: the transcript of a recording, the caption of an embedded picture."""

    first: str
    """Modality of the first items, such as `vision`."""
    second: str
    """Modality of the second items: without a table the one that reads texts."""
    table: str | None = None
    """CSV, TSV, JSON lines or Parquet file with a row a pair; null: the corpus of the first modality. Cells of images
    and recordings are paths, relative to the table's folder; cells of texts are the texts."""
    columns: tuple[str, str] | None = None
    """Names of the table's columns of first and second items; null: the names of the modalities."""
    most: PositiveInt | None = None
    """Pairs at most, evenly spread over what there is; null: all."""

    @model_validator(mode="after")
    def _sides_fit(self) -> PairsConfig:
        if self.first == self.second:
            raise ValueError(f"first and second are both {self.first}: name two modalities")
        if self.table is None and self.columns is not None:
            raise ValueError("columns belong to a table: give table too, or leave columns out")
        return self


class AlignConfig(Block):
    """Two-layer heads on frozen encoders, trained with a symmetric contrastive loss."""

    pairs: Annotated[dict[str, PairsConfig], Field(min_length=1)]
    """Kinds of pairs by a name of your own. A modality of several kinds joins them in one space: texts, where both
    pictures and recordings have texts."""
    encoders: dict[str, str] = Field(default_factory=dict)
    """Modality -> its encoder: a model folder or `models:/<name>@<alias>`. Others are what
    `kedro run --pipeline=pretrain_<modality>` left."""
    features: Literal["all", "search", "plain"] = "all"
    """What the heads read: the encoder's space to search in, the means of tokens after every block (`plain`), or both
    side by side. An encoder that has no such space gives plain features."""
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Share of the texts that are held out with their items for the recall table."""
    width: PositiveInt = 128
    """Numbers of a vector in the shared space."""
    hidden: PositiveInt = 512
    """Width between the two layers of a head."""
    dropout: Fraction = 0.1
    """Share of these values that are zero in training."""
    batch_size: Annotated[int, Field(ge=2)] = 256
    """Pairs of each kind in an update; each is compared with all others of its kind."""
    max_updates: PositiveInt = 2000
    """Updates of the heads."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    """Of the heads; the temperature has no weight decay."""
    schedule: ScheduleConfig = ScheduleConfig(warmup_updates=100)
    """The learning rate over the updates."""
    seed: NonNegativeInt = 0
    """Of first weights, order and dropout."""
    log_every_updates: PositiveInt = 100
    """Updates between two lines of metrics; changes no result."""
    batch_items: PositiveInt = 64
    """Items that an encoder is given at a time; changes no result."""
    bootstrap_resamples: PositiveInt = 1000
    """Resamples of the held-out items for the intervals of the table."""
    promote: PromoteConfig = PromoteConfig(min_gain_over_random=None, min_rank=None, max_latency_factor=None)
    """When new heads replace the champion: they are compared by the mean recall at 5 over all directions."""
