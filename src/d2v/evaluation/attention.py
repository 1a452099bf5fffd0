"""Where an encoder looks: the attention of its last block.

Shapes: n items, T tokens, E extra tokens, H heads, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from d2v.data.batch import Inputs
from d2v.errors import ConfigError
from d2v.evaluation.features import evaluating
from d2v.models.blocks import Attention
from d2v.models.encoder import Encoder


@torch.inference_mode()
def attention_received(encoder: Encoder, inputs: Inputs) -> Tensor:
    """(n, T) how much of the attention of the last block each token gets, mean over heads; a row's tokens add up to 1.

    Extra tokens such as CLS ask where there are some, else all tokens that are not padding.

    Args:
        encoder: of any modality.
        inputs: n items.

    Raises:
        ConfigError: the last block has no attention.
    """
    layers = [layer for layer in encoder.blocks[-1].modules() if isinstance(layer, Attention)]
    if not layers:
        raise ConfigError("the encoder's last block has no attention to show: leave the maps out")
    seen: list[tuple[Tensor, Tensor | None]] = []

    def keep(_: Any, given: tuple[Any, ...]) -> None:
        seen.append((given[0], given[1] if len(given) > 1 else None))

    hook = layers[-1].register_forward_pre_hook(keep)
    there = inputs.to(next(encoder.parameters()))
    try:
        with evaluating(encoder):
            encoder(there.values, there.lengths)
    finally:
        hook.remove()
    (x_BTD, bias) = seen[-1]
    weights_BTT = _weights(layers[-1], x_BTD, bias)
    extra = encoder.num_extra
    if extra:
        received = weights_BTT[:, :extra, extra:].mean(dim=1)
    else:
        lengths = encoder.token_lengths(there.lengths)
        tokens = weights_BTT.shape[1]
        whole = torch.full((len(x_BTD),), tokens, device=x_BTD.device) if lengths is None else lengths
        asks = torch.arange(tokens, device=x_BTD.device) < whole[:, None]
        received = (weights_BTT * asks[:, :, None]).sum(dim=1) * asks
    return (received / received.sum(dim=1, keepdim=True).clamp_min(1e-12)).float().cpu()


def _weights(layer: Attention, x_BTD: Tensor, bias: Tensor | None) -> Tensor:
    """(B, E + T, E + T) attention weights, mean over heads."""
    rows, tokens, width = x_BTD.shape
    qkv = F.linear(x_BTD, layer.qkv.weight, layer._qkv_bias())
    q, k, _ = qkv.view(rows, tokens, 3, layer.heads, width // layer.heads).permute(2, 0, 3, 1, 4)
    logits = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    logits = logits if bias is None else logits + bias.to(logits.dtype)
    return logits.float().softmax(dim=-1).mean(dim=1)
