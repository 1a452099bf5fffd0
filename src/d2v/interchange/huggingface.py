"""Encoders from transformers' folders: Data2VecAudio, Data2VecText and Data2VecVision with or without a head, and our
own exports of data2vec 2.0. transformers itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from d2v.config import current_names, parse
from d2v.errors import CheckpointError
from d2v.interchange.huggingface_audio import AUDIO, SEES_PADDING
from d2v.interchange.huggingface_names import Architecture
from d2v.interchange.huggingface_text import TEXT
from d2v.interchange.huggingface_vision import VISION
from d2v.interchange.imported import Imported
from d2v.interchange.pickled import no_download, unpickle
from d2v.interchange.weights import without_wrappers
from d2v.modalities import registry

ARCHITECTURES: dict[str, Architecture] = {one.kind: one for one in (AUDIO, TEXT, VISION)}
"""By transformers' `model_type`."""
OWN = "d2v-"
"""What the `model_type` of our exports of data2vec 2.0 begins with; the modality follows."""
PREFIXES = ("data2vec_audio.", "data2vec_text.", "data2vec_vision.")
NOT_ENCODER = ("masked_spec_embed", "embeddings.mask_token", "pooler.", "adapter.")
"""Weights of a base model that an encoder here does not have."""
REBUILT = ("embeddings.position_ids", "relative_position_index")
"""Tables that old files store and that follow from the sizes."""

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""How raw items become inputs, alone or as a part of what a processor does."""
PARTS = ("feature_extractor", "image_processor")
"""Of a processor: what prepares recordings or images."""


def import_huggingface(folder: Path) -> Imported:
    """The encoder of a transformers folder, with the head's parameters apart.

    Args:
        folder: with config.json and model.safetensors or pytorch_model.bin.

    Raises:
        CheckpointError: not such a folder, or a model with parts that have no counterpart here.
    """
    config, preprocessor = read_json(folder / "config.json"), _preprocessor(folder)
    kind = config.get("model_type")
    if kind in [OWN + name for name in registry.MODALITIES]:
        return replace(_own(kind.removeprefix(OWN), folder, config), preprocessor=preprocessor)
    if kind not in ARCHITECTURES:
        raise CheckpointError(
            f"{folder} holds a model of the type {kind!r}: what is read is {', '.join(ARCHITECTURES)} and our own "
            "exports"
        )
    modality = ARCHITECTURES[kind].modality
    theirs, head, unused = _parts(without_wrappers(_weights(folder)))
    sees_padding = bool(preprocessor) and not preprocessor.get("return_attention_mask", False)
    state, recipe, notes = ARCHITECTURES[kind].read(theirs, config | {SEES_PADDING: sees_padding})
    return Imported(
        modality,
        parse(registry.get(modality).train_config, recipe),
        state,
        head=head,
        about=_class_names(config if head else {}),
        unused=unused,
        notes=notes,
        settings=config,
        preprocessor=preprocessor,
    )


def _preprocessor(folder: Path) -> dict[str, Any]:
    """What a folder says of its items; empty if it says nothing."""
    if (folder / PREPROCESSOR).is_file():
        return read_json(folder / PREPROCESSOR)
    whole = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    return next((whole[part] for part in PARTS if isinstance(whole.get(part), dict)), {})


def _parts(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], tuple[str, ...]]:
    """(the base model's parameters without a prefix, all others, names of what is rebuilt). In a model with a head the
    base model's parameters have a prefix."""
    prefix = next((p for p in PREFIXES for name in weights if name.startswith(p)), "")
    base, head, unused = {}, {}, []
    for name, value in weights.items():
        inner = name.removeprefix(prefix)
        if inner.endswith(REBUILT):
            unused.append(name)
        elif not name.startswith(prefix) or inner.startswith(NOT_ENCODER):
            head[inner] = value
        else:
            base[inner] = value
    return base, head, tuple(unused)


def _own(modality: str, folder: Path, config: Mapping[str, Any]) -> Imported:
    """Our export of a data2vec 2.0 encoder, whose parameters have our names."""
    kind = registry.get(modality).train_config
    recipe = parse(kind, current_names(kind, config["d2v_recipe"]))
    return Imported(modality, recipe, without_wrappers(_weights(folder)), about=_class_names({}))


def _class_names(config: Mapping[str, Any]) -> dict[str, Any]:
    labels = config.get("id2label") or {}
    return {"class_names": [labels[key] for key in sorted(labels, key=int)]}


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by name, from one file or from the parts that an index names."""
    for name, read in (("model.safetensors", load_file), ("pytorch_model.bin", unpickle)):
        index = folder / f"{name}.index.json"
        files = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else [name]
        if all((folder / file).is_file() for file in files):
            for file in files if read is load_file else ():
                if reason := no_download(folder / file):
                    raise CheckpointError(f"{folder / file} {reason}")
            try:
                parts = [read(folder / file) for file in files]
            except SafetensorError as error:
                raise CheckpointError(f"{folder / name} cannot be read ({error}): check the download") from error
            return {key: value for part in parts for key, value in part.items()}
    raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin: give a folder with weights")


def read_json(path: Path) -> dict[str, Any]:
    """A file of settings. Raises CheckpointError if it is none."""
    if path.is_file() and (reason := no_download(path, may_be_json=True)):
        raise CheckpointError(f"{path} {reason}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): give a folder as transformers saves it") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: give a folder as transformers saves it")
    return content
