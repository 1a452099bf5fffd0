"""Operators that compute what torch's do, in less time or memory."""

from d2v.models.ops.attention import attention
from d2v.models.ops.convolution import StridedConv1d, TokenConv1d, TokenConv2d
from d2v.models.ops.dropout import Dropout, dropout
from d2v.models.ops.gelu import GeluLinear
from d2v.models.ops.norm import LayerNorm, LayerNormGelu, norm_gelu

__all__ = [
    "Dropout",
    "GeluLinear",
    "LayerNorm",
    "LayerNormGelu",
    "StridedConv1d",
    "TokenConv1d",
    "TokenConv2d",
    "attention",
    "dropout",
    "norm_gelu",
]
