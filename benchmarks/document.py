"""The result of a benchmark: metrics with their spread, as JSON to compare another commit with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

from d2v.data.disk import write_json
from d2v.errors import DataError
from d2v.reporting.tables import Table
from d2v.training.performance import device_name


@dataclass(frozen=True)
class Row:
    """One metric.

    Attributes:
        name: what was measured, parts with `/` between.
        unit: of the metric; of those that end in `/s` or begin with `%`, more is better, of others less.
        median, least, most: over fresh processes, or over the updates of one.
    """

    name: str
    unit: str
    median: float
    least: float
    most: float

    @staticmethod
    def of(name: str, unit: str, values: Iterable[float]) -> Row:
        """Median and spread of repeated measurements."""
        ascending = sorted(values)
        return Row(name, unit, median(ascending), ascending[0], ascending[-1])

    @property
    def more_is_better(self) -> bool:
        """By its unit."""
        return self.unit.endswith("/s") or self.unit.startswith("%")

    @property
    def shown(self) -> str:
        """`median (least to most)`."""
        return f"{self.median:.4g} ({self.least:.4g} to {self.most:.4g})"


@dataclass(frozen=True)
class Document:
    """All metrics of one run.

    Attributes:
        kind: what measured them.
        machine: what of, with versions, commit and date.
        rows: the metrics.
    """

    kind: str
    machine: Mapping[str, Any]
    rows: Sequence[Row]

    def write(self, file: Path) -> None:
        """As JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(self))

    @staticmethod
    def read(file: Path) -> Document:
        """Read a file of `write`.

        Raises:
            DataError: there is no such file, or it is not such a document.
        """
        try:
            content = json.loads(file.read_text())
            return Document(content["kind"], content["machine"], [Row(**row) for row in content["rows"]])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file} is not a benchmark's document ({error}): write one with --json {file}") from error


def machine() -> dict[str, Any]:
    """The machine, versions and commit of a measurement."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": commit(Path(__file__).parent),
        "device": device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "accelerator": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def commit(repository: Path) -> str:
    """The short hash, with a `+` after it if files differ; empty outside a repository."""
    asked = ("git", "-C", str(repository), "describe", "--always", "--dirty=+", "--exclude=*")
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def compare(old: Document, new: Document) -> Table:
    """The metrics that both have, and their ratios: above 1 is better than before, whatever the unit. A ratio says
    nothing and is in brackets where the spreads overlap, or where one of the metrics has none.

    Raises:
        DataError: they have no metric in common.
    """
    before = {row.name: row for row in old.rows}
    rows = [(before[row.name], row) for row in new.rows if row.name in before]
    if not rows:
        raise DataError(
            f"a document of {old.kind} and one of {new.kind} have no metric in common: compare two of a kind"
        )
    names = [f"{document.machine['commit']} {document.machine['date']}".strip() for document in (old, new)]
    cells = tuple((b.name, b.unit, b.shown, a.shown, _ratio(b, a)) for b, a in rows)
    return Table("comparison", ("metric", "unit", *names, "ratio"), cells)


def _ratio(before: Row, after: Row) -> str:
    if not before.median or not after.median:
        return ""
    ratio = after.median / before.median
    shown = f"{ratio if before.more_is_better else 1.0 / ratio:.2f}"
    overlap = before.least <= after.most and after.least <= before.most
    alone = any(row.least == row.most for row in (before, after))
    return f"({shown})" if overlap or alone else shown


def differences(old: Document, new: Document) -> list[str]:
    """Differences between two documents beside the code: another machine gives other numbers."""
    told = ("device", "threads", "cores", "torch", "library")
    pairs = ((name, old.machine.get(name), new.machine.get(name)) for name in told)
    return [f"{name} was {before} and is {after}" for name, before, after in pairs if before != after]
