"""`python -m benchmarks step`: the sizes, each in fresh processes, as a document and as tables."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.document import Document, Row, machine
from benchmarks.sections import PARTS
from benchmarks.sizes import read_size
from benchmarks.step import Timed, time_size
from d2v.config import DistributedConfig
from d2v.distributed.supervisor import Supervisor
from d2v.progress import log
from d2v.reporting.tables import Table

REFERENCE_PEAK = 440.0
"""GFLOP/s of the machine of reference.csv."""
_REFERENCE = Path(__file__).with_name("reference.csv")
SPEED, MEMORY, OF_PEAK, PEAK, PART = "speed", "peak_memory", "of_matmul_peak", "matmul_peak", "part"


def time_suite(sizes: Sequence[str], precisions: Sequence[str], repeats: int, seconds: float, conf: Path) -> Document:
    """Time every size at every precision. The repeats go round by round, so that a slow minute of the machine does not
    fall on one size alone.

    Args:
        sizes: names.
        precisions: of the products, fp32 or bf16.
        repeats: processes of each.
        seconds: of updates in each process, at least three updates.
        conf: folder of the recipes.

    Raises:
        ConfigError: no such size, or the recipes are missing.
        LaunchError: a process died.
    """
    kinds = [(size, precision) for size in sizes for precision in precisions]
    for kind in kinds:
        read_size(kind[0], conf, kind[1])
    timed: dict[tuple[str, str], list[Timed]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="d2v-bench-") as scratch:
        for repeat in range(repeats):
            for number, (size, precision) in enumerate(kinds, start=1):
                one = _in_fresh_process(size, precision, seconds, conf, Path(scratch))
                timed[size, precision].append(one)
                where = f"round {repeat + 1} of {repeats}, {number} of {len(kinds)}"
                log(f"bench: {where}: {size} {precision} {one.samples_per_s:.4g} samples/s")
    measured = [one for some in timed.values() for one in some]
    used = {
        "threads": ", ".join(sorted({str(one.threads) for one in measured})),
        "library": ", ".join(sorted({one.library for one in measured})),
    }
    rows = [row for (size, kind), some in timed.items() for row in _rows(size, kind, some)]
    return Document("step", machine() | used, rows)


def _in_fresh_process(size: str, precision: str, seconds: float, conf: Path, logs: Path) -> Timed:
    arguments = {"name": size, "conf": conf.resolve(), "precision": precision, "seconds": seconds}
    timed: Timed = Supervisor(DistributedConfig(ranks=1), logs).run(time_size, arguments)
    return timed


def _rows(size: str, precision: str, timed: Sequence[Timed]) -> Iterable[Row]:
    at = f"{size}/{precision}"
    yield Row.of(f"{at}/{SPEED}", "samples/s", [one.samples_per_s for one in timed])
    yield Row.of(f"{at}/{MEMORY}", "MB", [one.peak_bytes / 1e6 for one in timed])
    yield Row.of(f"{at}/{OF_PEAK}", "% of the peak", [100.0 * one.share_of_peak for one in timed])
    yield Row.of(f"{at}/{PEAK}", "GFLOP/s", [one.peak_flops / 1e9 for one in timed])
    for part in PARTS:
        yield Row.of(f"{at}/{PART}/{part}", "ms", [1e3 * one.part_s[part] for one in timed])


def speed_table(document: Document) -> Table:
    """Speed, memory, and the share of the machine's peak that is used."""
    rows = {row.name: row for row in document.rows}
    columns = ("size", "precision", "samples/s", "peak memory, MB", "of the matmul peak, %", "matmul peak, GFLOP/s")
    cells = tuple(
        (
            *at.split("/"),
            rows[f"{at}/{SPEED}"].shown,
            *(f"{rows[f'{at}/{what}'].median:.0f}" for what in (MEMORY, OF_PEAK, PEAK)),
        )
        for at in _kinds(document)
    )
    return Table("speed", columns, cells)


def reference_table(document: Document) -> Table:
    """Beside the reference's numbers of reference.csv, which are of float32 on a CPU, bf16 here too: how many times as
    fast as the tuned one, with each machine's float32 matmul peak taken out, and the share of the memory that it has as
    it ships. Of a GPU nothing is comparable."""
    rows = {row.name: row for row in document.rows}
    known = pd.read_csv(_REFERENCE, comment="#", index_col="size")
    cells = []
    for at in _kinds(document) if document.machine["accelerator"] == "cpu" else ():
        size, precision = at.split("/")
        if size not in known.index:
            continue
        theirs, speed = known.loc[size], rows[f"{at}/{SPEED}"].median
        peak = rows.get(f"{size}/fp32/{PEAK}")
        evened = "" if peak is None else f"{speed / theirs['tuned'] * REFERENCE_PEAK / peak.median:.2f}"
        memory = rows[f"{at}/{MEMORY}"].median / theirs["peak_memory_mb"]
        cells.append((size, precision, evened, f"{memory:.2f}"))
    columns = ("size", "precision", "times the tuned reference, machines evened", "of its memory")
    return Table("reference", columns, tuple(cells))


def breakdown_table(document: Document) -> Table:
    """The share of each section of an update, in percent."""
    rows = {row.name: row.median for row in document.rows}
    cells = []
    for at in _kinds(document):
        ms = [rows[f"{at}/{PART}/{part}"] for part in PARTS]
        cells.append((*at.split("/"), *(f"{100.0 * one / sum(ms):.1f}" for one in ms)))
    return Table("breakdown", ("% of an update", "precision", *PARTS), tuple(cells))


def _kinds(document: Document) -> list[str]:
    """`size/precision` of all that was timed."""
    return [row.name.removesuffix(f"/{SPEED}") for row in document.rows if row.name.endswith(f"/{SPEED}")]
