"""From plain values to blocks, with every wrong entry named at once."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ValidationError

from d2v.config.renaming import current_names
from d2v.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Fits = Callable[[Mapping[str, Any]], bool]


def parse(model: type[Model], values: Mapping[str, Any], at: str = "") -> Model:
    """Build a block from plain values.

    Raises ConfigError listing every wrong key at once; `at` is the dotted path the block stands under. Old names of
    keys are taken for the new ones, and a line says so.
    """
    values = current_names(model, values, at, speaks=True)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(model, values, item, at) for item in error.errors()]
        head = f"{len(lines)} wrong {'entry' if len(lines) == 1 else 'entries'} in the recipe"
        raise ConfigError("\n".join([f"{head}:", *(f"  {line}" for line in lines)])) from None


def smallest(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a valid block that it cannot do without, for messages that show one."""

    def shrink(block: Mapping[str, Any], fits: Fits) -> dict[str, Any]:
        kept = dict(block)
        for key, value in block.items():
            rest = {name: one for name, one in kept.items() if name != key}
            if fits(rest):
                kept = rest
            elif isinstance(value, Mapping):
                kept[key] = shrink(value, partial(fits_as, kept, key, fits))
        return kept

    def fits_as(around: Mapping[str, Any], key: str, fits: Fits, block: Mapping[str, Any]) -> bool:
        return fits({**around, key: block})

    return shrink(values, partial(_is_valid, model))


def _is_valid(model: type[BaseModel], values: Mapping[str, Any]) -> bool:
    try:
        model.model_validate(values)
    except ValidationError:
        return False
    return True


def _describe(model: type[BaseModel], values: Any, error: Mapping[str, Any], at: str) -> str:
    location = tuple(str(part) for part in error["loc"])
    key = ".".join(filter(None, (at, *_written(values, error))))
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(sorted(known))}"
        return f"{key}: unknown key (value {error['input']!r}); {hint}"
    if error["type"] == "missing":
        return f"{key}: required, but not given"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], Mapping):
        return f"{key}: {message}"
    if error["type"] in ("string_type", "path_type") and isinstance(error["input"], int | float):
        quoted = f"'{error['input']}'"
        message += f'. In quotes a number is a text: {location[-1]}: {quoted}, or --params "{key}={quoted}"'
    return f"{key}: {error['input']!r} does not fit; {message[0].lower()}{message[1:]}"


def _written(values: Any, error: Mapping[str, Any]) -> list[str]:
    """Where an error stands as the recipe writes it: pydantic's location without the tags of unions, which come
    first in a block that has a `name` or a `kind`."""
    keys: list[str] = []
    entered = True
    for part in error["loc"]:
        block = values if isinstance(values, Mapping) else {}
        is_tag = entered and part in (block.get("name"), block.get("kind"))
        entered = not is_tag
        if is_tag:
            continue
        if part in block or isinstance(values, list | tuple):
            values = values[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        keys.append(str(part))
    return keys


def _known_keys(annotation: Any, path: tuple[str, ...]) -> list[str]:
    """Field names of the block that `path` leads to from `annotation` (union tags are part of the path)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return list(annotation.model_fields)
        field = annotation.model_fields.get(path[0])
        return _known_keys(field.annotation, path[1:]) if field else []
    keys: list[str] = []
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        for option in typing.get_args(annotation):
            tags = [f.annotation for n, f in getattr(option, "model_fields", {}).items() if n in ("name", "kind")]
            tag = typing.get_args(tags[0])[0] if tags else None
            if tag is None or (path and path[0] == tag):
                keys += _known_keys(option, path[1:] if tag is not None else path)
    return keys
