"""How much of the targets is nothing but position, and how much of the rest is predicted.

A target that depends on its position alone is learned in a few updates and teaches nothing about the sample.

Shape legend: B samples, T positions, D width, N picked tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def position_share(target_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
    """Share of the targets' variance that the position explains: the variance components of a one-way analysis of
    variance with random effects (Searle, Casella and McCulloch, "Variance Components", section 3.6).

    Positions' means of B samples differ by chance, too. That is subtracted, so the estimate does not depend on B: where
    position explains nothing it lies around 0, on either side.

    Args:
        target_BTD: targets; at least two samples.
        valid_BT: True where there is one; None: everywhere.

    Returns:
        () at most 1; 0 where no position has two targets.
    """
    valid_BT = torch.ones_like(target_BTD[..., 0], dtype=torch.bool) if valid_BT is None else valid_BT
    weight_BT1 = valid_BT.to(target_BTD).unsqueeze(2)
    count_T1 = weight_BT1.sum(dim=0)
    total, held = count_T1.sum(), (count_T1 > 0).sum()
    mean_TD = (target_BTD * weight_BT1).sum(dim=0) / count_T1.clamp_min(1.0)
    grand_D = (mean_TD * count_T1).sum(dim=0) / total
    between = (count_T1 * (mean_TD - grand_D).square()).sum() / (held - 1).clamp_min(1)
    within = (weight_BT1 * (target_BTD - mean_TD).square()).sum() / (total - held).clamp_min(1)
    per_position = (total - count_T1.square().sum() / total) / (held - 1).clamp_min(1)
    of_position = (between - within) / per_position
    return torch.where(total > held, of_position / (of_position + within), 0.0)


@torch.no_grad()
def predicted_beyond_position(
    prediction_ND: Tensor, target_ND: Tensor, index_N: Tensor, samples: int, positions: int
) -> Tensor:
    """Share of the targets' variance that predictions explain once each position's mean is taken out of both.

    Args:
        prediction_ND, target_ND: at some tokens, each at most once.
        index_N: sample * positions + position of each.
        samples, positions: B and T.

    Returns:
        () 1 - squared error / squares of targets, both around their positions' means: 1 is perfect, 0 what a constant
        for each position gets, and below 0 is worse than that.
    """
    target, error = (_around_positions(x, index_N, samples, positions) for x in (target_ND, target_ND - prediction_ND))
    return 1.0 - error.square().sum() / target.square().sum().clamp_min(1e-12)


def _around_positions(x_ND: Tensor, index_N: Tensor, samples: int, positions: int) -> Tensor:
    """(B, T, D) less the mean of each position; 0 where there is no token."""
    x_BTD, is_there_BT1 = spread(x_ND.float(), index_N, samples, positions)
    mean_TD = x_BTD.sum(dim=0) / is_there_BT1.sum(dim=0).clamp_min(1.0)
    return (x_BTD - mean_TD) * is_there_BT1


def spread(x_ND: Tensor, index_N: Tensor, samples: int, positions: int) -> tuple[Tensor, Tensor]:
    """Tokens at their places among zeros (B, T, D), and (B, T, 1) 1 where there is one."""
    x = x_ND.new_zeros(samples * positions, x_ND.shape[1])
    is_there = x_ND.new_zeros(samples * positions, 1)
    x[index_N] = x_ND
    is_there[index_N] = 1.0
    return x.view(samples, positions, -1), is_there.view(samples, positions, 1)
