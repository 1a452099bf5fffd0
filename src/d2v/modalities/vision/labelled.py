"""Images with their classes, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from d2v.data.batch import Inputs, SampleKeys
from d2v.data.random import STREAM_AUGMENT, fold_in
from d2v.data.store import ShardReader
from d2v.modalities.base import LabelledSplit
from d2v.modalities.vision.config import VisionFinetuneConfig, VisionTrainConfig
from d2v.modalities.vision.data import VisionData


def labelled(data: VisionData, config: VisionFinetuneConfig, encoder: VisionTrainConfig) -> Mapping[str, LabelledSplit]:
    """The parts "train" and "test", and "val" where there is one, at the encoder's side.

    Raises:
        ConfigError: the stored images are smaller than the encoder's.
    """
    data.check_size(encoder)
    side = encoder.encoder.image_px
    parts = ("train", "val", "test") if len(data.val) else ("train", "test")
    return {part: LabelledImages(data, getattr(data, part), config, side) for part in parts}


@dataclass(frozen=True)
class LabelledImages:
    """One part.

    Attributes:
        data: the prepared folder.
        shards: the part's.
        config: the finetune block.
        side_px: of the encoder's inputs.
    """

    data: VisionData
    shards: ShardReader
    config: VisionFinetuneConfig
    side_px: int
    scores = None
    seconds = None

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """The part's folder, and all its rows."""
        return self.shards.folder.name, np.arange(len(self.shards))

    @property
    def labels(self) -> np.ndarray:
        """(n,) class ids."""
        return self.shards.integers("label")

    @property
    def texts(self) -> Sequence[str | None]:
        """None for each image."""
        return [None] * len(self.shards)

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Images as they are, normalised."""
        return Inputs(self.data.whole(self.shards, rows, self.side_px))

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Crops, RandAugment and erased boxes; a pure function of (the recipe's seed, epoch, sample id)."""
        from d2v.modalities.vision.augmentation import erase, rand_augment  # with torchvision: 3 s and 150 MB

        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        draw = fold_in(self.config.seed, STREAM_AUGMENT, epochs, ids)
        augment = self.config.augment
        images = self.data.cropped(keys.indices, draw, augment, self.side_px, self.shards)
        if augment.rand_augment.operations:
            fill = (255.0 * self.data.mean).flatten().tolist()
            pixels = images.round().to(torch.uint8)
            images = rand_augment(pixels, fold_in(draw, 2), augment.rand_augment, fill).float()
        values = self.data.normalise(images)
        return Inputs(erase(values, fold_in(draw, 3), augment.erase) if augment.erase else values)
