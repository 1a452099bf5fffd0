"""The metrics of a run as a table: one row for each time something was logged."""

from __future__ import annotations

import csv
import os
from pathlib import Path


class History:
    """Rows of metrics by update, kept in memory and in a CSV file.

    Args:
        rows: rows so far, each with the key `update`.
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows = rows or []

    @property
    def columns(self) -> list[str]:
        """`update`, then every metric in the order of its first appearance."""
        return list(dict.fromkeys(["update", *(name for row in self.rows for name in row)]))

    def last(self) -> dict[str, float]:
        """The last value of every metric."""
        return {name: value for row in self.rows for name, value in row.items() if name != "update"}

    def add(self, update: int, metrics: dict[str, float], path: Path) -> None:
        """Append a row to the table and to the file at `path`."""
        known = self.columns
        row = {"update": update, **metrics}
        self.rows.append(row)
        if path.exists() and len(self.rows) > 1 and set(row) <= set(known):
            with path.open("a", newline="") as file:
                csv.DictWriter(file, known).writerow({name: _text(value) for name, value in row.items()})
        else:
            self.write(path)

    def write(self, path: Path) -> None:
        """Replace the file at `path` by the whole table."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows({name: _text(value) for name, value in row.items()} for row in self.rows)
        os.replace(temporary, path)

    @staticmethod
    def read(path: Path) -> History:
        """The table in a file; empty cells are metrics that a row does not have."""
        with path.open(newline="") as file:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
        return History([{**row, "update": int(row["update"])} for row in rows])


def _text(value: float) -> str:
    """Shortest text that reads back as the same number."""
    return repr(value)
