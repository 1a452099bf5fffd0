"""Labels as tables and folders give them, and the values among them that mean no label."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from d2v.data.sources.split_names import parse

NO_LABEL = frozenset(("", "nan", "-nan", "null", "<na>", "n/a", "#n/a"))
"""Values, in lower case, that mean no label wherever they stand."""
MINUS_ONE = "-1"


class SeveralLabels(ValueError):
    """A value that lists several labels; the message says which."""


def label_of(value: Any) -> str | None:
    """The name of a class from a value of a table; None for a value that means none. Whole numbers have no decimals.

    Raises:
        SeveralLabels: a list of several.
    """
    if isinstance(value, list | tuple):
        found = [one for one in map(label_of, value) if one is not None]
        if len(found) > 1:
            shown = ", ".join(found[:4]) + (" ..." if len(found) > 4 else "")
            raise SeveralLabels(f"it has {len(found)} labels ({shown}), and an item is of one class")
        return found[0] if found else None
    if isinstance(value, dict):
        raise SeveralLabels(f"its label is an object with the fields {', '.join(map(str, value))}, not a name")
    if isinstance(value, float):
        return None if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    text = "" if value is None else str(value).strip()
    return None if text.lower() in NO_LABEL or names_no_class(text) else text


def names_no_class(name: str) -> bool:
    """Whether a name says that items have no class, as IMDB's `unsup`."""
    found = parse(name)
    return found is not None and found == ("unlabelled", ())


def minus_one_means_none(counts: Mapping[str, Mapping[str, int]]) -> bool | None:
    """Whether the label -1 stands for none, as in the test files of GLUE; None where there is no -1.

    It is a class where training items have it beside 1 and nothing but 0, as sentiments (-1, 0, 1) and support vector
    machines (-1, 1) do.

    Args:
        counts: split -> label -> number of items.
    """
    if not any(MINUS_ONE in labels for labels in counts.values()):
        return None
    train = set(counts.get("train", {}))
    return not ({MINUS_ONE, "1"} <= train <= {MINUS_ONE, "0", "1"})
