"""Reading a prepared folder of recordings: training crops and the probe set.

Shape legend: B recordings, T frames.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from d2v.data.batch import Batch, Inputs, SampleKeys, StoredInputs
from d2v.data.prepared import PreparedFolder
from d2v.data.random import STREAM_AUGMENT, fold_in, uniform
from d2v.data.store import ShardReader
from d2v.errors import ConfigError
from d2v.modalities.base import ProbeSet
from d2v.modalities.speech.codes import Codes
from d2v.modalities.speech.config import RATE_HZ, SpeechTrainConfig
from d2v.modalities.speech.preparation import FULL_SCALE

VARIANCE_EPS = 1e-5  # as in LayerNorm over time, which the reference uses
UNPROBED_ITEMS = 256  # recordings for images and rank where there are no labels
FEATURE_MELS, IMAGE_MELS = 80, 64
WINDOW, HOP = 400, 160  # 25 and 10 ms
MEL_FLOOR = 1e-5
IMAGE_RANGE = 12.0  # in natural logarithms of energy, from the loudest down: 52 dB
FEATURE_BATCH = 32


class SpeechData(PreparedFolder):
    """A prepared folder, opened for reading; safe to hand to worker processes.

    Args:
        folder: what prepare left.

    Raises:
        DataError: the folder is not a prepared one, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "recordings")
        self.probe_test = ShardReader(folder / "probe") if self.about["probe_test_from"] == "train" else self.test
        self.codes = Codes(folder, self.about["codebook"]) if "codebook" in self.about else None

    @functools.cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Samples, mean and standard deviation of every train recording."""
        return self.train.integers("samples"), self.train.floats("mean"), self.train.floats("std")

    def train_lengths(self, recipe: SpeechTrainConfig) -> np.ndarray:
        """(num_train,) int64 samples of each recording, at most the recipe's longest crop."""
        return np.minimum(self._statistics[0], recipe.longest_samples)

    def batch(self, keys: SampleKeys, recipe: SpeechTrainConfig) -> Batch:
        """Crops (B, samples) float32 of `keys.length` samples, or as long as the shortest row; where a crop begins is a
        pure function of (recipe.seed, epoch, sample id). Each recording is normalised as a whole, before the crop."""
        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        length = keys.length or int(self.train_lengths(recipe)[keys.indices].min())
        spare = self._statistics[0][keys.indices] - length
        where = uniform(fold_in(recipe.seed, STREAM_AUGMENT, epochs, ids), 1)[:, 0].double().numpy()
        starts = (where * (spare + 1)).astype(np.int64)
        crops = np.empty((len(ids), length), np.float32)
        for crop, row, start in zip(crops, keys.indices, starts, strict=True):
            crop[:] = _samples(self.train, int(row))[start : start + length]
        _, mean, std = self._statistics
        _normalise(crops, mean[keys.indices, None], std[keys.indices, None])
        targets = self._codes_of(keys.indices, starts, length, recipe)
        return Batch(torch.from_numpy(crops), ids, epochs, keys.update, targets=targets)

    def _codes_of(self, rows: np.ndarray, starts: np.ndarray, length: int, recipe: SpeechTrainConfig) -> Tensor | None:
        """(B, T') codes of crops where the objective learns some."""
        wanted = getattr(recipe.objective, "codes", None)
        if wanted is None:
            return None
        if self.codes is None or self.codes.number != wanted:
            has = "no codebook" if self.codes is None else f"a codebook of {self.codes.number} codes"
            raise ConfigError(
                f"{recipe.objective.name} learns {wanted} codes, and the prepared recordings have {has}: set "
                f"prepare.codebook.codes={wanted} and prepare again"
            )
        return torch.from_numpy(self.codes.of_crops(rows, starts, length, recipe.encoder))

    def probe_set(self, recipe: SpeechTrainConfig) -> ProbeSet:
        """The fixed probe recordings, normalised; of long ones the beginning."""
        parts = {}
        for name, shards in (("train", self.train), ("test", self.probe_test)):
            rows = np.array(self.about["probe"][name], dtype=np.int64)
            if not self.class_names:
                rows = np.arange(min(len(shards), UNPROBED_ITEMS))
            parts[name] = self._stored(shards, rows), torch.from_numpy(shards.integers("label")[rows])
        return ProbeSet(*parts["train"], *parts["test"], self.class_names)

    def _stored(self, shards: ShardReader, rows: np.ndarray) -> Inputs:
        lengths = np.minimum(shards.integers("samples"), round(self.about["probe_max_seconds"] * RATE_HZ))
        return StoredInputs(functools.partial(_beginnings, shards, lengths), rows, torch.from_numpy(lengths[rows]))


def _beginnings(shards: ShardReader, lengths: np.ndarray, rows: np.ndarray) -> Inputs:
    """Of these recordings, each as long as `lengths` says of its row."""
    return pieces(shards, rows, np.zeros_like(rows), lengths[rows])


def pieces(
    shards: ShardReader, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray, width: int | None = None
) -> Inputs:
    """Pieces of recordings, padded with zeros; each recording is normalised as a whole.

    Args:
        shards: of a part.
        rows: (n,) of them.
        starts: (n,) first sample of each piece.
        lengths: (n,) its samples.
        width: samples to pad to; None: as many as the longest has.
    """
    mean, std = shards.floats("mean"), shards.floats("std")
    waves = np.zeros((len(rows), width or lengths.max(initial=WINDOW)), np.float32)  # at once: it can be a gigabyte
    for wave, row, start, length in zip(waves, rows, starts, lengths, strict=True):
        wave[:length] = _samples(shards, int(row))[start : start + length]
        _normalise(wave[:length], mean[row], std[row])
    return Inputs(torch.from_numpy(waves), torch.from_numpy(lengths))


def _samples(shards: ShardReader, row: int) -> np.ndarray:
    """One recording (samples,) int16, where it lies in the file."""
    return shards.view("data", row).view("<i2")


def normalised(samples: np.ndarray, mean: float, std: float) -> np.ndarray:
    """16-bit samples as float32, of zero mean and unit variance if these are the recording's."""
    return _normalise(samples.astype(np.float32), mean, std)


def _normalise(wave: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    """16-bit samples as float32, in place, to zero mean and unit variance of the whole recording."""
    wave /= FULL_SCALE
    wave -= mean
    wave /= np.sqrt(np.square(std) + np.float32(VARIANCE_EPS))
    return wave


def side_by_side(waves: Sequence[Tensor]) -> Inputs:
    """Recordings (samples,) padded with zeros to the longest: (n, samples) with their lengths."""
    if not waves:
        return Inputs(torch.zeros(0, WINDOW), torch.zeros(0, dtype=torch.int64))
    return Inputs(pad_sequence(list(waves), batch_first=True), torch.tensor([len(wave) for wave in waves]))


# ------------------------------------------------------------------------------------------- spectra


@functools.lru_cache(maxsize=2)
def mel_filters(mels: int) -> Tensor:
    """(window / 2 + 1, mels) triangular filters from 0 to 8 kHz, on the HTK mel scale."""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(WINDOW // 2 + 1, 0.0, RATE_HZ / 2, mels, RATE_HZ)


def log_mel(inputs: Inputs, mels: int) -> tuple[Tensor, Tensor]:
    """Logarithms of mel energies (n, T, mels) in windows of 25 ms every 10 ms, and how many frames (n,) of a row hold
    no padding; a recording shorter than a window has one."""
    values = inputs.values.float().cpu()
    lengths = torch.full((len(values),), values.shape[1]) if inputs.lengths is None else inputs.lengths.cpu()
    values = torch.nn.functional.pad(values, (0, max(WINDOW - values.shape[1], 0)))
    spectrum = torch.stft(values, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True)
    energies = spectrum.abs().square().transpose(1, 2) @ mel_filters(mels)
    return (energies / WINDOW + MEL_FLOOR).log(), ((lengths - WINDOW) // HOP + 1).clamp_min(1)


def baseline_features(inputs: Inputs) -> Tensor:
    """Mean and standard deviation over time of 80 log-mel energies: (n, 160)."""
    features = []
    for part in inputs.split(FEATURE_BATCH):
        energies_nTD, frames = log_mel(part, FEATURE_MELS)
        is_real_nT1 = (torch.arange(energies_nTD.shape[1]) < frames[:, None]).unsqueeze(-1)
        count = frames[:, None].float()
        mean = (energies_nTD * is_real_nT1).sum(1) / count
        variance = ((energies_nTD - mean[:, None]).square() * is_real_nT1).sum(1) / count
        features.append(torch.cat([mean, variance.sqrt()], dim=1))
    return torch.cat(features) if features else torch.zeros(0, 2 * FEATURE_MELS)


def to_images(inputs: Inputs, data: Any = None) -> np.ndarray:
    """Log-mel spectrograms, low tones at the bottom, 10 ms a column: (n, 64, T, 3) uint8; padding is white."""
    from matplotlib import colormaps  # imported late: training has no use for it

    energies_nTD, frames = log_mel(inputs, IMAGE_MELS)
    loudest = energies_nTD.amax(dim=(1, 2), keepdim=True)
    brightness_nTD = ((energies_nTD - loudest) / IMAGE_RANGE + 1.0).clamp(0.0, 1.0)
    images = colormaps["magma"](brightness_nTD.numpy(), bytes=True)[..., :3].copy()
    images[(torch.arange(energies_nTD.shape[1]) >= frames[:, None]).numpy()] = 255
    return images.transpose(0, 2, 1, 3)[:, ::-1].copy()
