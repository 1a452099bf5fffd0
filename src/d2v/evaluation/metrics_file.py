"""`metrics.json`: metrics with the identity of model, data and settings, so that nothing is measured twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2v.data import digests
from d2v.data.disk import write_json
from d2v.progress import log
from d2v.statistics import Interval

METRICS = "metrics.json"
PRETRAINED, RANDOM, PLAIN = "", "_random", "_baseline"
"""Suffixes of metric names: the pretrained encoder, the same with random weights, plain features or counts."""
BELONGS_TO = "belongs_to"
"""Key of metrics.json with the identity: what was measured, and how."""
FILES = "files"
"""Key in it with the digests of the files beside metrics.json."""


def write_measured(out: Path, metrics: Mapping[str, float], identity: Mapping[str, Any]) -> None:
    """Write metrics into `out`, last: their presence means that the rest is there."""
    write_json(out / METRICS, {**metrics, BELONGS_TO: {**identity, FILES: digests.of_files(out)}})


def measured_before(out: Path, identity: Mapping[str, Any], written: Sequence[str]) -> dict[str, float] | None:
    """The metrics in `out` if they are this identity's and its other files are there: git may have brought metrics.json
    alone, as DVC wants metrics in git. A damaged file counts as none.

    Args:
        out: report folder.
        identity: what is to be measured, and how, in plain values.
        written: names of the other files.
    """
    if not all((out / name).is_file() for name in written):
        return None
    try:
        content = json.loads((out / METRICS).read_text())
    except (OSError, ValueError):
        return None
    belongs_to = content.pop(BELONGS_TO, None) if isinstance(content, dict) else None
    if not isinstance(belongs_to, dict):
        return None
    files = belongs_to.pop(FILES, {})  # versions before this one wrote none
    if belongs_to != identity:
        return None
    changed = [name for name in written if digests.of_file(out / name) != files.get(name, digests.of_file(out / name))]
    if changed:
        log(f"evaluate: {', '.join(changed)} in {out} changed since they were written, so all is measured again")
        return None
    return content


def spelled(name: str, interval: Interval) -> dict[str, float]:
    """A metric with the ends of its interval."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
