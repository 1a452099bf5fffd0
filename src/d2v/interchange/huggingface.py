"""Encoders from transformers' folders: Data2VecAudio, Data2VecText and Data2VecVision with or without a head, and our
own exports of data2vec 2.0. transformers itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from d2v.config import current_names, parse
from d2v.errors import CheckpointError
from d2v.interchange import fairseq_speech, fairseq_text, fairseq_vision
from d2v.interchange.huggingface_names import NAMES, join_attention, renamed
from d2v.interchange.imported import Imported
from d2v.interchange.pickled import unpickle
from d2v.modalities import registry
from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.text.tokenizer import PAD

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
MODALITIES = {"data2vec-audio": "speech", "data2vec-text": "text", "data2vec-vision": "vision"}
"""transformers' `model_type` -> ours."""
OWN_TYPES = {"d2v-speech": "speech", "d2v-text": "text", "d2v-vision": "vision"}
"""Those of our exports of data2vec 2.0."""
PREFIXES = ("data2vec_audio.", "data2vec_text.", "data2vec_vision.")
NOT_ENCODER = ("masked_spec_embed", "embeddings.mask_token", "pooler.", "adapter.")
"""Weights of a base model that an encoder here does not have."""
REBUILT = ("embeddings.position_ids", "relative_position_index")
"""Tables that old files store and that follow from the sizes."""

Changes = tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]
"""(parameters of the encoder in our names, what its recipe says beyond the sizes, notes)."""


def import_huggingface(folder: Path) -> Imported:
    """The encoder of a transformers folder, with the head's parameters apart.

    Args:
        folder: with config.json and model.safetensors or pytorch_model.bin; preprocessor_config.json tells how images
            are normalised.

    Raises:
        CheckpointError: not such a folder, or a model with parts that have no counterpart here.
    """
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind in OWN_TYPES:
        return _own(OWN_TYPES[kind], folder, config)
    if kind not in MODALITIES:
        raise CheckpointError(
            f"{folder} holds a model of the type {kind!r}: what is read is {', '.join(MODALITIES)} and our own exports"
        )
    modality = MODALITIES[kind]
    theirs, head, unused = _parts(_weights(folder))
    state, recipe, notes = _READERS[modality](theirs, config)
    about, more = _about(modality, folder, config if head else {})
    return Imported(
        modality,
        parse(registry.get(modality).train_config, recipe),
        state,
        head=head,
        about=about,
        unused=unused,
        notes=notes + more,
        settings=config,
    )


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


def _ours(modality: str, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our names. A weight that is not in the table keeps its name, and loading the state reports it."""
    names = {name: renamed(name, NAMES[modality], "ours") or name for name in theirs}
    return join_attention({new: theirs[name] for name, new in names.items()})


def _recipe(
    make: Callable[[Mapping[str, Tensor], Mapping[str, Any]], dict[str, Any]],
    state: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    encoder: Mapping[str, Any],
) -> dict[str, Any]:
    """The recipe that a reference checkpoint of the same model has, with some of the encoder's settings changed."""
    try:
        recipe = make({f"student.{name}": value for name, value in state.items()}, settings)
    except KeyError as error:
        missing = str(error.args[0]).removeprefix("student.")
        raise CheckpointError(f"the file lacks parameters that its layout has, such as our {missing}") from error
    recipe["encoder"] |= encoder
    return recipe


def _refuse(config: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise CheckpointError that names every setting with a value that our encoder has no counterpart for."""
    other = [f"{key}={config[key]!r}" for key, values in allowed.items() if config.get(key, values[0]) not in values]
    if other:
        raise CheckpointError(f"the model has {', '.join(other)}, for which there is nothing here: it cannot be read")


def _speech(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Changes:
    _refuse(
        config,
        {
            "conv_bias": (False,),
            "feat_extract_activation": ("gelu",),
            "hidden_act": ("gelu",),
            "add_adapter": (False,),
            "layer_norm_eps": (1e-5,),
        },
    )
    state = _ours("speech", theirs)
    convs = zip(config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True)
    settings = {
        "conv_feature_layers": " + ".join(f"[({width}, {kernel}, {stride})]" for width, kernel, stride in convs),
        "encoder_attention_heads": config["num_attention_heads"],
        "dropout": config.get("hidden_dropout", 0.1),
        "attention_dropout": config.get("attention_dropout", 0.1),
        "encoder_layerdrop": config.get("layerdrop", 0.0),
    }
    padding = {"padding": config.get("d2v_padding", "reference")}  # what transformers does with padding
    return state, _recipe(fairseq_speech.v1_recipe, state, settings, padding), ()


def _text(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Changes:
    _refuse(config, {"hidden_act": ("gelu",), "pad_token_id": (PAD,), "is_decoder": (False,)})
    types = theirs.pop("embeddings.token_type_embeddings.weight", None)
    state, notes = _ours("text", theirs), []
    positions = "stem.placing.positions.weight"
    if types is not None and positions in state:
        if types[0].any():
            rows = torch.arange(len(state[positions])).unsqueeze(1) > PAD  # earlier rows are never read
            state[positions] = state[positions] + types[0] * rows
            notes.append("the token type embedding, which every token has, was added to the position embeddings")
        if len(types) > 1:
            notes.append(f"{len(types) - 1} further token types are left out: there are none here")
    transformer = {
        "encoder": {"attention_heads": config["num_attention_heads"]},
        "dropout": config.get("hidden_dropout_prob", 0.1),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.1),
    }
    eps = {"norm_eps": config.get("layer_norm_eps", 1e-12)}
    return state, _recipe(fairseq_text.v1_recipe, state, {"transformer": transformer}, eps), tuple(notes)


def _vision(theirs: dict[str, Tensor], config: Mapping[str, Any]) -> Changes:
    _refuse(config, {"hidden_act": ("gelu",), "use_absolute_position_embeddings": (False,), "num_channels": (3,)})
    if config.get("use_relative_position_bias") == config.get("use_shared_relative_position_bias"):
        raise CheckpointError(
            "the model has no relative position bias, or both a shared one and one of each block: it cannot be read"
        )
    state = _ours("vision", theirs)
    encoder = {
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.0),
        "drop_path": config.get("drop_path_rate", 0.1),
    }
    settings = {"layer_scale_init_value": config.get("layer_scale_init_value", 0.1)}

    def make(student: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
        return fairseq_vision.v1_recipe(student, settings, ported=False)

    return state, _recipe(make, state, settings, encoder), ()


_READERS: dict[str, Callable[[dict[str, Tensor], Mapping[str, Any]], Changes]] = {
    "speech": _speech,
    "text": _text,
    "vision": _vision,
}


def _own(modality: str, folder: Path, config: Mapping[str, Any]) -> Imported:
    """Our export of a data2vec 2.0 encoder, whose parameters have our names."""
    kind = registry.get(modality).train_config
    recipe = parse(kind, current_names(kind, config["d2v_recipe"]))
    about, notes = _about(modality, folder, {})
    return Imported(modality, recipe, _weights(folder), about=about, notes=notes)


def _about(modality: str, folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(what feeds the encoder, notes)."""
    labels = config.get("id2label") or {}
    about: dict[str, Any] = {"class_names": [labels[key] for key in sorted(labels, key=int)]}
    if modality == "speech":
        return about | {"rate_hz": RATE_HZ}, ()
    if modality == "text":
        return about, ()
    preprocessor = folder / "preprocessor_config.json"
    if not preprocessor.is_file():
        note = f"{folder} does not say how images are normalised: ImageNet's mean and deviation are taken"
        return about | IMAGENET, (note,)
    images = read_json(preprocessor)
    return about | {"mean": images["image_mean"], "std": images["image_std"]}, ()


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, by name, from one file or from the parts that an index names."""
    for name, read in (("model.safetensors", load_file), ("pytorch_model.bin", unpickle)):
        index = folder / f"{name}.index.json"
        files = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else [name]
        if all((folder / file).is_file() for file in files):
            try:
                parts = [read(folder / file) for file in files]
            except SafetensorError as error:
                raise CheckpointError(f"{folder / name} cannot be read ({error}): check the download") from error
            return {key: value for part in parts for key, value in part.items()}
    raise CheckpointError(f"{folder} holds neither model.safetensors nor pytorch_model.bin: give a folder with weights")


def read_json(path: Path) -> dict[str, Any]:
    """A file of settings. Raises CheckpointError if it is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): give a folder as transformers saves it") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: give a folder as transformers saves it")
    return content
