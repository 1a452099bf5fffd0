"""Keys of recipes that have another name than in an earlier version.

A block declares them: `renamed = {"old": "new"}`. A recipe may still use the old name: it means the new one, and a line
says so. Recipes that were stored with a run or a model are read under the new names without a word. What is hashed, or
watched by DVC, keeps the names that it had first, so that a new name makes nothing out of date.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel

from d2v.errors import ConfigError
from d2v.progress import log

_Rename = Callable[[type[BaseModel], Mapping[str, Any]], dict[str, Any]]
_TAGS = ("name", "kind")
_said: set[str] = set()


def renames(model: type[BaseModel]) -> dict[str, str]:
    """Old name -> new name of the keys of a block, those of the classes it derives from included."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        found |= vars(base).get("renamed", {})
    return found


def rename_keys(model: type[BaseModel], values: Mapping[str, Any], at: str = "", speaks: bool = True) -> dict[str, Any]:
    """The values of one block under the names of today; blocks inside it are left as they are.

    Args:
        model: type of the block.
        values: as a recipe gives them. An old name stays if the new one is there too, for the validation to refuse.
        at: dotted path of the block, for the line that names the new key.
        speaks: whether to say that line. It is said once in a process.
    """
    new = {old: name for old, name in renames(model).items() if old in values and name not in values}
    if speaks:
        for old, name in new.items():
            _say_once(f"{at}.{old}" if at else f"{model.__name__}.{old}", name)
    return {new.get(key, key): value for key, value in values.items()}


def _say_once(old: str, name: str) -> None:
    if old not in _said:
        _said.add(old)
        log(f"recipe: {old} is now called {name}; the old name still works")


def check_one_name(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Raises ValueError where a key is given under its old and its new name."""
    for old, name in renames(model).items():
        if old in values and name in values:
            raise ValueError(f"{old} is the old name of {name}, and both are given: leave out {old}")


def current_names(
    model: type[BaseModel], values: Mapping[str, Any], at: str = "", speaks: bool = False
) -> dict[str, Any]:
    """A recipe, or a part of one such as a stored recipe or a change, under the names of today.

    Args:
        model: type of the block.
        values: plain values. What is no key of the block is left as it is.
        at: dotted path of the block.
        speaks: whether to say a line for each old name.

    Raises:
        ConfigError: a key is no text, as `on:` without quotes in YAML.
    """
    if odd := [key for key in values if not isinstance(key, str)]:
        raise ConfigError(
            f"{at or 'the recipe'} has the key {odd[0]!r}, which is no text: YAML takes on, off, yes and no for true "
            'and false, so write such a key in quotes, as in "on": new_data'
        )
    path = f"{at}." if at else ""
    return {
        key: _inside(model, key, value, partial(current_names, at=path + key, speaks=speaks))
        for key, value in rename_keys(model, values, at, speaks).items()
    }


def first_names(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe, or a part of one, under the names that its keys had first: for what is hashed.

    Args:
        model: type of the block.
        values: plain values under the names of today.
    """
    first: dict[str, str] = {}
    for old, name in renames(model).items():
        first.setdefault(name, old)
    return {first.get(key, key): _inside(model, key, value, first_names) for key, value in values.items()}


def _inside(model: type[BaseModel], key: str, value: Any, rename: _Rename) -> Any:
    """The value of a key, renamed too where it is a block. A change need not say which type of block it changes: then
    it may use the old names of each."""
    field = model.model_fields.get(key)
    if field is None or not isinstance(value, Mapping):
        return value
    blocks = blocks_of(field.annotation)
    for block in [one for one in blocks if _is_tagged(one, value)] or blocks:
        value = rename(block, value)
    return value


def blocks_of(annotation: Any) -> list[type[BaseModel]]:
    """The types of blocks that a field takes: none, one, or those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType, Annotated):
        return []
    return [block for one in typing.get_args(annotation) for block in blocks_of(one)]


def _is_tagged(block: type[BaseModel], values: Mapping[str, Any]) -> bool:
    """Whether values say by `name` or `kind` that they are this type of block."""
    tags = [name for name in _TAGS if name in block.model_fields and name in values]
    return any(values[name] in typing.get_args(block.model_fields[name].annotation) for name in tags)
