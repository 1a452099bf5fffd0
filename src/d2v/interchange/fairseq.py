"""Checkpoints of Meta's reference implementations, without fairseq.

A fairseq file is a pickle of plain containers, tensors, `argparse.Namespace` and OmegaConf nodes. Only those are
let through; anything else in the pickle is refused before it runs.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import omegaconf
import torch
from omegaconf.base import ContainerMetadata, Metadata
from torch import Tensor

from d2v.errors import CheckpointError
from d2v.interchange import fairseq_speech, fairseq_text, fairseq_vision
from d2v.interchange.fairseq_names import Converted, Reference
from d2v.interchange.folder import load_state
from d2v.modalities import registry
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective

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
)
"""Every type that a reference checkpoint may hold beside tensors."""

CONVERTERS = tuple(
    convert
    for layout in (fairseq_vision, fairseq_speech, fairseq_text)
    for convert in (layout.convert_v2, layout.convert_v1)
)
"""Each turns one layout into our names and returns None for all others."""


def read(path: Path) -> Reference:
    """Read a fairseq, BEiT or DeepSpeed container of the reference.

    Raises:
        CheckpointError: the file is not there, damaged, or holds objects outside the allow-list.
    """
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused, because it holds more than tensors and settings: {error}") from error
    except (OSError, RuntimeError, EOFError, LookupError, ValueError) as error:  # what damaged pickles end in
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({error!r}): check the download") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("model", content.get("module")), Mapping):
        raise CheckpointError(f"{path} has no `model` or `module` part: it is not a checkpoint of the reference")
    return _plain_reference(content)


def _plain_reference(content: Mapping[str, Any]) -> Reference:
    model = content.get("model", content.get("module"))
    nested = {name: value for name, value in model.items() if isinstance(value, Mapping)}
    ema = next((value for name, value in nested.items() if name.endswith("_ema")), content.get("model_ema") or {})
    tensors = {name: value for name, value in model.items() if isinstance(value, Tensor)}
    return Reference(tensors, dict(ema), _model_config(content.get("cfg")))


def _model_config(cfg: Any) -> dict[str, Any]:
    """The `model` block of a stored configuration as plain values."""
    if isinstance(cfg, omegaconf.Container):
        cfg = omegaconf.OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    if isinstance(model, argparse.Namespace):
        model = vars(model)
    return dict(model) if isinstance(model, Mapping) else {}


def load_reference(path: Path) -> tuple[Objective, Converted]:
    """Rebuild a reference model (student, teacher, decoder or head) from its checkpoint.

    The layout is recognised by its parameter names and the sizes are read from the tensors.

    Raises:
        CheckpointError: unreadable, unknown layout, or keys that do not fit (all of them named).
    """
    reference = read(path)
    for convert in CONVERTERS:
        try:
            converted = convert(reference)
        except KeyError as error:
            raise CheckpointError(f"{path} lacks parameters that its layout has, such as our {error}") from error
        if converted is not None:
            objective = build_objective(registry.get(converted.modality), converted.recipe)
            load_state(objective, converted.state, str(path))
            return objective, converted
    some = ", ".join(list(reference.model)[:4])
    raise CheckpointError(f"{path} has a layout that is not known (its keys begin {some}): see docs for what is read")
