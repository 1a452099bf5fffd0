"""`--params` of `kedro run`: `key=value` pairs with commas between, each value as YAML reads it.

Kedro's own reader parts lists and quoted texts at their commas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import OmegaConf

from d2v.config.yaml_numbers import check_numbers
from d2v.errors import ConfigError

_PAIR = re.compile(r"""\s*([^=,]+?)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|\[|\{|[^,\[\]{}'"][^,]*|(?=\s*(?:,|$)))""")


def parse_params(given: Any) -> Any:
    """Nested values of the option; values that are no text (Kedro's own, of a file of options) stay as they are.

    Raises:
        ConfigError: a part has no `=`, a bracket or a quotation mark stays open, or a number is read in two ways.
    """
    if not isinstance(given, str):
        return given
    pairs = list(_pairs(given))
    for pair in pairs:
        check_numbers(pair.partition("=")[2], f"--params {pair}")
    return OmegaConf.to_container(OmegaConf.from_dotlist(pairs))


def _pairs(text: str) -> Iterator[str]:
    """`key=value` one by one."""
    while text.strip():
        found = _PAIR.match(text)
        if found is None:
            raise ConfigError(
                f"--params: {text.strip()!r} is not key=value. A value with a comma needs quotes inside the shell's, "
                "as in --params 'vision.ingest.source=\"a, b\"', and a list brackets"
            )
        key, value = found[1], found[2]
        end = found.end()
        if value in ("[", "{"):
            end = found.start(2) + _nested(text[found.start(2) :])
            value = text[found.start(2) : end]
        rest = text[end:].lstrip()
        if rest and not rest.startswith(","):
            raise ConfigError(f"--params: {rest!r} stands behind {key}={value}: put a comma between two pairs")
        yield f"{key}={value.strip()}"
        text = rest[1:]


def _nested(text: str) -> int:
    """How long the list or mapping is that a text begins with."""
    depth, quote = 0, ""
    for at, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if not depth:
            return at + 1
    raise ConfigError(f"--params: a bracket or a quotation mark of {text!r} stays open: close it")
