"""Features of a frozen encoder, in batches.

Shapes: n items, T tokens, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2v.data.batch import Inputs
from d2v.evaluation.batches import BatchSize, in_repeating_shape
from d2v.evaluation.probes import check_finite
from d2v.models.encoder import Encoder
from d2v.training.matmul import inference


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every submodule is in the mode that it had (they may differ)."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, training in modes:
            child.training = training


def extract_features(
    encoder: Encoder, inputs: Inputs, batch_size: int = 256, note: Callable[[int], object] | None = None
) -> Tensor:
    """Mean-pooled features (n, D), float32 on the CPU.

    Inputs move to the encoder's device (and dtype, if they are floating point) batch by batch; the encoder's
    training mode and the global random state are left as they were.

    Args:
        encoder: has `features(inputs, lengths)`.
        inputs: n items as the modality's probe set holds them.
        batch_size: items at a time.
        note: told after each batch how many items it had, for progress.

    Raises:
        CollapseError: a feature is NaN or infinite.
    """
    return extract(encoder, encoder.features, inputs, batch_size, note)


def extract(
    encoder: Encoder,
    of: Callable[[Tensor, Tensor | None], Tensor],
    inputs: Inputs,
    batch_size: int = 256,
    note: Callable[[int], object] | None = None,
) -> Tensor:
    """(n, ...) what `of` makes of (values, lengths) of batches, a row an item; else as `extract_features`."""
    order, batches = _extract(encoder, of, inputs, batch_size, note)
    return torch.cat(batches)[order.argsort()]


def extract_tokens(encoder: Encoder, inputs: Inputs, batch_size: int = 256) -> Tensor:
    """Token features (n, T, D), float32 on the CPU, without meaning at padding; else as `extract_features`."""
    order, batches = _extract(encoder, encoder, inputs, batch_size)
    longest = max(batch.shape[1] for batch in batches)
    whole = torch.cat([functional.pad(batch, (0, 0, 0, longest - batch.shape[1])) for batch in batches])
    return whole[order.argsort()]


def _extract(
    encoder: Encoder,
    of: Callable[[Tensor, Tensor | None], Tensor],
    inputs: Inputs,
    batch_size: int,
    note: Callable[[int], object] | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """The order in which items were taken, alike lengths together so that little padding is computed, and the features
    of each batch. Joined outside inference mode these are ordinary tensors, fit for autograd."""
    like = next(encoder.parameters())
    parts = BatchSize.on(like.device, batch_size).by_length(_tokens(encoder, inputs))
    batches = []
    for rows in map(torch.tensor, parts):
        with evaluating(encoder), inference(like):
            there = in_repeating_shape(inputs.select(rows).to(like), encoder.stem)
            features = of(there.values, there.lengths).float().cpu()
        check_finite(features, "the encoder")
        batches.append(features)
        if note is not None:
            note(len(rows))
    return torch.tensor([row for rows in parts for row in rows], dtype=torch.int64), batches


def _tokens(encoder: Encoder, inputs: Inputs) -> list[int]:
    """How many each item becomes."""
    lengths = encoder.token_lengths(inputs.lengths)
    return (
        [encoder.stem.num_tokens(inputs.select(torch.arange(min(len(inputs), 1))).values)] * len(inputs)
        if lengths is None
        else lengths.tolist()
    )
