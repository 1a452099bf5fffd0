"""Product quantisation with Gumbel noise (wav2vec 2.0, section 2, "Quantization module").

Shape legend: B samples, N positions, C channels in, G groups, V entries of a codebook, W width out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from d2v.config import QuantizerConfig

_EPSILON = 1e-7


@dataclass(frozen=True)
class Quantized:
    """Features as entries of codebooks.

    Attributes:
        vectors: (B, N, W) the chosen entries side by side.
        codes: (B, N, G) which were chosen.
        scores: (B, N, G, V) logits of all, without noise.
    """

    vectors: Tensor
    codes: Tensor
    scores: Tensor


class GumbelQuantizer(nn.Module):
    """The best entry of each codebook; its gradient is that of the softmax (straight-through, Jang et al. 2016).

    Args:
        channels: C.
        config: groups, entries, width, first weights.
    """

    def __init__(self, channels: int, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.scores = nn.Linear(channels, config.groups * config.entries)
        nn.init.normal_(self.scores.weight, std=config.init_std)
        nn.init.zeros_(self.scores.bias)
        part = config.width // config.groups
        # a Linear each: of a view of one parameter, which a product would keep, ZeRO-3 takes the storage away
        codebooks = [nn.Linear(config.entries, part, bias=False) for _ in range(config.groups)]
        for codebook in codebooks:
            nn.init.uniform_(codebook.weight)
        self.codebooks = nn.ModuleList(codebooks)

    def forward(self, x_BNC: Tensor, uniform_BNGV: Tensor | None, temperature: float) -> Quantized:
        """Choose an entry of each codebook.

        Args:
            x_BNC: features.
            uniform_BNGV: draws from [0, 1) that noise is made of; None chooses without noise.
            temperature: of the softmax.
        """
        raw = self.scores(x_BNC)
        scores = raw.to(torch.promote_types(raw.dtype, torch.float32)).unflatten(-1, (self.config.groups, -1))
        noisy = scores if uniform_BNGV is None else scores + _gumbel(uniform_BNGV).to(scores.dtype)
        codes_BNG = noisy.argmax(dim=-1)
        soft = (noisy / temperature).softmax(dim=-1)
        chosen = F.one_hot(codes_BNG, self.config.entries).to(soft.dtype)
        choice = (chosen - soft.detach() + soft).unbind(dim=2)
        vectors = [codebook(x_BNV) for codebook, x_BNV in zip(self.codebooks, choice, strict=True)]
        return Quantized(torch.cat(vectors, dim=-1), codes_BNG, scores)

    def temperature(self, update: int) -> float:
        """The softmax's temperature in an update."""
        c = self.config
        return max(c.temperature_start * c.temperature_decay**update, c.temperature_end)


def _gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from draws in [0, 1), which come in steps of 2^-24; a 0 counts as half a step, to stay finite."""
    return -torch.log(-torch.log(uniform.clamp(min=2.0**-25)))


def perplexity(shares_GV: Tensor) -> Tensor:
    """() entries in use: the exponential of the entropy of each codebook's shares, summed over codebooks."""
    return torch.exp(-(shares_GV * torch.log(shares_GV + _EPSILON)).sum(dim=-1)).sum()


def shares(codes_N: Tensor, codes: int) -> Tensor:
    """(K,) how often each of K codes is there, as a share."""
    counts_K = torch.zeros(codes, device=codes_N.device).index_add_(0, codes_N, torch.ones_like(codes_N).float())
    return counts_K / max(len(codes_N), 1)
