"""Two-layer heads on frozen features, one a modality.

Shapes: n items, D width of the features, H hidden width, R width of the shared space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Head(nn.Module):
    """Features to vectors of length one in the shared space: standardise, Linear, GELU, dropout, Linear, normalise.

    Args:
        width: D.
        hidden: H.
        out_width: R.
        dropout: share of the hidden values that are zero in training.

    Attributes:
        mean, scale: of the features that it is trained on, set by `fit_scale`; no gradient goes there.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, hidden: int, out_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, out_width)
        self.dropout = nn.Dropout(dropout)

    @property
    def width(self) -> int:
        """D."""
        return self.first.in_features

    @property
    def out_width(self) -> int:
        """R."""
        return self.second.out_features

    def fit_scale(self, features_nD: Tensor) -> None:
        """Take mean and standard deviation of each feature; one that does not vary is divided by 1."""
        self.mean.copy_(features_nD.mean(dim=0))
        deviation_D = features_nD.std(dim=0, correction=0)
        self.scale.copy_(torch.where(deviation_D > 1e-8, deviation_D, 1.0))

    def forward(self, features_nD: Tensor) -> Tensor:
        """(n, R) of length one."""
        hidden_nH = functional.gelu(self.first((features_nD - self.mean) / self.scale))
        return functional.normalize(self.second(self.dropout(hidden_nH)), dim=1)
