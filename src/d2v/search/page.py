"""What was found, for people: a table for the console, and a page with thumbnails, players and texts that needs no
server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from d2v.data.ingest import one_line
from d2v.reporting.page_parts import Example, Gallery, PagePart
from d2v.reporting.report import Part, write_page
from d2v.reporting.tables import Table
from d2v.search.index import Hit
from d2v.search.reports import Pair

TEXT_CHARACTERS = 60


def named(hit: Hit) -> str:
    """Its file, and its line."""
    return one_line(hit.file) + (f":{hit.line}" if hit.line is not None else "")


def hits_table(title: str, hits: Sequence[Hit]) -> Table:
    """A row an item, the nearest first."""
    has_labels = any(hit.label is not None for hit in hits)
    has_texts = any(hit.preview and hit.preview.text for hit in hits)
    columns = ("item", "cosine", *(["class"] if has_labels else []), *(["snippet"] if has_texts else []))
    rows = []
    for hit in hits:
        cells = [named(hit), f"{hit.similarity:.3f}"]
        cells += [one_line(hit.label or "")] if has_labels else []
        cells += [one_line(hit.preview.text if hit.preview else "")[:TEXT_CHARACTERS]] if has_texts else []
        rows.append(tuple(cells))
    return Table(title, columns, tuple(rows), texts=("class", "snippet"))


def pairs_table(title: str, pairs: Sequence[Pair]) -> Table:
    """A row a pair, the most alike first."""
    rows = [(named(pair.first), named(pair.second), f"{pair.similarity:.3f}") for pair in pairs]
    return Table(title, ("item", "and", "cosine"), tuple(rows), texts=("and",))


def write_hits(path: Path, title: str, groups: Sequence[tuple[str, str, Sequence[Hit]]]) -> Path:
    """One self-contained HTML file with groups of items: (heading, remark, items)."""
    parts: list[Part | PagePart] = []
    shown = tuple((heading, remark, [_example(hit) for hit in hits]) for heading, remark, hits in groups if hits)
    parts.append(Gallery(shown) if shown else "Nothing was found.")
    return write_page(path, title, parts)


def _example(hit: Hit) -> Example:
    name, words = named(hit), [f"{hit.similarity:.3f}", *([one_line(hit.label)] if hit.label else [])]
    caption = " \u00b7 ".join([*words, name.rpartition("/")[2]])
    if hit.preview is None:
        return Example(name, caption)
    return Example(name, caption, hit.preview.text, hit.preview.media_type, hit.preview.data, hit.preview.is_small)
