"""The results of `python -m benchmarks input` as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmarks.document import Document, Row
from benchmarks.input.cases import CASES
from benchmarks.input.measure import OURS, What
from benchmarks.input.peers import PEERS, TOKENISERS, has_datasets
from benchmarks.input.suite import WORKERS
from d2v.reporting.tables import Table

_STEPS = (What("ingest"), What("prepare"), *(What("tokenise", by) for by in TOKENISERS))


def to_markdown(document: Document, consumed: Mapping[str, float]) -> str:
    """All tables, and whether a peer was missing.

    Args:
        document: of `measure_input`.
        consumed: case -> items that a training step takes in a second.
    """
    tables = [store_table(document), load_table(document, consumed), growth_table(document)]
    notes = [] if has_datasets() else ["Hugging Face's `datasets` is not installed, and so not measured."]
    return "\n\n".join([*(table.to_markdown() for table in tables), *notes])


def store_table(document: Document) -> Table:
    """From files to a store."""
    rows, cells = _by_name(document), []
    for case in CASES:
        for what in _STEPS:
            name = f"{case}/{what}"
            if name in rows:
                shown = (_spread(rows[name]), _spread(rows[f"{name}/bytes"]), _number(rows[f"{name}/core"].median))
                cells.append((case, f"{what.step} by {what.by}", *shown))
    return Table("store", ("files to store", "step", "items/s", "MB/s", "items/s of a core"), tuple(cells))


def load_table(document: Document, consumed: Mapping[str, float]) -> Table:
    """From a store, or a peer's files, to batches."""
    columns = ("batches", "workers", "d2v, items/s", "peer, items/s", "ratio", "peer")
    cells = tuple(_load_cells(_by_name(document), consumed))
    return Table("load", (*columns, *(["times what a step takes"] if consumed else [])), cells)


def _load_cells(rows: Mapping[str, Row], consumed: Mapping[str, float]) -> Iterator[tuple[str, ...]]:
    for case, about in CASES.items():
        peer = PEERS[about.modality].name
        for workers in WORKERS:
            ours = f"{case}/{What('load', OURS, workers)}"
            if ours in rows:
                theirs, ratio = rows[f"{case}/{What('load', peer, workers)}"], rows[f"{ours}/ratio"]
                cells = (case, f"{workers}", _spread(rows[ours]), _spread(theirs), _spread(ratio), peer)
                yield (*cells, *([_covered(rows, ours, consumed.get(case))] if consumed else []))


def _covered(rows: Mapping[str, Row], name: str, consumed: float | None) -> str:
    """How often what one core loads covers what a step takes."""
    return _number(rows[f"{name}/core"].median / consumed) if consumed and f"{name}/core" in rows else ""


def growth_table(document: Document) -> Table:
    """Peaks and costs by the size of the data, and how many times the first cost the last one is."""
    peaks, cells = by_items(document, "peak"), []
    for (case, step), ms in by_items(document, "growth").items():
        first, *_, last = ms.values()
        figures = (peaks.get((case, step), {}), ms)
        shown = (" / ".join(map(_number, some.values())) for some in figures)
        cells.append((case, step, " / ".join(map(str, ms)), *shown, f"{last / first:.2f}"))
    columns = ("as the data grows", "step", "items", "peak memory, MB", "ms an item", "last to first")
    return Table("growth", columns, tuple(cells))


def by_items(document: Document, quantity: str) -> dict[tuple[str, str], dict[int, float]]:
    """The measurements as the data grows.

    Args:
        document: of `measure_input`.
        quantity: "growth", in ms an item, or "peak", in MB.

    Returns:
        case and step -> items -> median.
    """
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in document.rows:
        process, _, items = row.name.partition(f"/{quantity}/")
        if items.isdecimal():
            case, step = process.split("/")
            found.setdefault((case, step), {})[int(items)] = row.median
    return found


def _spread(row: Row) -> str:
    return f"{_number(row.median)} ({_number(row.least)} to {_number(row.most)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _by_name(document: Document) -> dict[str, Row]:
    return {row.name: row for row in document.rows}
