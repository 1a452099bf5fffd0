"""A block with some of its entries replaced, as studies write what they vary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from d2v.config.blocks import Block
from d2v.config.parsing import parse
from d2v.config.renaming import current_names
from d2v.errors import ConfigError

Changed = TypeVar("Changed", bound=Block)

_TYPES = ("name", "kind")
"""Keys that pick a block's type."""


def changed(block: Changed, *changes: Mapping[str, Any], at: str) -> Changed:
    """The block with nested entries replaced, one change after the other.

    Args:
        block: what is changed.
        changes: nested entries. A block is merged, and replaced as a whole where its change gives it another `name` or
            `kind`.
        at: dotted path of the changes, for messages.

    Raises:
        ConfigError: an entry does not fit.

    Example:
        >>> changed(recipe, {"objective": {"name": "mae"}}, at="vision.benchmark.objectives.mae")  # doctest: +SKIP
    """
    values: dict[str, Any] = block.model_dump(mode="json")
    for change in changes:
        values = merged(values, current_names(type(block), change, at, speaks=True), at)
    return parse(type(block), values, at=at)


def merged(values: Mapping[str, Any], change: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Nested values with those of `change` in them.

    Blocks merge; one that the change gives another `name` or `kind` is replaced whole, as is everything else.

    Args:
        values: nested values.
        change: nested values; those it does not name stay.
        at: dotted path of the change, for messages.

    Raises:
        ConfigError: a block is to be replaced by something else.
    """
    result = dict(values)
    for key, new in change.items():
        old = values.get(key)
        if isinstance(old, Mapping) and not isinstance(new, Mapping):
            raise ConfigError(f"{at}.{key} is a block, not {new!r}: give its entries ({', '.join(map(str, old))})")
        merges = isinstance(old, Mapping) and isinstance(new, Mapping) and _is_same_type(old, new)
        result[key] = merged(old or {}, new, f"{at}.{key}") if merges else new
    return result


def _is_same_type(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return all(new.get(name, old.get(name)) == old.get(name) for name in _TYPES)


def values_of(pairs: Sequence[str]) -> dict[str, Any]:
    """Nested values as a command line gives them.

    Args:
        pairs: `key=value` each, with dots in the keys of nested ones. Values are JSON, and else, as below `columns`,
            texts.

    Raises:
        ConfigError: one without `=`.

    Example:
        >>> values_of(["columns.text=review", "header=false"])
        {'columns': {'text': 'review'}, 'header': False}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        *blocks, key = path.split(".")
        if not equals or not key:
            raise ConfigError(f"{pair!r} is no setting: write KEY=VALUE, such as columns.text=review")
        inner = values
        for block in blocks:
            inner = inner.setdefault(block, {})
        inner[key] = text if blocks == ["columns"] else _from_text(text)
    return values


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
