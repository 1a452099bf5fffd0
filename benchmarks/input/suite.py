"""`python -m benchmarks input`: every case again and again in fresh processes, as a document."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import product
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from benchmarks.document import Document, Row, machine
from benchmarks.input.cases import CASES
from benchmarks.input.job import Job, Material, given, made
from benchmarks.input.measure import OURS, STEPS, Taken, What, alone, run_jobs, run_step
from d2v.errors import ConfigError, DataError, LaunchError
from d2v.modalities.registry import MODALITIES
from d2v.progress import log

LIBRARIES = ("pillow", "torchvision", "soundfile", "tokenizers")
WORKERS = (0, 2)
WARM_UP_ITEMS = 16
PRELOADED = ("pandas", *(f"d2v.modalities.{name}.modality" for name in MODALITIES))
"""Beside the code that measures. pyarrow imports pandas when it makes its first array."""
SIZES = (1, 3, 10)
"""Of the data that grows, as multiples of the smallest."""
RATE, BYTES, COST, MEMORY, RATIO = "items/s", "MB/s", "ms an item", "MB", "of the peer's items/s"
"""Units."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        cases: names.
        repeats: fresh processes of each.
        items: files of a case, times its share.
        seconds: how long batches are loaded each time.
        sources: case -> folder of files to take in place of made ones.

    Raises:
        ConfigError: there is no such case, or no such folder.
    """

    cases: Sequence[str] = tuple(CASES)
    repeats: int = 3
    items: int = 300
    seconds: float = 1.0
    sources: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.cases:
            if name not in CASES:
                raise ConfigError(f"there is no case {name}: give some of {', '.join(CASES)}")
        for name, folder in self.sources.items():
            if not folder.is_dir():
                raise ConfigError(
                    f"{folder} is not a folder: give one with files for {name}, as --source {name}=FOLDER"
                )


def by_case(given: Sequence[str], read: Callable[[str], Value]) -> dict[str, Value]:
    """Entries CASE=VALUE.

    Args:
        given: the entries.
        read: what a value is made with, such as float.

    Raises:
        ConfigError: an entry has another form, or there is no such case.
    """
    values = {}
    for entry in given:
        name, _, value = entry.partition("=")
        try:
            if name not in CASES:
                raise ValueError(name)
            values[name] = read(value)
        except ValueError:
            raise ConfigError(f"{entry!r} does not fit: write CASE=VALUE, with one of {', '.join(CASES)}") from None
    return values


def measure_input(options: Options) -> Document:
    """Measure all cases. The repeats go round by round, so that a slow minute of the machine does not fall on one case
    alone.

    Raises:
        DataError: a source holds nothing that can be read.
        LaunchError: a process died.
    """
    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        log("bench-input: making files")
        suite = _Suite(options, Path(scratch))
        rows = [*suite.speed_rows(), *suite.growth_rows()]
    return Document("input", machine() | {name: version(name) for name in LIBRARIES}, rows)


class _Suite:
    """The files of all cases, and the processes that measure them."""

    def __init__(self, options: Options, scratch: Path) -> None:
        self._options, self._scratch = options, scratch
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload([alone.__module__, *PRELOADED])
        self._materials = {name: self._material(name) for name in options.cases}

    def _material(self, name: str) -> Material:
        folder = self._scratch / name
        if name in self._options.sources:
            material = given(name, self._options.sources[name], folder)
            if len(material.files) < SIZES[-1]:
                found = f"{material.folder} holds {len(material.files)} file(s) for {name}"
                raise DataError(f"{found}: give at least {SIZES[-1]}, as a tenth of the data is measured, too")
            return material
        return made(name, SIZES[-1] * self._items(name), folder)

    def _items(self, name: str) -> int:
        """The smallest size of a case's data."""
        if name in self._options.sources:
            return len(self._materials[name].files) // SIZES[-1]
        return max(round(self._options.items * CASES[name].share), 1)

    def speed_rows(self) -> Iterator[Row]:
        """Files to store, store to batches; all of a given folder, the smallest size of what is made."""
        taken: dict[str, list[dict[What, Taken]]] = {name: [] for name in self._materials}
        for repeat in range(self._options.repeats):
            for name, material in self._materials.items():
                log(f"bench-input: {name}, round {repeat + 1} of {self._options.repeats}")
                items = len(material.files) if name in self._options.sources else self._items(name)
                with _jobs(material, items) as jobs:
                    arguments = {"jobs": jobs, "workers": WORKERS, "seconds": self._options.seconds}
                    taken[name].append(self._in_fresh_process(run_jobs, **arguments))
        for name, some in taken.items():
            yield from rows_of(name, some)

    def growth_rows(self) -> Iterator[Row]:
        """Costs and peaks of the processes that ingest, prepare and load more and more data."""
        taken: dict[tuple[str, str, int], list[tuple[Taken, int]]] = {}
        for repeat, (name, material), size in product(range(self._options.repeats), self._materials.items(), SIZES):
            items = size * self._items(name)
            log(f"bench-input: {name} with {items:,} items, round {repeat + 1} of {self._options.repeats}")
            with _jobs(material, items) as jobs:
                for step in STEPS:
                    arguments = {"jobs": jobs, "step": step, "seconds": self._options.seconds}
                    one = self._in_fresh_process(run_step, **arguments)
                    taken.setdefault((name, step, items), []).append(one)
        for (name, step, items), some in taken.items():
            yield from growth_rows_of(name, step, items, some)

    def _in_fresh_process(self, work: Any, **arguments: Any) -> Any:
        """The result of `work` in a process forked from one that has imported all code and done nothing."""
        with ProcessPoolExecutor(1, self._processes) as pool:
            try:
                return pool.submit(alone, work, arguments).result()
            except BrokenProcessPool as error:
                raise LaunchError(
                    "A process that measured was killed, as the system does when memory runs out: lower --items"
                ) from error


@contextmanager
def _jobs(material: Material, items: int) -> Iterator[tuple[Job, Job]]:
    """A small job that warms up and one with so many items, gone afterwards."""
    jobs = material.job(min(items, WARM_UP_ITEMS), "warm_up"), material.job(items, "measured")
    yield jobs
    for job in jobs:
        rmtree(job.scratch)


def rows_of(name: str, taken: Sequence[Mapping[What, Taken]]) -> Iterator[Row]:
    """The metrics of a case from its repetitions. A core's items are by the seconds that the process computes, whatever
    it waits for."""
    for what in taken[0]:
        some = [one[what] for one in taken]
        yield Row.of(f"{name}/{what}", RATE, [one.items / one.wall_s for one in some])
        if what.workers:  # what other processes compute is not known here
            continue
        yield Row.of(f"{name}/{what}/core", RATE, [one.items / one.cpu_s for one in some])
        if some[0].bytes:
            yield Row.of(f"{name}/{what}/bytes", BYTES, [one.bytes / 1e6 / one.wall_s for one in some])
    for what in taken[0]:
        if what.step == "load" and what.by != OURS:
            ours = What("load", OURS, what.workers)
            ratios = [one[ours].items / one[ours].wall_s * one[what].wall_s / one[what].items for one in taken]
            yield Row.of(f"{name}/{ours}/ratio", RATIO, ratios)


def growth_rows_of(name: str, step: str, items: int, taken: Sequence[tuple[Taken, int]]) -> Iterator[Row]:
    """The cost of a step of a case with so many items, and its peak. That of loading says nothing: pages of the mapped
    store count, which the system takes back when it wants them."""
    yield Row.of(f"{name}/{step}/growth/{items}", COST, [1e3 * one.wall_s / one.items for one, _ in taken])
    yield Row.of(f"{name}/{step}/growth/{items}/core", COST, [1e3 * one.cpu_s / one.items for one, _ in taken])
    if step != "load":
        yield Row.of(f"{name}/{step}/peak/{items}", MEMORY, [peak / 1e6 for _, peak in taken])
