"""Whole recordings with their classes and transcripts, for fine-tuning."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from d2v.data.batch import Inputs, SampleKeys
from d2v.data.random import STREAM_AUGMENT, fold_in, uniform
from d2v.data.store import ShardReader
from d2v.errors import DataError
from d2v.modalities.base import LabelledSplit
from d2v.modalities.speech.config import RATE_HZ, SpeechEncoderConfig, SpeechFinetuneConfig, SpeechTrainConfig
from d2v.modalities.speech.data import WINDOW, SpeechData, pieces
from d2v.models.masking import rounded_up
from d2v.progress import log

DEV_STREAM = 3


def labelled(data: SpeechData, config: SpeechFinetuneConfig, encoder: SpeechTrainConfig) -> Mapping[str, LabelledSplit]:
    """The parts "train" and "test", "val" where the corpus has one beside a test split, and "dev" where recordings are
    kept out of training to choose the settings of a search on.

    A classifier is tested on the probe's test recordings: those of train that prepare held out where the test part has
    no class in common with it.

    Raises:
        DataError: every recording is too long.
    """
    test = data.probe_test if config.task.name == "classification" else data.test
    shards = {"train": data.train, "dev": data.train, "val": data.val, "test": test}
    rows = {"train": _short_enough(data, config), "test": np.arange(len(test))}
    if len(data.val):
        rows["val"] = np.arange(len(data.val))
    if config.dev_share:
        rows["train"], rows["dev"] = _parted(data, rows["train"], config)
    return {name: LabelledRecordings(shards[name], rows[name], config, encoder.encoder) for name in rows}


def _short_enough(data: SpeechData, config: SpeechFinetuneConfig) -> np.ndarray:
    """Train rows of at most `max_seconds`; all of them where they are cropped."""
    samples = data.train.integers("samples")
    if config.augment.crop_seconds is not None:
        return np.arange(len(samples))
    rows = np.flatnonzero(samples <= round(config.max_seconds * RATE_HZ))
    left_out = len(samples) - len(rows)
    if not len(rows):
        raise DataError(
            f"All {left_out:,} train recordings are longer than finetune.max_seconds={config.max_seconds:g}, the "
            f"shortest {samples.min() / RATE_HZ:.2f} s: raise finetune.max_seconds"
        )
    if left_out:
        hours = np.delete(samples, rows).sum() / RATE_HZ / 3600
        log(
            f"finetune: {left_out:,} of {len(samples):,} train recordings ({hours:.2f} h) are longer than "
            f"{config.max_seconds:g} s (finetune.max_seconds) and are left out of training"
        )
    return rows


def _parted(data: SpeechData, rows: np.ndarray, config: SpeechFinetuneConfig) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and `dev_share` of those with a transcript."""
    texts = list(data.train.column(config.text))
    said = np.array([row for row in rows if texts[row]], dtype=np.int64)
    random = np.random.Generator(np.random.Philox(key=[config.labels.seed, DEV_STREAM]))
    dev = np.sort(random.permutation(said)[: round(config.dev_share * len(said))])
    return np.setdiff1d(rows, dev), dev


@dataclass(frozen=True)
class LabelledRecordings:
    """Recordings of one part.

    Attributes:
        shards: where they lie.
        chosen: (n,) rows of the shards, by row of this part.
        config: the finetune block.
        encoder: what makes frames of them.
    """

    shards: ShardReader
    chosen: np.ndarray
    config: SpeechFinetuneConfig
    encoder: SpeechEncoderConfig
    scores = None

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """The part's folder, and the rows that were chosen."""
        return self.shards.folder.name, self.chosen

    @functools.cached_property
    def labels(self) -> np.ndarray:
        """(n,) class ids, UNLABELLED without one."""
        return self.shards.integers("label")[self.chosen]

    @functools.cached_property
    def texts(self) -> Sequence[str | None]:
        """(n,) what was said, or the names of all classes."""
        texts = list(self.shards.column(self.config.text))
        return [texts[row] for row in self.chosen]

    @functools.cached_property
    def samples(self) -> np.ndarray:
        """(n,) samples of each recording."""
        return self.shards.integers("samples")[self.chosen]

    @property
    def seconds(self) -> np.ndarray:
        """(n,) how long they are."""
        return self.samples / RATE_HZ

    @property
    def frames(self) -> np.ndarray:
        """(n,) frames that the encoder makes of each recording."""
        return np.array([self.encoder.frames(samples) for samples in self.samples.tolist()], dtype=np.int64)

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Whole recordings, normalised."""
        return self._pieces(rows, np.zeros_like(rows), self.samples[rows])

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Whole recordings, or random crops of those that are longer; a pure function of (the recipe's seed, epoch,
        sample id)."""
        rows, crop_seconds = keys.indices, self.config.augment.crop_seconds
        if crop_seconds is None:
            return self.inputs(rows)
        lengths = np.minimum(self.samples[rows], round(crop_seconds * RATE_HZ))
        ids, epochs = torch.from_numpy(rows), torch.from_numpy(keys.epochs)
        where = uniform(fold_in(self.config.seed, STREAM_AUGMENT, epochs, ids), 1)[:, 0].double().numpy()
        starts = (where * (self.samples[rows] - lengths + 1)).astype(np.int64)
        return self._pieces(rows, starts, lengths)

    def _pieces(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Inputs:
        """Padded to a rounded length where the encoder does not see it: shapes then repeat, and a CPU keeps
        fewer compiled kernels."""
        longest = int(lengths.max(initial=WINDOW))
        width = longest if self.encoder.stem_norm == "group" else rounded_up(longest)
        return pieces(self.shards, self.chosen[rows], starts, lengths, width)
