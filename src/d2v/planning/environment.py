"""An environment of `conf/` for one data set: what differs from `conf/own_data`, with the reasons beside it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from d2v.errors import ConfigError

HEAD = 120
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def name_of(source: str) -> str:
    """A name for what a path or URL leads to: `Holiday photos.zip` is `holiday_photos`."""
    last = source.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    stem = last.split(".")[0] or last
    return re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or "data"


def check_name(conf: Path, modality: str, name: str) -> None:
    """Check that an environment's name is free, for it names the folders of data and models too.

    Raises:
        ConfigError: it is no name, or another environment uses it.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--name {name!r} names folders: take small letters, digits, _ and -")
    for file in sorted(conf.glob("*/globals.yml")):
        names = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get(modality) or {}
        if name in (names.get("corpus"), names.get("recipe")):
            raise ConfigError(
                f"the folders called {name} belong to conf/{file.parent.name}, and two data sets never share them: say "
                f"--name {name}_2, or another name"
            )
    if (conf / name).exists():
        raise ConfigError(f"conf/{name} is there already: say --name {name}_2, or another name")


def source_in(conf: Path, name: str, modality: str) -> str | None:
    """The source of an environment that `write_environment` made; None if there is no such one."""
    file = conf / name / f"parameters_{modality}.yml"
    if not file.is_file():
        return None
    block = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get(modality) or {}
    return (block.get("ingest") or {}).get("source")


def write_environment(
    conf: Path,
    name: str,
    modality: str,
    recipe: Mapping[str, Any],
    reasons: Mapping[str, str],
    head: str,
    pipeline: str,
) -> Path:
    """Write `conf/<name>/`.

    Args:
        conf: the project's folder of recipes.
        name: of the environment, its corpus and its run.
        modality: whose recipe it is.
        recipe: what differs from `conf/own_data`, and `base` and `without`.
        reasons: dotted key -> why it has its value.
        head: what stands above it, paragraphs.
        pipeline: what `kedro run --env=<name>` runs.

    Returns:
        The file of the recipe.
    """
    folder = conf / name
    folder.mkdir(parents=True)
    names = {"corpus": name, "recipe": name}
    (folder / "globals.yml").write_text(
        f"pipeline: {pipeline}     # what `kedro run --env={name}` runs\n\n"
        + yaml.safe_dump({modality: names}, sort_keys=False),
        encoding="utf-8",
    )
    file = folder / f"parameters_{modality}.yml"
    comment = "\n".join(
        textwrap.fill(line, HEAD, initial_indent="# ", subsequent_indent="#   ") or "#" for line in head.splitlines()
    )
    lines = "\n".join(_lines(recipe, reasons))
    file.write_text(f"{comment}\n{modality}:\n{lines}\n", encoding="utf-8")
    return file


def _lines(values: Mapping[str, Any], reasons: Mapping[str, str], path: str = "", indent: int = 2) -> Iterator[str]:
    for key, value in values.items():
        at = f"{path}.{key}".lstrip(".")
        is_block = isinstance(value, Mapping) and bool(value)
        text = (
            ""
            if is_block
            else " " + yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
        )
        line = f"{' ' * indent}{key}:{text}"
        yield f"{line:<32} # {reasons[at]}" if at in reasons else line
        if is_block:
            yield from _lines(value, reasons, at, indent + 2)
