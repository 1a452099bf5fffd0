"""What the converters of transformers' Data2VecAudio, Data2VecText and Data2VecVision share: names of parameters,
sizes, and recipes.

Each table of names is read in both directions; `{}` is a layer's number, and a name that ends in a dot has a weight and
a bias. q, k and v are apart there and one matrix here: `split_attention` and `join_attention` go between the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from d2v.errors import CheckpointError, ConfigError
from d2v.interchange.imported import plain

Pairs = tuple[tuple[str, str], ...]
"""(our prefix, their prefix)."""
Read = tuple[dict[str, Tensor], dict[str, Any], tuple[str, ...]]
"""(parameters of the encoder in our names, what its recipe says beyond the sizes, notes)."""
Written = tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...]]
"""(what config.json says, parameters under transformers' names, notes)."""


@dataclass(frozen=True)
class Architecture:
    """A family of classes of transformers.

    Attributes:
        kind: its `model_type`.
        name: of its classes, without what they end with.
        modality: of the encoders that it holds.
        names: of the parameters.
        read: (their parameters, their config.json) -> our encoder.
        write: (the encoder's block of the recipe, our parameters, what was imported beside the encoder) -> theirs.
    """

    kind: str
    name: str
    modality: str
    names: Pairs
    read: Callable[[dict[str, Tensor], Mapping[str, Any]], Read]
    write: Callable[[Mapping[str, Any], dict[str, Tensor], Mapping[str, Tensor]], Written]


def layers(there: str, parts: dict[str, str]) -> Pairs:
    """Names of all blocks: `there` is where transformers has them, `parts` our name in a block to theirs."""
    return tuple((f"blocks.{{}}.{ours}", f"{there}.{{}}.{theirs}") for ours, theirs in parts.items())


def renamed(name: str, pairs: Pairs, to: Literal["ours", "theirs"]) -> str | None:
    """A parameter's name on the other side; None if the table does not hold it."""
    for ours, theirs in pairs:
        source, target = (theirs, ours) if to == "ours" else (ours, theirs)
        end = r"(weight|bias)$" if source.endswith(".") else "$"
        found = re.match(re.escape(source).replace(r"\{\}", r"(?P<layer>\d+)") + end, name)
        if found:
            layer = found.groupdict().get("layer") or ""
            return target.replace("{}", layer) + (found.groups()[-1] if source.endswith(".") else "")
    return None


def split_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our fused attention, with or without a bias of k, as `.attn.q.`, `.attn.k.` and `.attn.v.` parameters."""
    apart = {}
    for name, value in state.items():
        if ".attn.qkv." in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                apart[name.replace(".attn.qkv.", f".attn.{part}.")] = rows
        else:
            apart[re.sub(r"\.attn\.([qv])_bias$", r".attn.\1.bias", name)] = value
    return apart


def join_attention(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split_attention`. A part that is missing stays missing, for the loading of the state to name."""
    joined = {name: value for name, value in state.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name in (name for name in state if ".attn.q." in name):
        parts = {part: state.get(name.replace(".attn.q.", f".attn.{part}.")) for part in "qkv"}
        present = [value for value in parts.values() if value is not None]
        if len(present) == len(parts):
            joined[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(present)
        elif name.endswith(".bias"):  # BEiT: k has none
            shorter = {f".attn.{part}_bias": value for part, value in parts.items() if value is not None}
            joined |= {name.replace(".attn.q.bias", end): value for end, value in shorter.items()}
    return joined


def our_names(theirs: Mapping[str, Tensor], pairs: Pairs) -> dict[str, Tensor]:
    """Our names. A weight that is not in the table keeps its name, and loading the state reports it."""
    names = {name: renamed(name, pairs, "ours") or name for name in theirs}
    return join_attention({new: theirs[name] for name, new in names.items()})


def recipe_of(
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


def refuse_other(config: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise CheckpointError that names every setting with a value that our encoder has no counterpart for."""
    other = [f"{key}={config[key]!r}" for key, values in allowed.items() if config.get(key, values[0]) not in values]
    if other:
        raise CheckpointError(f"the model has {', '.join(other)}, for which there is nothing here: it cannot be read")


def their_names(state: Mapping[str, Tensor], pairs: Pairs) -> dict[str, Tensor]:
    """The encoder under transformers' names."""
    apart = split_attention(state)
    names = {name: renamed(name, pairs, "theirs") for name in apart}
    missing = [name for name, new in names.items() if new is None]
    if missing:
        raise ConfigError(f"transformers has no place for {', '.join(missing)}: export to onnx or torch-export instead")
    return plain({str(names[name]): value for name, value in apart.items()})


def sizes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What all configurations say of an encoder's block."""
    return {
        "hidden_size": settings["width"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": int(settings["width"] * settings["mlp_ratio"]),
        "layer_norm_eps": settings["norm_eps"],
        "hidden_act": "gelu",
    }
