"""`python -m d2v.modalities.reference docs/config.md`: every key of every recipe, from the config classes.

The part of the document between BEGIN and END is written anew; the rest is written by hand. A class has one section,
whose table holds the keys that it declares itself; those of the classes that it derives from are linked.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from d2v.config import Block
from d2v.config.alignment import AlignConfig
from d2v.config.renaming import blocks_of, renames
from d2v.config.updates import Length
from d2v.errors import ConfigError, D2vError
from d2v.modalities import registry

BEGIN, END = "<!-- config-docs: begin -->", "<!-- config-docs: end -->"
HEAD = "| key | type | default | meaning |\n|---|---|---|---|"
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_WORDS = {bool: "true or false", int: "integer", float: "number", str: "text"}


@dataclass(frozen=True)
class _Location:
    """Where recipes have a block.

    Attributes:
        modality: whose recipe.
        path: of keys below the modality.
        tag: key and value that pick it in a union, such as ("name", "mae").
        within: the value that picks the block of a union that it stands in.
    """

    modality: str
    path: str
    tag: tuple[str, str] | None
    within: str


@dataclass
class _Section:
    """A class of blocks, and where recipes have it."""

    block: type[BaseModel]
    locations: list[_Location] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Its paths; without the modality where several have it."""
        modalities = {location.modality for location in self.locations}
        prefix = f"{min(modalities)}." if len(modalities) == 1 else ""
        title = ", ".join(dict.fromkeys(f"`{(prefix + location.path).rstrip('.')}`" for location in self.locations))
        if self.tag:
            return f"{title} with `{self.tag[0]}: {self.tag[1]}`"
        owners = dict.fromkeys(f"`{location.within}`" for location in self.locations if location.within)
        return f"{title} of {', '.join(owners)}" if owners else title

    @property
    def tag(self) -> tuple[str, str] | None:
        """The key and the value that pick it in a union."""
        return self.locations[0].tag

    def link(self, label: str) -> str:
        """To the section, as GitHub names it."""
        return f"[{label}](#{_slug(self.title)})"


def reference() -> str:
    """Tables of all keys: the blocks that several modalities share, then those of each."""
    sections = _sections({name: registry.recipe_type(name) for name in registry.MODALITIES} | {"align": AlignConfig})
    parts = []
    for title, some in _chapters(sections):
        parts += [f"## {title}", *(_written(one, sections) for one in some)]
    return "\n\n".join(parts)


def undescribed(recipes: Sequence[type[BaseModel]]) -> list[str]:
    """Keys of recipes, and of all blocks inside them, that do not say what they mean, as Class.key."""
    blocks = _sections({str(number): recipe for number, recipe in enumerate(recipes)})
    return [
        f"{block.__name__}.{key}" for block in blocks for key in _own(block) if not block.model_fields[key].description
    ]


def write_reference(document: Path) -> None:
    """Renew the tables in a document.

    Raises:
        ConfigError: it has no place for them.
    """
    text = document.read_text() if document.is_file() else ""
    if BEGIN not in text or END not in text.partition(BEGIN)[2]:
        raise ConfigError(f"{document} has no place for the tables: write {BEGIN} and {END} into it, a line each")
    document.write_text(renewed(text))


def renewed(text: str) -> str:
    """A document with its tables as they should be."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{rest.partition(END)[2]}"


# ------------------------------------------------------------------------------------------- sections


def _sections(recipes: Mapping[str, type[BaseModel]]) -> dict[type[BaseModel], _Section]:
    """Every class of blocks in the order in which recipes reach it, bases before what derives from them.

    Args:
        recipes: by modality.
    """
    found: dict[type[BaseModel], _Section] = {}
    for modality, recipe in recipes.items():
        _collect([recipe], _Location(modality, "", None, ""), found)
    return found


def _collect(blocks: Sequence[type[BaseModel]], at: _Location, found: dict[type[BaseModel], _Section]) -> None:
    """The blocks that stand at a location, and all inside them."""
    for block in blocks:
        tag = _tag(block) if len(blocks) > 1 else None
        for one in _lineage(block):
            section = found.setdefault(one, _Section(one))
            location = replace(at, tag=tag)
            if location not in section.locations:
                section.locations.append(location)
        for key, info in block.model_fields.items():
            within = tag[1] if tag else at.within
            path = f"{at.path}.{key}".lstrip(".")
            _collect(blocks_of(info.annotation), _Location(at.modality, path, None, within), found)


def _lineage(block: type[BaseModel]) -> list[type[BaseModel]]:
    """The classes that a block gets its keys from, the most general first."""
    return [one for one in reversed(block.__mro__) if one is block or (issubclass(one, Block) and _own(one))]


def _own(block: type[BaseModel]) -> list[str]:
    """Keys that a class declares itself."""
    return [key for key in inspect.get_annotations(block) if key in block.model_fields]


def _tag(block: type[BaseModel]) -> tuple[str, str] | None:
    """What picks a block of a union, such as ("name", "mae")."""
    for key in ("name", "kind"):
        if key in block.model_fields and (values := typing.get_args(block.model_fields[key].annotation)):
            return key, values[0]
    return None


def _chapters(sections: dict[type[BaseModel], _Section]) -> Iterable[tuple[str, list[_Section]]]:
    def of(*modalities: str) -> list[_Section]:
        return [
            one for one in sections.values() if {location.modality for location in one.locations} == set(modalities)
        ]

    alone = {name: of(name) for name in registry.MODALITIES}
    of_one = [one for some in alone.values() for one in some]
    yield "Blocks of all modalities", [one for one in sections.values() if one not in of_one]
    for name, some in alone.items():
        yield f"Blocks of {name}", some


def _slug(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


# --------------------------------------------------------------------------------------------- tables


def _written(section: _Section, sections: dict[type[BaseModel], _Section]) -> str:
    """Heading, what the block is, its keys, and where its other keys stand."""
    block = section.block
    parts = [f"### {section.title}"]
    if block.__doc__:
        parts.append("\n\n".join(_plain(part) for part in block.__doc__.strip().split("\n\n")))
    rows = [_row(block, key, sections) for key in _own(block)]
    if rows:
        parts.append("\n".join([HEAD, *rows]))
    if others := [sections[one] for one in _lineage(block)[:-1]]:
        parts.append(f"And all keys of {' and of '.join(one.link(one.title) for one in others)}.")
    return "\n\n".join(parts)


def _row(block: type[BaseModel], key: str, sections: dict[type[BaseModel], _Section]) -> str:
    info = block.model_fields[key]
    meaning = _plain(info.description or "")
    former = [old for old, new in renames(block).items() if new == key]
    if former:
        meaning += f" Formerly {', '.join(f'`{old}`' for old in former)}."
    cells = (f"`{key}`", _kind(info.annotation, info.metadata, sections), _default(info), meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _kind(annotation: Any, limits: Sequence[Any], sections: dict[type[BaseModel], _Section]) -> str:
    """A type in words."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        limits = [limit for one in inner[1:] for limit in (one.metadata if isinstance(one, FieldInfo) else [one])]
        return _kind(inner[0], limits, sections)
    if origin is Literal:
        return " or ".join(f"`{_value(one)}`" for one in inner)
    for limit in limits:
        if isinstance(limit, Length):
            return f"updates from {limit.least} on, or a share of the run as a number with a point"
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(_kind(one, limits, sections) for one in inner if one is not type(None))
        return " or ".join([*words, *(["null"] if type(None) in inner else [])])
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {_kind(inner[0], [], sections)}"
        return f"[{', '.join(_kind(one, [], sections) for one in inner)}]"
    if origin is dict:
        return "block"
    if annotation in sections:
        tag = sections[annotation].tag
        return sections[annotation].link(f"`{tag[1]}`" if tag else "block")
    return " ".join(filter(None, (_WORDS[annotation], _range(limits))))


def _range(limits: Sequence[Any]) -> str:
    """The bounds of a number, such as "at least 0, at most 1"."""
    bounds = ((word, getattr(one, name, None)) for name, word in _BOUNDS.items() for one in limits)
    return ", ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if isinstance(default, Block):
        changed = default.model_dump(mode="json", exclude_defaults=True)
        return f"`{_value(changed)}`" if changed else "its defaults"
    return f"`{_value(default)}`"


def _value(value: Any) -> str:
    """As a recipe writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return json.dumps(value)


if __name__ == "__main__":
    try:
        write_reference(Path(sys.argv[1]))
    except D2vError as error:
        sys.exit(str(error))
