"""Batches for training, and the probe set, from a prepared folder of images. A store of pixels is not decoded; one of
files is, an image at a time.

Shape legend: B images, S stored side, P the encoder's side.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import interpolate

from d2v.config import TrainConfig
from d2v.data.batch import Batch, Inputs, SampleKeys, StoredInputs
from d2v.data.prepared import PreparedFolder
from d2v.data.random import STREAM_AUGMENT, fold_in
from d2v.data.store import ShardReader
from d2v.errors import ConfigError
from d2v.modalities.base import ProbeSet
from d2v.modalities.vision.config import VisionAugmentConfig, VisionTrainConfig
from d2v.modalities.vision.reading import decode
from d2v.modalities.vision.resampling import Crops, draw_crops, jitter_colours, resample

CODEBOOK = "codebook.safetensors"
"""Weights of the tokenizer that prepare trained."""


class VisionData(PreparedFolder):
    """A prepared folder, opened for reading; safe to hand to worker processes.

    Args:
        folder: what prepare left.

    Raises:
        DataError: the folder is not a prepared one, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "images")
        self.mean, self.std = (torch.tensor(self.about[name])[:, None, None] for name in ("mean", "std"))

    def train_lengths(self, recipe: TrainConfig) -> np.ndarray | None:
        """None: all images are brought to one size."""
        return None

    def batch(self, keys: SampleKeys, recipe: VisionTrainConfig) -> Batch:
        """Augmented, normalised images (B, 3, P, P); a pure function of (recipe.seed, epoch, sample id).

        Raises:
            ConfigError: the stored images are smaller than the encoder's.
        """
        self.check_size(recipe)
        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        draw = fold_in(recipe.seed, STREAM_AUGMENT, epochs, ids)
        images = self.cropped(keys.indices, draw, recipe.augment, recipe.encoder.image_px)
        return Batch(self.normalise(images), ids, epochs, keys.update)

    def cropped(
        self,
        rows: np.ndarray,
        draw: Tensor,
        augment: VisionAugmentConfig,
        out_px: int,
        shards: ShardReader | None = None,
    ) -> Tensor:
        """(B, 3, P, P) random crops of train images, or of those of other `shards`, their colours jittered, in 0..255;
        a pure function of `draw`."""
        images = self._crops(self.train if shards is None else shards, rows, draw, augment, out_px)
        return jitter_colours(images, fold_in(draw, 1), augment.colour_jitter) if augment.colour_jitter else images

    def _crops(
        self, shards: ShardReader, rows: np.ndarray, draw: Tensor, augment: VisionAugmentConfig, out_px: int
    ) -> Tensor:
        if self.about["storage"] == "pixels":
            images = self._pixels(shards, rows)
            side = torch.full((len(rows),), images.shape[1])
            return resample(images, draw_crops(draw, side, side, augment.crop_scale, augment.flip), out_px)
        decoded = [torch.from_numpy(decode(shards.binary("data", int(row))).copy()) for row in rows]
        heights, widths = (torch.tensor([image.shape[axis] for image in decoded]) for axis in (0, 1))
        crops = draw_crops(draw, heights, widths, augment.crop_scale, augment.flip)
        return torch.stack([_cut(image, crops, n, out_px) for n, image in enumerate(decoded)])

    def _pixels(self, shards: ShardReader, rows: np.ndarray) -> Tensor:
        return stored_pixels(shards, rows, int(self.about["store_px"]))

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels in 0..255 as the encoder takes them; what is given is overwritten, for copies cost more than sums."""
        return images.div_(255.0).sub_(self.mean).div_(self.std).contiguous()

    def check_size(self, recipe: VisionTrainConfig) -> None:
        """Raise ConfigError if the stored images are smaller than the encoder's."""
        stored, wanted = int(self.about["store_px"]), recipe.encoder.image_px
        if stored < wanted:
            raise ConfigError(
                f"the prepared images have {stored} px and the encoder takes {wanted} px: set prepare.store_px="
                f"{wanted} and prepare again, or set train.encoder.image_px={stored}"
            )

    def probe_set(self, recipe: VisionTrainConfig) -> ProbeSet:
        """The fixed probe images, whole and normalised, at the encoder's side."""
        self.check_size(recipe)
        parts = {}
        for name, shards in (("train", self.train), ("test", self.test)):
            rows = np.array(self.about["probe"][name], dtype=np.int64)
            if not self.class_names:
                rows = np.arange(min(len(shards), 256))  # for images and rank
            parts[name] = self._stored(shards, rows, recipe), torch.from_numpy(shards.integers("label")[rows])
        return ProbeSet(*parts["train"], *parts["test"], self.class_names)

    def _stored(self, shards: ShardReader, rows: np.ndarray, recipe: VisionTrainConfig) -> StoredInputs:
        return StoredInputs(partial(self._whole_inputs, shards, recipe.encoder.image_px), rows)

    def _whole_inputs(self, shards: ShardReader, out_px: int, rows: np.ndarray) -> Inputs:
        return Inputs(self.whole(shards, rows, out_px))

    def whole(self, shards: ShardReader, rows: np.ndarray, out_px: int) -> Tensor:
        """(n, 3, P, P) stored images as they are, normalised."""
        return self.normalise(stored_images(shards, rows, out_px, self.about))

    def codebook(self, recipe: VisionTrainConfig) -> dict[str, Tensor]:
        """Weights of the tokenizer's encoder, as `dvae.ImageCodes` takes them.

        Raises:
            ConfigError: prepare left none, or one of other sizes.
        """
        wanted, there = recipe.codebook.sizes(), self.about.get("codebook")
        if there is None or any(there[name] != value for name, value in wanted.items()):
            has = "no codebook" if there is None else f"a codebook of {there['codes']} codes with other sizes"
            raise ConfigError(
                f"beit names codes, and the prepared images have {has}: set prepare.codebook to {wanted} and prepare "
                "again"
            )
        weights = load_file(self.folder / CODEBOOK)
        return {name: value for name, value in weights.items() if name.startswith("encoder.")}


def stored_images(shards: ShardReader, rows: np.ndarray, out_px: int, about: Mapping[str, Any]) -> Tensor:
    """(n, 3, P, P) whole images in 0..255, resized.

    Args:
        shards: of a prepared folder.
        rows: of them.
        out_px: P.
        about: how they are stored.
    """
    if not len(rows):
        return torch.zeros(0, 3, out_px, out_px)
    if about["storage"] == "pixels":
        images = stored_pixels(shards, rows, int(about["store_px"])).permute(0, 3, 1, 2).float()
    else:
        images = torch.stack([_central_square(decode(shards.binary("data", int(row)))) for row in rows])
    if images.shape[-1] != out_px:
        images = interpolate(images, (out_px, out_px), mode="bicubic", antialias=True).clamp_(0.0, 255.0)
    return images


def stored_pixels(shards: ShardReader, rows: np.ndarray, side: int) -> Tensor:
    """(n, S, S, 3) uint8 of a store of pixels."""
    return torch.from_numpy(shards.fixed("data", rows).reshape(len(rows), side, side, 3))


def _cut(image_HWC: Tensor, crops: Crops, n: int, out_px: int) -> Tensor:
    """The n-th crop of a batch from its image: (3, P, P) in 0..255."""
    top, left = int(crops.top[n]), int(crops.left[n])
    box = image_HWC[top : top + int(crops.height[n]), left : left + int(crops.width[n])].permute(2, 0, 1).float()
    out = interpolate(box[None], (out_px, out_px), mode="bicubic", antialias=True)[0].clamp_(0.0, 255.0)
    return out.flip(2) if bool(crops.flip[n]) else out


def _central_square(image: np.ndarray) -> Tensor:
    height, width = image.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    return torch.from_numpy(image[top : top + edge, left : left + edge].copy()).permute(2, 0, 1).float()
