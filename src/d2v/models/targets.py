"""Teacher activations to regression targets, and the regression loss (data2vec section 3.3 and 3.4).

Shape legend: B batch, T tokens, D width, N regressed positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.config import LossConfig, TargetConfig
from d2v.models.masking import is_padding

EPS = 1e-5


def batch_norm(x_BTD: Tensor, valid_BT1: Tensor | None = None) -> Tensor:
    """Zero mean, unit variance of every channel over batch and tokens (those that are `valid_BT1`)."""
    return _standardise(x_BTD, (0, 1), valid_BT1)


def instance_norm(x_BTD: Tensor, valid_BT1: Tensor | None = None) -> Tensor:
    """Zero mean, unit variance of every channel over the tokens of its sample (those that are `valid_BT1`)."""
    return _standardise(x_BTD, (1,), valid_BT1)


def layer_norm(x_BTD: Tensor, valid_BT1: Tensor | None = None) -> Tensor:
    """Zero mean, unit variance of every token over its channels."""
    return F.layer_norm(x_BTD, x_BTD.shape[-1:], eps=EPS)


def centre_positions(x_BTD: Tensor, valid_BT1: Tensor | None = None) -> Tensor:
    """Zero mean of every channel at every position over the batch (over the samples that are `valid_BT1` there). It is
    not in the papers."""
    if valid_BT1 is None:
        return x_BTD - x_BTD.mean(dim=0, keepdim=True)
    weight = valid_BT1.to(x_BTD.dtype)
    return x_BTD - (x_BTD * weight).sum(dim=0, keepdim=True) / weight.sum(dim=0, keepdim=True).clamp_min(1.0)


def _standardise(x: Tensor, dims: tuple[int, ...], valid_BT1: Tensor | None) -> Tensor:
    if valid_BT1 is None:
        centred = x - x.mean(dims, keepdim=True)  # 16x faster on a CPU than torch.var_mean over these axes
        return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + EPS)
    weight = valid_BT1.to(x.dtype)
    weight = weight / weight.sum(dims, keepdim=True)
    centred = x - (x * weight).sum(dims, keepdim=True)
    return centred * torch.rsqrt((centred.square() * weight).sum(dims, keepdim=True) + EPS)


_NORMS = {"batch": batch_norm, "instance": instance_norm, "layer": layer_norm, "position": centre_positions}
_LAYER_ORDER = ("batch", "instance", "layer")
_AVERAGE_ORDER = ("layer", "instance", "position")


@torch.no_grad()
def make_targets(activations: Sequence[Tensor], config: TargetConfig, lengths: Tensor | None = None) -> Tensor:
    """Normalise the last `top_k_layers` activations, average them, normalise the average.

    Args:
        activations: (B, T, D) of every trunk block, first to last, without extra tokens.
        config: which layers and norms.
        lengths: (B,) tokens that are not padding, over which statistics are taken; None: all.

    Returns:
        (B, T, D) in float32, or float64 if the activations are; at padding without meaning.
    """
    valid_BT1 = None if lengths is None else ~is_padding(lengths, activations[-1].shape[1]).unsqueeze(-1)
    wide = torch.promote_types(activations[-1].dtype, torch.float32)
    average: Tensor | None = None
    for x_BTD in activations[-config.top_k_layers :]:
        y_BTD = x_BTD.to(wide)
        for name in _LAYER_ORDER:
            if name in config.layer_norms:
                y_BTD = _NORMS[name](y_BTD, valid_BT1)
        average = y_BTD if average is None else average + y_BTD
    if average is None:
        raise ValueError("make_targets needs at least one activation")
    average = average / min(config.top_k_layers, len(activations))
    for name in _AVERAGE_ORDER:
        if name in config.average_norms:
            average = _NORMS[name](average, valid_BT1)
    return average


def regression_loss(prediction: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Sum over all positions and channels of the scaled element loss (data2vec section 3.4).

    Args:
        prediction, target: (..., D).
        config: `beta` 0 gives (x - y)^2; above 0 smooth L1, (x - y)^2 / (2 beta) up to beta and |x - y| - beta / 2
            beyond it.

    Returns:
        () in at least float32; divide it by the number of masked positions.
    """
    return _distance(prediction, target, config, "sum") * loss_scale(config, prediction.shape[-1])


def token_losses(prediction_ND: Tensor, target_ND: Tensor, config: LossConfig) -> Tensor:
    """(N,) the terms that `regression_loss` is the sum of."""
    element_ND = _distance(prediction_ND, target_ND, config, "none")
    return element_ND.sum(dim=1) * loss_scale(config, prediction_ND.shape[1])


def _distance(prediction: Tensor, target: Tensor, config: LossConfig, reduction: str) -> Tensor:
    wide = torch.promote_types(prediction.dtype, torch.float32)
    prediction, target = prediction.to(wide), target.to(wide)
    if config.beta == 0.0:
        return F.mse_loss(prediction, target, reduction=reduction)
    return F.smooth_l1_loss(prediction, target, reduction=reduction, beta=config.beta)


def loss_scale(config: LossConfig, width: int) -> float:
    """The factor on the sum over `width` channels."""
    if config.scale == "rsqrt_width":
        return width**-0.5
    return 1.0 / width if config.scale == "inverse_width" else float(config.scale)


def mean_std(x_ND: Tensor) -> Tensor:
    """Mean over channels of the standard deviation over positions: the collapse statistic."""
    x_ND = x_ND.float()
    variance = (x_ND - x_ND.mean(dim=0)).square().sum(dim=0) / max(len(x_ND) - 1, 1)
    return torch.sqrt(variance + 1e-6).mean()
