"""Flags: what makes a model useless for what it is for, and what its reader should know, in words and as tags.

A flag that `blocks` says that the model does not do what it was trained for; others are remarks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from d2v.data.disk import read_json, write_json
from d2v.errors import DataError

FLAGS = "flags.json"
TAG, NONE = "flags", "none"
"""Tag of runs and of registered versions with the flags that block, and its value without any."""
LEAST_ROWS, LAST_SHARE, LEAST_DROP = 20, 5, 0.05
"""A loss is looked at from so many rows on: of the last fifth of them and the fifth before it, falling by more than so
much of the whole fall."""


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        name: for tags: `few_classes`, `below_majority`, `like_random`, `loss_falling`.
        words: the sentence for people, without its full stop.
        blocks: whether the model is useless; False for a remark.
    """

    name: str
    words: str
    blocks: bool = True


def write_flags(flags: Sequence[Flag], out: Path) -> None:
    """Leave them in a report folder."""
    write_json(out / FLAGS, {"flags": [asdict(flag) for flag in flags]})


def read_flags(report: Path) -> list[Flag]:
    """What `write_flags` left; none of a report of an earlier version."""
    if not (report / FLAGS).is_file():
        return []
    remedy = "remove it, and run the step that wrote the report again"
    content = read_json(report / FLAGS, DataError, remedy, {"flags": list})
    try:
        return [Flag(**values) for values in content["flags"]]
    except TypeError as error:
        raise DataError(f"{report / FLAGS} is not what was written ({error}): {remedy}") from error


def sentence(flag: Flag) -> str:
    """A flag as a sentence."""
    return f"{'FLAGGED' if flag.blocks else 'Note'}: {flag.words}."


def blocking(flags: Sequence[Flag]) -> str:
    """The sentences of those that block, with semicolons between; "" without any."""
    return "; ".join(flag.words for flag in flags if flag.blocks)


def tags_of(flags: Sequence[Flag]) -> dict[str, str]:
    """Tags for a tracked run: `flags`, and `flag.<name>` of each."""
    return {TAG: blocking(flags) or NONE, **{f"flag.{flag.name}": flag.words for flag in flags}}


def encoder_flags(metrics: Mapping[str, float]) -> list[Flag]:
    """Of a pretrained encoder, from its metrics: whether the linear probe or plain kNN tells it apart from random
    weights.

    Args:
        metrics: what `d2v.evaluation.evaluate` measured; without labels nothing is flagged.
    """
    lows = {probe: metrics.get(f"probe/{probe}_gain_over_random_low") for probe in ("linear", "knn")}
    if any(low is None or low > 0.0 for low in lows.values()):
        return []
    words = "neither the linear probe nor kNN tells the encoder apart from random weights"
    return [Flag("like_random", words)]


def loss_falling(history: pd.DataFrame, names: Sequence[str]) -> Flag | None:
    """A remark if a loss was still falling when the run ended, by more than its noise.

    Args:
        history: a row a logged update.
        names: of the losses; the first with enough rows is looked at.
    """
    for name in names:
        losses = pd.to_numeric(history[name], errors="coerce").dropna().to_numpy() if name in history else np.zeros(0)
        if len(losses) >= LEAST_ROWS:
            count = len(losses) // LAST_SHARE
            last, before = losses[-count:], losses[-2 * count : -count]
            drop, fallen = float(before.mean() - last.mean()), float(losses[:count].mean() - last.mean())
            noise = float(np.hypot(last.std(ddof=1), before.std(ddof=1)) / np.sqrt(count))
            if drop > max(LEAST_DROP * fallen, 2.0 * noise, 0.0):
                share = f"{100 * drop / fallen:.0f}% of all that it fell came in the last fifth"
                return Flag(
                    "loss_falling", f"{name} was still falling at the end ({share}): train longer", blocks=False
                )
            return None
    return None
