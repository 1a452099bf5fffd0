"""From Kedro's parameters to typed recipes."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Mapping
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

import yaml

from d2v.config import Block, parse, read_recipe, smallest
from d2v.config.alignment import AlignConfig
from d2v.errors import ConfigError
from d2v.modalities import registry

FURTHER: Mapping[str, type[Block]] = {"align": AlignConfig}
"""Blocks of the parameters that belong to no single modality."""


def parse_all(parameters: Mapping[str, Any]) -> dict[str, Block]:
    """The recipe of every modality in the parameters, and the blocks that are of several.

    Raises ConfigError with all wrong entries of all modalities, misspelt modalities included.
    """
    recipes: dict[str, Block] = {}
    problems: list[str] = []
    for name, block in parameters.items():
        if name not in registry.MODALITIES and name not in FURTHER:
            problems.append(_unknown_block(name))
            continue
        try:
            kind = FURTHER[name] if name in FURTHER else registry.recipe_type(name)
            recipes[name] = parse(kind, block or {}, at=name)
        except ConfigError as error:
            problems += str(error).splitlines()[1:]
    if problems:
        entries = "1 wrong entry" if len(problems) == 1 else f"{len(problems)} wrong entries"
        raise ConfigError("\n".join([f"{entries} in the recipe:", *problems]))
    return recipes


def smallest_block(conf: Path, name: str) -> str:
    """The least block that is valid, with the values of conf/base, as lines of a recipe; empty where that has none.

    Args:
        conf: the folder of recipes.
        name: such as `vision.finetune`.
    """
    modality, block = name.split(".", 1)
    values = read_recipe(conf, "base", modality).get(block)
    if values is None:
        return ""
    recipe = registry.recipe_type(modality)
    (kind,) = {one for one in typing.get_args(recipe.model_fields[block].annotation) if one is not type(None)}
    return yaml.safe_dump({modality: {block: smallest(kind, values)}}, sort_keys=False)


def _unknown_block(name: str) -> str:
    known = [*registry.MODALITIES, *FURTHER]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"  {name}: unknown modality; {hint}"


def of_modality(function: Callable[..., Any], modality: str) -> Callable[..., Any]:
    """`function` with its first argument, the modality's name, filled in. Kedro sees the function's own name, but no
    annotations: without the project's hooks, as in Kedro-Viz, it would parse each block once more as the type that they
    name, and a modality has types of its own."""
    node = update_wrapper(partial(function, modality), function)
    node.__annotations__ = {}
    return node
