"""HuBERT's clusters of frames, which the prepare step finds and stores (Hsu et al. 2021, section II-A).

Shape legend: S samples, L labels of a recording, F numbers in a feature, T frames of an encoder, K clusters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from d2v.config import current_names, parse
from d2v.data import digests
from d2v.data.disk import read_json
from d2v.data.store import ShardReader, ShardWriter
from d2v.distributed.environment import own_device
from d2v.errors import DataError
from d2v.modalities.speech.clusters import find_clusters, nearest
from d2v.modalities.speech.codes import CODES, SCHEMA
from d2v.modalities.speech.config import RATE_HZ, CodebookConfig, SpeechEncoderConfig, SpeechTrainConfig
from d2v.modalities.speech.data import HOP, WINDOW, normalised
from d2v.progress import Progress

CENTRES = "codebook.npy"
LONGEST_PIECE = 1_600_000
"""Samples that an encoder hears at a time, as in HuBERT's code."""
CEPSTRA = 13
WEIGHTS, SETTINGS = "encoder.safetensors", "config.json"

Features = Callable[[NDArray[np.int16], float, float], NDArray[np.float32]]
"""Samples of a recording, its mean and standard deviation -> (L, F)."""


def mfcc(samples: NDArray[np.int16]) -> NDArray[np.float32]:
    """(L, 39) cepstra with their first and second differences, every 10 ms, as Kaldi makes them; none of a recording
    of less than 25 ms.

    13 cepstra of 23 mel bands from 20 Hz without the energy, not normalised; differences over 5 labels.
    """
    from torchaudio.compliance import kaldi  # imported late, as everywhere
    from torchaudio.functional import compute_deltas

    wave = torch.from_numpy(samples.astype(np.float32) / np.float32(32_768.0))
    if len(wave) < WINDOW:
        return np.zeros((0, 3 * CEPSTRA), np.float32)
    cepstra_FL = kaldi.mfcc(wave[None], sample_frequency=RATE_HZ, use_energy=False, num_ceps=CEPSTRA).T
    first_FL = compute_deltas(cepstra_FL)
    features: NDArray[np.float32] = torch.cat([cepstra_FL, first_FL, compute_deltas(first_FL)]).T.numpy()
    return features


class LayerFeatures:
    """What a block of a trained encoder makes of recordings, without masks and dropout.

    Args:
        folder: a model folder.
        layer: number of the block, from 1.

    Raises:
        DataError: the folder holds no such encoder.
    """

    def __init__(self, folder: Path, layer: int) -> None:
        from d2v.modalities.speech.encoder import build_encoder

        digests.check(folder, [SETTINGS, WEIGHTS], DataError, "train again, or restore the file")
        about = read_json(folder / SETTINGS, DataError, "give a model folder", {"modality": str, "recipe": dict})
        if about["modality"] != "speech":
            raise DataError(
                f"{folder} is a model for {about['modality']}: set prepare.codebook.encoder to one of speech"
            )
        recipe = parse(SpeechTrainConfig, current_names(SpeechTrainConfig, about["recipe"], "recipe"), at="recipe")
        if layer > recipe.encoder.depth:
            raise DataError(
                f"prepare.codebook.layer {layer} is more than the {recipe.encoder.depth} blocks of {folder}: lower it"
            )
        self.settings: SpeechEncoderConfig = recipe.encoder
        self._layer, self._device = layer, own_device()
        self._encoder = build_encoder(recipe)
        try:
            self._encoder.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            raise DataError(
                f"{folder / WEIGHTS} does not fill the encoder of its recipe ({error}): set prepare.codebook.encoder "
                "to another model folder"
            ) from error
        self._encoder.eval().to(self._device)

    @torch.no_grad()
    def __call__(self, samples: NDArray[np.int16], mean: float, std: float) -> NDArray[np.float32]:
        """(L, D) a label for each of the encoder's frames."""
        wave = torch.from_numpy(normalised(samples, mean, std)).to(self._device)
        pieces = [wave[first : first + LONGEST_PIECE] for first in range(0, len(wave), LONGEST_PIECE)]
        heard = [self._of(piece) for piece in pieces if len(piece) >= self.settings.receptive_samples]
        return np.concatenate(heard) if heard else np.zeros((0, self.settings.width), np.float32)

    def _of(self, wave_S: torch.Tensor) -> NDArray[np.float32]:
        local = self._encoder.stem(wave_S[None])
        activations = self._encoder.encode(local, activation="end_of_block").activations
        features: NDArray[np.float32] = activations[self._layer - 1][0].float().cpu().numpy()
        return features


def identity(config: CodebookConfig) -> dict[str, Any]:
    """What the codes depend on beside the recordings: the settings, and the weights of an encoder in place of its
    path."""
    values = config.model_dump()
    if config.encoder is not None:
        file = Path(config.encoder) / WEIGHTS
        try:
            with file.open("rb") as stream:
                values["encoder"] = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error}): set prepare.codebook.encoder to a model folder, or to null for MFCCs"
            ) from error
    return values


def write_codes(config: CodebookConfig, folder: Path) -> dict[str, Any]:
    """Find clusters of the train recordings of a folder that is being prepared, and write what every label's is.

    Returns:
        What prepared.json says of it: kind, `codes`, and samples from label to label and of the first.

    Raises:
        DataError: too few labels, or no such encoder.
    """
    layer = LayerFeatures(Path(config.encoder), config.layer) if config.encoder is not None else None
    hop, window = (HOP, WINDOW) if layer is None else (layer.settings.step_samples, layer.settings.receptive_samples)
    features: Features = layer or (lambda samples, mean, std: mfcc(samples))
    train = _Recordings(folder, features)
    rows = train.share(config.share, config.seed)
    with Progress("codebook", config.passes * len(rows) + len(train)) as progress:
        passes = (train.features(rows, progress) for _ in range(config.passes))
        centres_KF = find_clusters(passes, config.codes, config.batch_frames, config.seed)
        np.save(folder / CENTRES, centres_KF)
        writer = ShardWriter(folder / CODES, SCHEMA, 2**24)
        for some in train.features(np.arange(len(train)), progress):
            writer.append({"codes": nearest(some, centres_KF).astype("<u2").tobytes()})
        writer.flush()
    kind = "mfcc" if layer is None else f"layer {config.layer}"
    return {"kind": kind, "codes": config.codes, "hop_samples": hop, "window_samples": window}


class _Recordings:
    """Train recordings that are written already, and their features."""

    def __init__(self, folder: Path, features: Features) -> None:
        self._shards, self._of = ShardReader(folder / "train"), features
        self._mean, self._std = self._shards.floats("mean"), self._shards.floats("std")

    def __len__(self) -> int:
        return len(self._shards)

    def share(self, share: float, seed: int) -> NDArray[np.int64]:
        """Rows of a random share, at least one, in random order."""
        order = np.random.Generator(np.random.Philox(key=[seed, 1])).permutation(len(self))
        return order[: max(round(share * len(self)), 1)]

    def features(self, rows: NDArray[np.int64], progress: Progress) -> Iterator[NDArray[np.float32]]:
        """Of some recordings, one after the other."""
        for row in rows:
            samples = self._shards.view("data", int(row)).view("<i2")
            yield self._of(samples, float(self._mean[row]), float(self._std[row]))
            progress.advance()
