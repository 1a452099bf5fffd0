"""All modalities by name. A new one is a folder beside them and one line here."""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from d2v.config import Block
from d2v.errors import ConfigError
from d2v.imports import collector_at_rest

if TYPE_CHECKING:
    from d2v.modalities.base import Modality

# name -> (its recipe type in config.py, its class in modality.py)
_MEMBERS = {
    "vision": ("VisionRecipe", "Vision"),
    "speech": ("SpeechRecipe", "Speech"),
    "text": ("TextRecipe", "Text"),
}


class _Registry(Mapping[str, "Modality"]):
    """Modalities by name. Each is imported when it is first asked for, so that names and recipes, and the errors
    about them, do not wait for it."""

    def __getitem__(self, name: str) -> Modality:
        return _only(_member(name, "modality", _MEMBERS[name][1]))

    def __iter__(self) -> Iterator[str]:
        return iter(_MEMBERS)

    def __len__(self) -> int:
        return len(_MEMBERS)

    def __contains__(self, name: object) -> bool:
        return name in _MEMBERS


MODALITIES: Mapping[str, Modality] = _Registry()


def get(name: str) -> Modality:
    """The modality called `name`. Raises ConfigError with the nearest known name if there is none."""
    _check(name)
    return MODALITIES[name]


def recipe_type(name: str) -> type[Block]:
    """The recipe block of a modality, without importing the rest of it. Raises ConfigError for an unknown name."""
    _check(name)
    recipe: type[Block] = _member(name, "config", _MEMBERS[name][0])
    return recipe


def _check(name: str) -> None:
    if name not in _MEMBERS:
        near = difflib.get_close_matches(name, _MEMBERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_MEMBERS)}"
        raise ConfigError(f"there is no modality {name!r}; {hint}")


@functools.cache
def _only(kind: type[Modality]) -> Modality:
    """The one object of a class."""
    return kind()


def _member(name: str, module: str, attribute: str) -> Any:
    with collector_at_rest():
        return getattr(importlib.import_module(f"d2v.modalities.{name}.{module}"), attribute)
