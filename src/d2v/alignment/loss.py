"""The symmetric contrastive loss of CLIP (Radford et al. 2021, section 2.3) and its learned temperature.

Shapes: B pairs, R width of the shared space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FIRST_LOG_SCALE, MOST_LOG_SCALE = math.log(1.0 / 0.07), math.log(100.0)


def contrastive_loss(
    first_BR: Tensor, second_BR: Tensor, scale: Tensor | float, same_B: Tensor | None = None
) -> Tensor:
    """Mean of two cross-entropies: each first item names its partner among all second ones, and the other way round.

    Args:
        first_BR: vectors of any length; their directions count.
        second_BR: the partner of row b is row b.
        scale: s, what cosines are multiplied by.
        same_B: (B,) int64; pairs of the same number also belong together, as those that share a text do, so none of
            them is a wrong answer for another. None: only a row and its own partner do.

    Returns:
        A scalar; ln B where all vectors are alike.

    Example:
        >>> contrastive_loss(torch.eye(2), torch.eye(2), 1.0)
        tensor(0.3133)
    """
    logits_BB = scale * functional.normalize(first_BR, dim=1) @ functional.normalize(second_BR, dim=1).T
    rows_B = torch.arange(len(logits_BB), device=logits_BB.device)
    if same_B is not None:
        also_right_BB = (same_B[:, None] == same_B[None, :]) & (rows_B[:, None] != rows_B[None, :])
        logits_BB = logits_BB.masked_fill(also_right_BB, -math.inf)
    return 0.5 * (functional.cross_entropy(logits_BB, rows_B) + functional.cross_entropy(logits_BB.T, rows_B))


class Temperature(nn.Module):
    """The learned scale s = exp(t) of the cosines, from 1/0.07 at the start to 100 at most."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    def forward(self) -> Tensor:
        """s."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp(self) -> None:
        """Keep t between 0 and ln 100; called after each step."""
        self.log_scale.clamp_(0.0, MOST_LOG_SCALE)
