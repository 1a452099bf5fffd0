"""Encoders as folders that transformers loads.

data2vec 1.0 becomes Data2VecAudio, Data2VecText or Data2VecVision. transformers has no data2vec 2.0 (its issues 23069
and 30805), so such a folder carries its own modelling code, which `trust_remote_code=True` runs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from d2v.errors import ConfigError
from d2v.interchange.huggingface import ARCHITECTURES, OWN
from d2v.interchange.huggingface_names import Architecture
from d2v.interchange.huggingface_text import NEW_POOLER
from d2v.interchange.imported import load_head, plain
from d2v.modalities import registry
from d2v.model_folder import load_encoder

MODELING = "modeling_d2v.py"
TEMPLATES = ("configuration_d2v.py", MODELING)
ELSEWHERE = "export to onnx or torch-export"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Head:
    """A head as transformers has it.

    Attributes:
        kind: end of the class's name, such as `ForCTC`.
        weights: under transformers' names, without the base model's prefix; `pooler.` belongs to the base model.
        config: what config.json says of it.
        files: further JSON files.
    """

    kind: str
    weights: Mapping[str, Tensor]
    config: Mapping[str, Any]
    files: Mapping[str, Any] = field(default_factory=dict)


def export_huggingface(
    folder: Path, target: Path, teacher: bool = False, finetuned: Head | None = None
) -> tuple[str, ...]:
    """Write a model folder's encoder for `transformers.AutoModel.from_pretrained`.

    Args:
        folder: a model folder.
        target: created if it is not there.
        teacher: export the teacher's encoder, not the student's.
        tuned: a fine-tuned model's head, for the class that has one.

    Returns:
        Notes for the user, a sentence each.

    Raises:
        ConfigError: transformers' class cannot hold this encoder; the message names why.
    """
    encoder, config = load_encoder(folder, teacher)
    settings = config["recipe"]["encoder"]
    if settings.get("layout") == "data2vec2":
        _write_own(target, config, plain(encoder.state_dict()))
        notes: tuple[str, ...] = ("load it with trust_remote_code=True: transformers has no data2vec 2.0 of its own",)
    else:
        theirs = architecture_of(config)
        _refuse_variants(config)
        written, state, notes = theirs.write(settings, plain(encoder.state_dict()), load_head(folder))
        model = _Model(theirs.kind, f"{theirs.name}Model", written, state)
        target.mkdir(parents=True, exist_ok=True)
        _save(target, model if finetuned is None else _with_head(model, finetuned))
        for name, content in (finetuned.files if finetuned else {}).items():
            _write_json(target / name, content)
        notes = notes if finetuned is None else tuple(note for note in notes if note != NEW_POOLER)
    told = registry.get(config["modality"]).preprocessing(config)
    for name, text in told.files.items():
        (target / name).write_text(text)
    return notes + told.notes


def architecture_of(about: Mapping[str, Any]) -> Architecture:
    """transformers' classes for an encoder of data2vec 1.0. Raises ConfigError if there are none."""
    found = [one for one in ARCHITECTURES.values() if one.modality == about["modality"]]
    if not found:
        raise ConfigError(f"transformers has no class for {about['modality']} encoders: {ELSEWHERE}")
    if about["recipe"]["encoder"].get("layout") == "vit":
        raise ConfigError(f"what is written for transformers is data2vec 1.0's encoder, and this is a ViT: {ELSEWHERE}")
    return found[0]


VARIANTS = (
    "pre_norm",
    "fixed_positions",
    "alibi",
    "extra_tokens",
    "channels",
    "image_width_px",
    "position_norm",
    "stem_norm",
    "stem_bias",
)
"""Settings of encoders that some models of the reference have otherwise than by default."""


def _refuse_variants(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for what neither transformers' classes nor the code that goes with an export have."""
    given = config["recipe"]["encoder"]
    block = registry.get(config["modality"]).train_config.model_fields["encoder"].annotation
    usual = {name: field.default for name, field in getattr(block, "model_fields", {}).items() if name in VARIANTS}
    others = [f"{name}={given[name]}" for name, value in usual.items() if given.get(name, value) != value]
    if others:
        raise ConfigError(f"transformers has no encoder with {', '.join(others)}: {ELSEWHERE}")


def _write_own(target: Path, config: Mapping[str, Any], state: dict[str, Tensor]) -> None:
    modality, recipe = config["modality"], config["recipe"]
    name = f"D2v{modality.capitalize()}"
    if f"class {name}Model(" not in (resources.files("d2v.interchange.templates") / MODELING).read_text():
        raise ConfigError(f"the code that goes with an export has no encoder of {modality}: {ELSEWHERE}")
    _refuse_variants(config)
    target.mkdir(parents=True, exist_ok=True)
    save_file(state, target / _WEIGHTS, {"format": "pt"})
    for file in TEMPLATES:
        with resources.as_file(resources.files("d2v.interchange.templates") / file) as template:
            shutil.copyfile(template, target / file)
    _write_json(
        target / "config.json",
        {
            "model_type": f"{OWN}{modality}",
            "architectures": [f"{name}Model"],
            "auto_map": {"AutoConfig": f"configuration_d2v.{name}Config", "AutoModel": f"modeling_d2v.{name}Model"},
            "encoder": recipe["encoder"],
            "d2v_recipe": recipe,  # transformers keeps it, and an import here takes it back
            "dtype": "float32",
        },
    )


# ------------------------------------------------------------------------------------------ data2vec 1.0


@dataclass(frozen=True)
class _Model:
    """A class of transformers with what its folder holds."""

    kind: str
    name: str
    config: Mapping[str, Any]
    state: dict[str, Tensor]


def _with_head(model: _Model, head: Head) -> _Model:
    """The class that has the head: the base model's weights get a prefix there."""
    prefix = model.kind.replace("-", "_") + "."
    poolers = {name: value for name, value in head.weights.items() if name.startswith("pooler.")}
    base = {name: value for name, value in model.state.items() if not name.startswith("pooler.")} | poolers
    state = {prefix + name: value for name, value in base.items()}
    state |= {name: value for name, value in head.weights.items() if name not in poolers}
    name = model.name.removesuffix("Model") + head.kind
    return _Model(model.kind, name, {**model.config, **head.config}, plain(state))


def _save(target: Path, model: _Model) -> None:
    save_file(model.state, target / _WEIGHTS, {"format": "pt"})
    about = {"model_type": model.kind, "architectures": [model.name], "dtype": "float32"}
    _write_json(target / "config.json", about | dict(model.config))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
