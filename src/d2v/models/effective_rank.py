"""How many directions a set of features really uses."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-7


@torch.no_grad()
def effective_rank(features_ND: Tensor, max_rows: int = 2048) -> float:
    """RankMe: the exponential of the entropy of the normalised singular values (Garrido et al. 2023, eq. 1-2).

    Args:
        features_ND: (N, D) features; rows beyond `max_rows` are thinned out evenly, as the cost grows with N.
        max_rows: rows to look at.

    Returns:
        Between 1 (all features on one line) and min(N, D). NaN if a feature is not finite.
    """
    stride = -(-len(features_ND) // max_rows)
    features_ND = features_ND[::stride].float()
    if not bool(torch.isfinite(features_ND).all()):
        return float("nan")
    singular = torch.linalg.svdvals(features_ND.double() if features_ND.device.type == "cpu" else features_ND)
    share = singular / singular.sum().clamp_min(_EPSILON) + _EPSILON
    return float(torch.exp(-(share * share.log()).sum()))
