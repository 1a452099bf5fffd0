"""Pickled checkpoints, read without running their code: only tensors, plain containers and settings are let through."""

from __future__ import annotations

import argparse
import collections
import pickle
import typing
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import torch
from omegaconf.base import ContainerMetadata, Metadata

from d2v.errors import CheckpointError

_SCALAR = np._core.multiarray.scalar  # type: ignore[attr-defined]

ALLOWED = (
    argparse.Namespace,
    collections.OrderedDict,
    collections.defaultdict,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.nodes.AnyNode,
    omegaconf.nodes.BooleanNode,
    omegaconf.nodes.EnumNode,
    omegaconf.nodes.FloatNode,
    omegaconf.nodes.IntegerNode,
    omegaconf.nodes.StringNode,
    ContainerMetadata,
    Metadata,
    typing.Any,
    dict,
    list,
    int,
    float,
    str,
    bool,
    _SCALAR,
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
)
"""Every type that a reference checkpoint may hold beside tensors: settings, and numbers such as the best loss."""


def unpickle(path: Path) -> Any:
    """The contents of a `torch.save` file, on the CPU.

    Raises:
        CheckpointError: the file is not there, damaged, or holds objects outside the allow-list.
    """
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused, because it holds more than tensors and settings: {error}") from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError) as error:  # what damaged pickles end in
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error!r}): check the download") from error
