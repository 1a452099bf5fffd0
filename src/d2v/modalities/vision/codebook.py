"""BEiT's tokenizer, which the prepare step trains on the corpus at hand: the paper's learned from other images.

Shape legend: n images, K codes, g grid side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from d2v.data.store import ShardReader
from d2v.distributed.environment import own_device
from d2v.modalities.vision.config import VisionCodebookConfig
from d2v.modalities.vision.data import CODEBOOK, stored_images
from d2v.modalities.vision.dvae import Dvae, divergence, relaxed, temperature_at
from d2v.models.quantizer import perplexity, shares
from d2v.progress import Progress, log

PICTURE = "codebook.png"
MEASURED, PICTURED, ENLARGED_PX = 256, 8, 128


def write_codebook(config: VisionCodebookConfig, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Train an autoencoder on the train images of a folder that is being prepared; leave its weights and a picture of
    images above what their codes give.

    Args:
        config: sizes and training.
        folder: has the shards already.
        about: what prepared.json will say of them.

    Returns:
        Its sizes, the mean squared error of normalised pixels from the best codes, and how many codes these use (the
        perplexity of their shares), on test images if there are some.
    """
    images = _Images(ShardReader(folder / "train"), about, config)
    model = _train(config, images)
    test = ShardReader(folder / "test")
    shown = _Images(test, about, config) if len(test) else images
    measured = shown.normalised(np.arange(min(len(shown), MEASURED)))
    device = next(model.parameters()).device
    with torch.no_grad():
        rebuilt, codes = model.reconstruct(measured.to(device))
    save_file(model.state_dict(), folder / CODEBOOK)
    _picture(shown, measured[:PICTURED], rebuilt[:PICTURED].cpu()).save(folder / PICTURE)
    error = float(F.mse_loss(rebuilt.cpu(), measured))
    used = float(perplexity(shares(codes.flatten(), config.codes)))
    log(f"prepare: codes leave {error:.3f} of the pixels' variance; {used:.0f} of {config.codes} in use ({PICTURE})")
    return {**config.sizes(), "reconstruction_error": error, "code_perplexity": used}


class _Images:
    """Stored images, whole, at the side that the autoencoder learns on."""

    def __init__(self, shards: ShardReader, about: dict[str, Any], config: VisionCodebookConfig) -> None:
        self._shards, self._about = shards, about
        self._side = config.image_px or int(about["store_px"])
        self.mean, self.std = (torch.tensor(about[name]).view(3, 1, 1) for name in ("mean", "std"))

    def __len__(self) -> int:
        return len(self._shards)

    def normalised(self, rows: np.ndarray) -> Tensor:
        """(n, 3, S, S)."""
        return (stored_images(self._shards, rows, self._side, self._about) / 255.0 - self.mean) / self.std


def _train(config: VisionCodebookConfig, images: _Images) -> Dvae:
    """Adam on the squared error of pixels and the divergence from even use, with a temperature that falls."""
    device, random = own_device(), torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Dvae(config)
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    with Progress("codebook", config.updates) as progress:
        for update in range(config.updates):
            rows = torch.randint(len(images), (config.batch_size,), generator=random)
            batch = images.normalised(rows.numpy()).to(device)
            scores = model.encoder(batch)
            noise = torch.rand(scores.shape, generator=random).to(device)
            choice = relaxed(scores, noise, temperature_at(update, config.updates, config.temperature_end))
            loss = F.mse_loss(model.decode(choice), batch) + config.divergence_weight * divergence(scores)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.advance()
    return model.eval()


def _picture(images: _Images, originals: Tensor, rebuilt: Tensor) -> Image.Image:
    """Images side by side, and under each what its codes give."""
    rows = []
    for some in (originals, rebuilt):
        pixels = (some * images.std + images.mean).clamp(0.0, 1.0)
        pixels = F.interpolate(pixels, (ENLARGED_PX, ENLARGED_PX), mode="nearest")
        rows.append(torch.cat(list(pixels), dim=2))
    whole = (torch.cat(rows, dim=1) * 255.0).round().to(torch.uint8)
    return Image.fromarray(whole.permute(1, 2, 0).numpy())
