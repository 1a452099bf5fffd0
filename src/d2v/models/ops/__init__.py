"""Operators that compute what torch's do, in less time or memory."""

from d2v.models.ops.attention import attention
from d2v.models.ops.convolution import StridedConv1d, TokenConv1d, TokenConv2d
from d2v.models.ops.dropout import Dropout, dropout
from d2v.models.ops.gelu import GeluLinear
from d2v.models.ops.linear import Linear, linear
from d2v.models.ops.norm import LayerNorm, LayerNormGelu, add_norm_gelu, norm_gelu

__all__ = [
    "Dropout",
    "GeluLinear",
    "LayerNorm",
    "LayerNormGelu",
    "Linear",
    "StridedConv1d",
    "TokenConv1d",
    "TokenConv2d",
    "add_norm_gelu",
    "attention",
    "dropout",
    "linear",
    "norm_gelu",
]
