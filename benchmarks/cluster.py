"""`python -m benchmarks cluster`: an ingest on a cluster of this machine beside one in a process, as items grow.

Each value is of a fresh process. Items are small images, so that what a cluster costs beside decoding shows most.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.document import Document, Row, machine
from d2v.errors import DataError
from d2v.progress import log
from d2v.reporting.tables import Table

SIDE_PX, FOLDER_ITEMS = 32, 1000
UNITS = {"seconds": "s", "cpu": "CPU s", "driver": "MB of the command", "worker": "MB of the largest other process"}


def measure_cluster(items: Sequence[int], workers: Sequence[int], repeats: int) -> Document:
    """Time an ingest of images in one process and with some workers, by turns.

    Args:
        items: how many images.
        workers: of the clusters.
        repeats: fresh processes of each.
    """
    ways = [0, *workers]
    rows = []
    with tempfile.TemporaryDirectory(prefix="d2v-cluster-") as folder:
        for count in items:
            source = _make_images(Path(folder) / f"images{count}", count)
            found: dict[int, list[dict[str, float]]] = {way: [] for way in ways}
            for _ in range(repeats):
                for way in ways:
                    found[way].append(_in_a_process(source, Path(folder) / "corpus", way))
            for way in ways:
                name = f"{count:,} items/{_name(way)}"
                rows += [
                    Row.of(f"{name}/{what}", unit, [one[what] for one in found[way]]) for what, unit in UNITS.items()
                ]
            shutil.rmtree(source)
    return Document("cluster", machine(), rows)


def _name(workers: int) -> str:
    return "one process" if not workers else f"{workers} workers" if workers > 1 else "1 worker"


def _make_images(folder: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    for number in range(count):
        inside = folder / f"{number // FOLDER_ITEMS:05d}"
        if number % FOLDER_ITEMS == 0:
            inside.mkdir(parents=True)
        pixels = random.integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(inside / f"{number:09d}.png")
    return folder


def _in_a_process(source: Path, out: Path, workers: int) -> dict[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, str(Path(__file__).with_name("cluster_run.py")), str(source), str(out), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"the ingest of {source} failed: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    log(f"cluster: {source.name}, {_name(workers)}: {found['seconds']:.2f} s, {found['cpu']:.2f} CPU s")
    return found


def cluster_table(document: Document) -> Table:
    """A row for each number of items and of workers."""
    values: dict[str, list[Row]] = {}
    for row in document.rows:
        values.setdefault(row.name.rpartition("/")[0], []).append(row)
    cells = tuple((name.replace("/", ", "), *(row.shown for row in found)) for name, found in values.items())
    return Table("cluster", ("ingest", *UNITS.values()), cells)
