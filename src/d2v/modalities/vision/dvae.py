"""A discrete variational autoencoder (Ramesh et al. 2021), whose codes are what BEiT predicts (Bao et al. 2021).

The layers are those of the small model in BEiT's repository: convolutions that halve the side, each followed by a
residual block.

Shape legend: B images, S side, g grid side, T = g^2 tokens, K codes, W width of a code, H hidden channels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.modalities.vision.config import DvaeConfig
from d2v.modalities.vision.encoder import CHANNELS
from d2v.models.shards import count_matmul_parameters


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 and one of 1 x 1 beside what comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + x


class DvaeEncoder(nn.Module):
    """Images to the scores of codes: (B, 3, S, S) -> (B, K, g, g), g = S / 2^layers."""

    def __init__(self, config: DvaeConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (CHANNELS, *[config.hidden] * (config.layers - 1)):
            layers += [nn.Conv2d(channels, config.hidden, 4, stride=2, padding=1), nn.ReLU()]
            layers.append(ResidualBlock(config.hidden))
        self.layers = nn.Sequential(*layers, nn.Conv2d(config.hidden, config.codes, 1))

    def forward(self, images_BCSS: Tensor) -> Tensor:
        return self.layers(images_BCSS)


class Dvae(nn.Module):
    """Encoder, codes, and the way back to images.

    Args:
        config: sizes.
    """

    def __init__(self, config: DvaeConfig) -> None:
        super().__init__()
        self.encoder = DvaeEncoder(config)
        self.codebook = nn.Embedding(config.codes, config.width)
        layers: list[nn.Module] = []
        for channels in (config.width, *[config.hidden] * (config.layers - 1)):
            layers += [nn.ConvTranspose2d(channels, config.hidden, 4, stride=2, padding=1), nn.ReLU()]
            layers.append(ResidualBlock(config.hidden))
        self.decoder = nn.Sequential(*layers, nn.Conv2d(config.hidden, CHANNELS, 1))

    def decode(self, choice_BKgg: Tensor) -> Tensor:
        """(B, 3, S, S) images of a choice, or a mixture, of codes."""
        return self.decoder(torch.einsum("bkhw,kd->bdhw", choice_BKgg, self.codebook.weight))

    def reconstruct(self, images_BCSS: Tensor) -> tuple[Tensor, Tensor]:
        """Images from the best codes alone, and these, (B, g, g)."""
        codes_Bgg = self.encoder(images_BCSS).argmax(dim=1)
        return self.decoder(self.codebook(codes_Bgg).permute(0, 3, 1, 2)), codes_Bgg


def relaxed(scores_BKgg: Tensor, uniform_BKgg: Tensor, temperature: float) -> Tensor:
    """(B, K, g, g) the Gumbel softmax of scores (Jang et al. 2016).

    Args:
        scores_BKgg: of codes.
        uniform_BKgg: draws from [0, 1) that noise is made of.
        temperature: lower comes closer to a choice.
    """
    noise = -torch.log(-torch.log(uniform_BKgg.clamp(min=2.0**-25, max=1.0 - 2.0**-25)))
    return ((scores_BKgg + noise) / temperature).softmax(dim=1)


def divergence(scores_BKgg: Tensor) -> Tensor:
    """() the Kullback-Leibler divergence of codes' probabilities from the uniform distribution, in nats a token: 0
    where all codes are alike, ln K where one is certain."""
    log_shares = scores_BKgg.log_softmax(dim=1)
    return (log_shares.exp() * log_shares).sum(dim=1).mean() + math.log(scores_BKgg.shape[1])


def temperature_at(update: int, updates: int, end: float) -> float:
    """Half a cosine from 1 to `end` (Ramesh et al. 2021, appendix A.2)."""
    return end + (1.0 - end) * (1.0 + math.cos(math.pi * update / updates)) / 2.0


class ImageCodes(nn.Module):
    """Normalised images to the code of each patch: (B, 3, S, S) -> (B, T) int64. Its weights do not learn.

    Args:
        config: sizes of the autoencoder.
        grid: g patches along a side.
    """

    def __init__(self, config: DvaeConfig, grid: int) -> None:
        super().__init__()
        self.encoder = DvaeEncoder(config).requires_grad_(False)
        self._side = grid * 2**config.layers

    @torch.no_grad()
    def forward(self, images_BCSS: Tensor) -> Tensor:
        images = images_BCSS.to(next(self.encoder.parameters()).dtype)
        if images.shape[-1] != self._side:
            images = F.interpolate(images, (self._side, self._side), mode="bicubic", antialias=True)
        return self.encoder(images).argmax(dim=1).flatten(1)


def encoder_flops(config: DvaeConfig, tokens: int) -> float:
    """Multiply-adds times two of the codes of one image of so many tokens."""
    with torch.device("meta"):
        layers = DvaeEncoder(config).layers
    total, size = 0.0, tokens * 4**config.layers
    for layer in layers:
        size = size // 4 if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2) else size
        total += 2.0 * size * count_matmul_parameters(layer.parameters())
    return total
