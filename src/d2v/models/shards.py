"""Parameters that may be whole or, under ZeRO-3, this rank's shard (DeepSpeed keeps it in `ds_tensor`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

WeightsOf = Callable[[nn.Module, Callable[[str], bool]], dict[str, Tensor]]
"""(module, which names) -> whole weights on the CPU that share no memory; empty in a process that is not to write,
which must ask as well."""


def held(parameter: nn.Parameter) -> Tensor:
    """What this rank holds of a parameter: its flat shard (with padding at the end of the last one) or all of it."""
    shard: Tensor = getattr(parameter, "ds_tensor", parameter)
    return shard.data


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """The parameter's shape, whoever holds its parts."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def count(parameters: Iterable[nn.Parameter]) -> int:
    """Elements of all of them, whoever holds their parts."""
    return sum(math.prod(whole_shape(parameter)) for parameter in parameters)


def count_matmul_parameters(parameters: Iterable[nn.Parameter]) -> int:
    """Elements of matrices and kernels, which each token is multiplied by; vectors are left out."""
    return count(parameter for parameter in parameters if len(whole_shape(parameter)) > 1)
