"""Numbers that readers of YAML do not agree on. YAML 1.1, which Kedro reads, takes `010` for 8, `12:30` for 750 and
`1_000` for 1000; YAML 1.2, which DVC reads, for 10 and two texts. Nobody means the former, so they are refused."""

from __future__ import annotations

import re

import yaml

from d2v.errors import ConfigError

_OCTAL, _SPACED, _TIME = re.compile(r"[-+]?0[0-7_]+"), re.compile(r"[-+]?[0-9][0-9_.]*"), re.compile(r"[-+]?[0-9:.]+")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def check_numbers(text: str, where: str) -> None:
    """Check the numbers of a YAML text; what is no YAML is left to its reader.

    Args:
        text: of a file, or of one value.
        where: for the message, such as the file's name.

    Raises:
        ConfigError: a number without quotes is octal, has underscores, or is a time of day.

    Example:
        >>> check_numbers("[1, 2.5e-3, '010']", "--params")
    """
    try:
        nodes = [yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    except yaml.YAMLError:
        return
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and (problem := _misread(node.value)):
                raise ConfigError(f"{where}, line {node.start_mark.line + 1}: {node.value} {problem}")
        elif isinstance(node, yaml.MappingNode):
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value


def _misread(number: str) -> str | None:
    """What is wrong with a number as it is written, and what to write."""
    if _OCTAL.fullmatch(number):
        decimal = int(number.replace("_", ""))
        return f"is octal for some readers of YAML: write {decimal}, or '{number}' in quotes for a text"
    if "_" in number and _SPACED.fullmatch(number):
        return f"is a text for some readers of YAML: write {number.replace('_', '')}"
    if ":" in number and _TIME.fullmatch(number):
        return f"is a number of base 60 for some readers of YAML: write it in quotes, '{number}', for a text"
    return None
