"""What the commands `d2v index` and `d2v search` show."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from d2v.progress import log
from d2v.reporting.tables import Table
from d2v.search.index import Encoders, Hit, Index, say_lost
from d2v.search.page import hits_table, pairs_table, write_hits
from d2v.search.query import question_of, search
from d2v.search.reports import near_duplicates, outliers


def search_and_show(
    index: Index,
    model: Encoders,
    asked: Sequence[tuple[float, str]],
    count: int,
    html: Path | None,
    **filters: Any,
) -> list[Hit]:
    """A table of the items that are nearest to what a user typed, and a page of them. Filters are those of `search`."""
    weighted = [(weight, question_of(model, question)) for weight, question in asked]
    hits = search(index, model, weighted, count, **filters)
    say_lost(index)
    words = " + ".join(question if weight == 1.0 else f"{weight:g} {question}" for weight, question in asked)
    title = f"Nearest to {words}"
    _print(hits_table(title, hits))
    if not hits:
        log("search: no item fits the filters; --path is compared with whole paths, as d2v search prints them")
    if html is not None:
        write_hits(html, title, [("the nearest first", f"{len(hits)} of {len(index):,} items", hits)])
    return hits


def show_lists(index: Index, threshold: float | None, least_typical: int, html: Path | None) -> None:
    """Tables of near-duplicates and outliers, as far as they are asked for, and a page of them."""
    groups: list[tuple[str, str, Sequence[Hit]]] = []
    if threshold is not None:
        pairs = near_duplicates(index, threshold)
        _print(pairs_table(f"Pairs with a cosine of at least {threshold:g}", pairs))
        groups += [("pair", f"cosine {pair.similarity:.3f}", [pair.first, pair.second]) for pair in pairs]
    if least_typical:
        odd = outliers(index, least_typical)
        _print(hits_table("The least typical items, by the mean cosine to their nearest", odd))
        groups.append(("the least typical items", "the least typical first", odd))
    if html is not None:
        write_hits(html, f"{index.folder.name}: a look at the items", groups)


def _print(table: Table) -> None:
    width = None if sys.stdout.isatty() else 160  # in a pipe or a log nothing is cut off
    Console(highlight=False, width=width).print(table.to_rich())
