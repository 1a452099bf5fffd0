"""Features of a frozen encoder, in batches.

Shapes: n items, T tokens, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from d2v.evaluation.probes import check_finite
from d2v.models.encoder import Encoder


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every submodule is in the mode that it had (they may differ)."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def extract_features(encoder: Encoder, inputs: Tensor, batch_size: int = 256) -> Tensor:
    """Mean-pooled features (n, D), float32 on the CPU.

    Inputs move to the encoder's device (and dtype, if they are floating point) batch by batch; the encoder's
    training mode and the global random state are left as they were.

    Args:
        encoder: has `features(inputs)`.
        inputs: (n, ...) as the modality's probe set holds them.

    Raises:
        CollapseError: a feature is NaN or infinite.
    """
    return _extract(encoder, encoder.features, inputs, batch_size)


def extract_tokens(encoder: Encoder, inputs: Tensor, batch_size: int = 256) -> Tensor:
    """Token features (n, T, D), float32 on the CPU; else as `extract_features`."""
    return _extract(encoder, encoder.token_features, inputs, batch_size)


def _extract(encoder: Encoder, of: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int) -> Tensor:
    like = next(encoder.parameters())
    parts = []
    with evaluating(encoder), torch.inference_mode():
        for batch in inputs.split(batch_size):
            there = batch.to(like.device, like.dtype if batch.is_floating_point() else None)
            parts.append(of(there).float().cpu())
    # torch.cat outside inference mode gives an ordinary tensor, which callers may use in autograd.
    features = torch.cat(parts)
    check_finite(features, "the encoder")
    return features
