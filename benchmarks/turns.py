"""Two ways to do the same, by turns and in fresh processes, so that a slow minute of the machine falls on both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import median

from d2v.errors import ConfigError, D2vError
from d2v.progress import log
from d2v.reporting.tables import Table

ROOT = Path(__file__).resolve().parents[1]


class BenchmarkError(D2vError):
    """A measured process died."""


@dataclass(frozen=True)
class Way:
    """One of the two.

    Attributes:
        name: for tables.
        checkout: whose `src` it runs.
        arguments: of Python; it prints one JSON object of numbers last.
        bench: checkout whose `benchmarks` measure: this one, unless the other one measures itself.
    """

    name: str
    checkout: Path
    arguments: Sequence[str]
    bench: Path = ROOT

    def measure(self) -> dict[str, float]:
        """The numbers of a fresh process.

        Raises:
            BenchmarkError: it died.
        """
        paths = {"PYTHONPATH": f"{self.checkout / 'src'}{os.pathsep}{self.bench}"}
        done = subprocess.run(
            [sys.executable, *self.arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | paths,
            cwd=self.bench,
        )
        if done.returncode:
            raise BenchmarkError(f"{self.name} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return found


@dataclass(frozen=True)
class Pairs:
    """What two ways took, turn by turn.

    Attributes:
        case: what both did.
        names: of the two.
        measured: (of the first, of the second) of each turn.
    """

    case: str
    names: tuple[str, str]
    measured: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]

    def ratios(self, unit: str) -> list[float]:
        """Of each turn, how many times as much the first took as the second, ascending."""
        return sorted(first[unit] / second[unit] for first, second in self.measured)


def by_turns(case: str, first: Way, second: Way, pairs: int) -> Pairs:
    """Measure both, so many times each."""
    measured = []
    for turn in range(pairs):
        order = (first, second) if turn % 2 == 0 else (second, first)
        found = {way.name: way.measure() for way in order}
        measured.append((found[first.name], found[second.name]))
        log(f"{case}, turn {turn + 1} of {pairs}: {measured[-1]}")
    return Pairs(case, (first.name, second.name), measured)


def step_by_turns(ref: str, sizes: Sequence[str], precisions: Sequence[str], pairs: int, scratch: Path) -> list[Pairs]:
    """Training steps of another commit and of this one. Each measures itself with its own `python -m benchmarks step`.

    Args:
        ref: the other commit.
        sizes: names in `sizes.yml` that both have.
        precisions: fp32 or bf16.
        pairs: turns.
        scratch: folder for the other commit's files.
    """
    before = checkout(ref, scratch / "before")
    return [
        by_turns(f"{size} {precision}", _step(ref, before, size, precision), _step("now", ROOT, size, precision), pairs)
        for size in sizes
        for precision in precisions
    ]


_STEP = """
import json, sys, tempfile
from pathlib import Path
from benchmarks.__main__ import step
from benchmarks.document import Document
with tempfile.TemporaryDirectory() as scratch:
    file = Path(scratch) / "step.json"
    step(sys.argv[1], sys.argv[2], 1, 8.0, Path("conf"), file)
    rows = {row.name.rpartition("/")[2]: row.median for row in Document.read(file).rows}
print(json.dumps({"sample_s": 1 / rows["speed"], "memory_mb": rows["peak_memory"]}))
"""


def _step(name: str, at: Path, size: str, precision: str) -> Way:
    return Way(name, at, ("-c", _STEP, size, precision), bench=at)


def ratio_table(all_pairs: Sequence[Pairs], units: Mapping[str, str]) -> Table:
    """A row a pair: the medians of both, and the ratios with the least and the most.

    Args:
        all_pairs: of one or several cases.
        units: number in a process's JSON -> heading.
    """
    rows = []
    for pairs in all_pairs:
        cells = [pairs.case, *pairs.names]
        for unit in units:
            first, second = (median(one[at][unit] for one in pairs.measured) for at in (0, 1))
            ratios = pairs.ratios(unit)
            cells.append(f"{first:.3g} / {second:.3g}: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        rows.append(tuple(cells))
    return Table("by turns", ("case", "first", "second", *units.values()), tuple(rows))


def checkout(ref: str, folder: Path) -> Path:
    """The files of another commit.

    Raises:
        ConfigError: there is no such commit.
    """
    packed = subprocess.run(("git", "-C", str(ROOT), "archive", ref), capture_output=True, check=False)
    if packed.returncode:
        raise ConfigError(f"there is no commit {ref!r} here ({packed.stderr.decode().strip()}): see git log")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
