"""Reading a prepared folder of series: training crops, the probe set, plain features and images.

Shape legend: B series, S steps, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from d2v.data.batch import Batch, Inputs, SampleKeys
from d2v.data.prepared import PreparedFolder
from d2v.data.random import STREAM_AUGMENT, fold_in, uniform
from d2v.data.store import ShardReader
from d2v.errors import ConfigError
from d2v.modalities.base import ProbeSet
from d2v.modalities.series.config import SeriesTrainConfig

UNPROBED_ITEMS = 256  # series for images and rank where there are no labels
IMAGE_PX, IMAGE_RANGE = 40, 3.0  # height, and the standard deviations from its middle to its edge
COLOURS = ((51, 102, 170), (221, 119, 17), (26, 152, 80), (215, 48, 39))


class SeriesData(PreparedFolder):
    """A prepared folder, opened for reading; safe to hand to worker processes.

    Args:
        folder: what prepare left.

    Raises:
        DataError: the folder is not a prepared one, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "series")

    @functools.cached_property
    def _steps(self) -> np.ndarray:
        return self.train.integers("steps")

    def train_lengths(self, recipe: SeriesTrainConfig) -> np.ndarray:
        """(num_train,) int64 steps of each series, at most the encoder's longest."""
        return np.minimum(self._steps, recipe.encoder.max_steps)

    def batch(self, keys: SampleKeys, recipe: SeriesTrainConfig) -> Batch:
        """Crops (B, S, C) of `keys.length` steps, or as long as the shortest row; the place of a crop is a pure
        function of (recipe.seed, epoch, sample id).

        Raises:
            ConfigError: the encoder takes another number of channels.
        """
        self._check_channels(recipe)
        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        length = keys.length or int(self.train_lengths(recipe)[keys.indices].min())
        where = uniform(fold_in(recipe.seed, STREAM_AUGMENT, epochs, ids), 1)[:, 0].double().numpy()
        starts = (where * (self._steps[keys.indices] - length + 1)).astype(np.int64)
        crops = [
            self._series(self.train, int(row))[start : start + length]
            for row, start in zip(keys.indices, starts, strict=True)
        ]
        return Batch(torch.stack(crops), ids, epochs, keys.update)

    def _check_channels(self, recipe: SeriesTrainConfig) -> None:
        stored, wanted = self.about["channels"], recipe.encoder.channels
        if stored != wanted:
            raise ConfigError(f"the series have {stored} channels and the encoder takes {wanted}: set encoder.channels")

    def _series(self, shards: ShardReader, row: int) -> Tensor:
        """(S, C) float32, normalised."""
        stored = np.frombuffer(shards.binary("data", row), "<f4").reshape(-1, self.about["channels"])
        return normalise(torch.from_numpy(stored.copy()), self.about)

    def probe_set(self, recipe: SeriesTrainConfig) -> ProbeSet:
        """The fixed probe series, normalised; of long ones the beginning."""
        self._check_channels(recipe)
        parts = {}
        for name, shards in (("train", self.train), ("test", self.test)):
            rows = np.array(self.about["probe"][name], dtype=np.int64)
            if not self.class_names:
                rows = np.arange(min(len(shards), UNPROBED_ITEMS))
            series = [self._series(shards, int(row))[: recipe.encoder.max_steps] for row in rows]
            parts[name] = side_by_side(series), torch.from_numpy(shards.integers("label")[rows])
        return ProbeSet(*parts["train"], *parts["test"], self.class_names)


def normalise(values: Tensor, about: Mapping[str, object]) -> Tensor:
    """(..., C) at zero mean and unit variance over the train part."""
    mean, std = (torch.tensor(about[name]) for name in ("mean", "std"))
    return (values - mean) / std


def side_by_side(series: Sequence[Tensor]) -> Inputs:
    """Series (S, C) padded with zeros to the longest, with their lengths."""
    if not series:
        return Inputs(torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.int64))
    return Inputs(pad_sequence(list(series), batch_first=True), torch.tensor([len(one) for one in series]))


def baseline_features(inputs: Inputs) -> Tensor:
    """Mean, standard deviation and mean absolute change of each channel: (n, 3 * C)."""
    features = []
    for one in inputs.split(1):
        values_SC = one.values[0]
        change_C = values_SC.diff(dim=0).abs().mean(dim=0)
        features.append(torch.cat([values_SC.mean(dim=0), values_SC.std(dim=0, correction=0), change_C]))
    return torch.stack(features)


def to_images(inputs: Inputs) -> np.ndarray:
    """One column of pixels a step, one colour a channel, padding white: (n, 40, S, 3) uint8."""
    count, steps, channels = inputs.values.shape
    images = np.full((count, IMAGE_PX, steps, 3), 255, dtype=np.uint8)
    share = (inputs.values.cpu().float() / IMAGE_RANGE).clamp(-1.0, 1.0) * 0.5 + 0.5
    rows = ((1.0 - share) * (IMAGE_PX - 1)).round().long().numpy()
    lengths = [steps] * count if inputs.lengths is None else inputs.lengths.tolist()
    for image, row, length in zip(images, rows, lengths, strict=True):
        for channel in range(channels):
            image[row[:length, channel], np.arange(length)] = COLOURS[channel % len(COLOURS)]
    return images
