"""What series supply to the shared pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d2v.config import FinetuneConfig
from d2v.data.batch import Inputs
from d2v.data.ingest import Reader, Record
from d2v.data.sources.source import Source
from d2v.modalities.base import GraphInputs, Modality, encoder_block
from d2v.modalities.series import raw_inputs
from d2v.modalities.series.config import (
    SeriesEncoderConfig,
    SeriesIngestConfig,
    SeriesPrepareConfig,
    SeriesRecipe,
    SeriesTrainConfig,
)
from d2v.modalities.series.data import SeriesData, baseline_features, to_images
from d2v.modalities.series.encoder import build_encoder
from d2v.modalities.series.masking import draw_masks, num_masked
from d2v.modalities.series.preparation import prepare
from d2v.modalities.series.sources import FACTS, open_source, read_series
from d2v.models.encoder import Encoder
from d2v.models.masking import Count


class Series(Modality[SeriesIngestConfig, SeriesPrepareConfig, SeriesTrainConfig, FinetuneConfig, SeriesData]):
    """Numeric time series of several channels."""

    name = "series"
    recipe = SeriesRecipe
    facts = FACTS
    baseline_name = "summary statistics"
    images_per_row = 4
    request = raw_inputs.REQUEST

    def open_source(self, config: SeriesIngestConfig) -> Source:
        """The embedded corpus, or CSV files."""
        return open_source(config)

    def reader(self, config: SeriesIngestConfig) -> Reader:
        """CSV files and arrays."""
        return read_series

    def prepare(self, config: SeriesPrepareConfig, corpus: Path, out: Path) -> Mapping[str, object]:
        """A store with channel statistics and a probe set."""
        return prepare(config, corpus, out)

    def open(self, folder: Path) -> SeriesData:
        """A prepared folder."""
        return SeriesData(folder)

    def describe(self, data: SeriesData) -> dict[str, object]:
        """Normalisation, class names, source and fingerprint."""
        names = ("mean", "std", "channels", "class_names", "source")
        return {name: data.about[name] for name in names} | {"data_fingerprint": data.fingerprint}

    def build_encoder(self, recipe: SeriesTrainConfig) -> Encoder:
        """Patches of steps and a transformer."""
        return build_encoder(recipe)

    def max_tokens(self, recipe: SeriesTrainConfig) -> int:
        """Patches of the longest series."""
        return recipe.encoder.max_tokens

    def num_masked(self, recipe: SeriesTrainConfig, tokens: Count) -> Count:
        """Patches that every mask masks."""
        return num_masked(recipe, tokens)

    def draw_masks(self, recipe: SeriesTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
        """Random patches that are not padding."""
        return draw_masks(recipe, keys, tokens, lengths)

    def baseline_features(self, inputs: Inputs) -> Tensor:
        """Mean, deviation and mean change of each channel."""
        return baseline_features(inputs)

    def to_images(self, inputs: Inputs, data: SeriesData) -> np.ndarray:
        """Curves."""
        return to_images(inputs)

    def image_grid(self, tokens: int) -> tuple[int, int]:
        """Patches lie side by side."""
        return 1, tokens

    def from_record(self, record: Record) -> np.ndarray:
        """(steps, channels)."""
        return raw_inputs.from_record(record)

    def is_item(self, given: object) -> bool:
        """A file, or an array (steps, channels)."""
        return raw_inputs.is_item(given)

    def read_item(self, item: object, rate_hz: float | None = None) -> np.ndarray:
        """(steps, channels) of a CSV file or an array."""
        return raw_inputs.read_item(item)

    def to_inputs(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """(n, steps, channels), normalised and padded."""
        return raw_inputs.to_inputs(items, about)

    def graph_inputs(self, about: Mapping[str, object]) -> GraphInputs:
        """Series of any lengths."""
        encoder = encoder_block(about, SeriesEncoderConfig)
        steps = 4 * encoder.patch_steps
        values, lengths = torch.zeros(2, steps, encoder.channels), torch.tensor([steps, steps - encoder.patch_steps])
        return GraphInputs(values, "(items, steps, channels) float32, normalised, padded with zeros", lengths)
