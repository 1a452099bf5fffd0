"""One self-contained HTML page of a corpus, to look at before training: classes and splits, sizes, formats, quarantine,
duplicates, notes, and some of the items themselves.

It is made from the files that ingest left, so that it can be written again at any time, for corpora of earlier versions
too; what those did not record is left out, and the page says so.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from d2v.data.disk import read_json
from d2v.data.ingest import CORPUS, DUPLICATES, MANIFEST, QUARANTINE, SHARDS, IngestReport, named_error, one_line
from d2v.data.prepared import Corpus, manifest_columns
from d2v.data.store import ShardReader
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.modalities.base import Modality, Preview
from d2v.modalities.corpus_counts import (
    BINS,
    FINE,
    CorpusCounts,
    Group,
    Listed,
    Spread,
    choose,
    count_corpus,
    count_duplicates,
    count_quarantine,
    open_manifest,
)
from d2v.reporting.page_parts import Bars, Example, Gallery, Histogram, PagePart, SideBySide, Tiles, Warnings
from d2v.reporting.report import Heading, Part, made_of, write_page
from d2v.reporting.tables import Table

PAGE = "report.html"
VERSION = 1
"""Raised when the page shows something else: pages of before are written anew."""
EXAMPLE_BYTES = 6_000_000
"""Of all examples together, as they stand in the page."""
MOST_CLASSES, RAREST = 40, 12
"""Classes with a bar, and how many of them are the rarest where there are more."""
GALLERY_CLASSES, EXAMPLE_ROWS = 24, 12
"""Classes with examples, and rows of examples where there are few classes."""
MOST_ROWS, MOST_KEYS, MOST_NAMES = 30, 3, 12
"""Rows of a table; examples in a row; names in a sentence."""
KEY_CHARACTERS = 120
HIGH_SHARE = 0.05
"""Quarantined items, or items of a class, whose share is worth a warning."""


def write_corpus_page(modality: Modality, corpus: Path, path: Path) -> Path:
    """Write the page of a corpus.

    Args:
        modality: of the items.
        corpus: a folder that ingest left.
        path: the HTML file; returned.

    Raises:
        DataError: there is no finished corpus, or it is damaged.
    """
    parts = list(_parts(modality, corpus, _read_about(corpus)))
    return write_page(path, f"{corpus.name}: what was ingested", parts, _identity(corpus))


def is_page_of(corpus: Path, path: Path) -> bool:
    """Whether the page at `path` is there and shows this corpus."""
    return made_of(path) == _identity(corpus)


def _identity(corpus: Path) -> str:
    return f"{VERSION} {hashlib.sha256((corpus / CORPUS).read_bytes()).hexdigest()}"


def modality_of(corpus: Path) -> Modality:
    """The modality whose facts a corpus has.

    Raises:
        DataError: there is no finished corpus.
        ConfigError: no modality has these facts, or several do.
    """
    _read_about(corpus)
    columns = {*manifest_columns(corpus)}
    fitting = [modality for modality in registry.MODALITIES.values() if {*modality.facts} <= columns]
    if len(fitting) != 1:
        found = ", ".join(modality.name for modality in fitting) or "none"
        raise ConfigError(f"{corpus} may be of these modalities: {found}. Say it with --modality")
    return fitting[0]


def _read_about(corpus: Path) -> dict[str, Any]:
    try:
        return read_json(corpus / CORPUS, DataError, "run the ingest step again", {"report": dict})
    except DataError as error:
        raise DataError(
            f"{corpus} is no finished corpus ({error}), or give a folder that ingest left, such as "
            "data/02_intermediate/<modality>/<corpus>"
        ) from None


def _parts(modality: Modality, corpus: Path, about: Mapping[str, Any]) -> Iterator[Part | PagePart]:
    known = {name: value for name, value in about["report"].items() if name in IngestReport.__dataclass_fields__}
    report = IngestReport(**known)
    counts = count_corpus(corpus, modality.quantities(), modality.texts)
    duplicates = count_duplicates(corpus, MOST_KEYS)
    yield f"Source: {about.get('source', 'not recorded')}. Fingerprint {report.fingerprint[:16]}."
    yield Tiles(tuple(_tiles(report, counts)))
    if warnings := list(_warnings(report, counts)):
        yield Warnings(tuple(warnings))
    yield from _splits(counts)
    yield from _numbers(counts)
    yield from _files(report)
    yield from _quarantine(corpus, report)
    yield from _duplicates(duplicates)
    gallery, remark = _gallery(modality, corpus, counts)
    yield Heading("Some of the items")
    yield remark
    if gallery:
        yield gallery
    if lacking := list(_lacking(about, counts)):
        yield Heading("What this corpus does not tell")
        yield Warnings(tuple(lacking))


def _tiles(report: IngestReport, counts: CorpusCounts) -> Iterator[tuple[str, str]]:
    yield "items in the source", f"{report.total:,}"
    yield "kept", f"{report.kept:,}"
    yield "quarantined", f"{report.quarantined:,}"
    yield "duplicates", f"{report.duplicates:,}"
    yield "classes", f"{len(counts.totals):,}" if counts.totals else "none"
    for spread in counts.spreads:
        if spread.quantity.total:
            name, units = spread.quantity.total
            yield name, _number(sum(spread.sums.values()) / units)


def _warnings(report: IngestReport, counts: CorpusCounts) -> Iterator[str]:
    yield from report.remarks
    if report.total and report.quarantined / report.total > HIGH_SHARE:
        yield f"{report.quarantined / report.total:.0%} of the items are quarantined: see the reasons below"
    if report.across_splits:
        yield (
            f"{report.across_splits:,} items stood in two splits of the source. The one outside train is kept, so that "
            "nothing is measured on training items"
        )
    train, test = counts.of("train"), counts.of("test")
    said = " ".join(report.remarks)
    if test and (missing := sorted(set(test) - set(train))) and "train split lacks" not in said:
        yield f"classes of the test split that the train split lacks: {_names(missing)}"
    if test and (missing := sorted(set(train) - set(test))):
        yield f"classes of the train split that the test split lacks: {_names(missing)}"
    unlabelled = sum(of_split[None] for of_split in counts.classes.values())
    if counts.totals and unlabelled:
        yield f"{unlabelled:,} items have no class, though others have one"
    rare = [name for name, items in counts.totals.items() if items * len(counts.totals) < HIGH_SHARE * report.kept]
    if rare:
        yield f"classes with less than a twentieth of the items that even classes would have: {_names(rare)}"


def _splits(counts: CorpusCounts) -> Iterator[Part | PagePart]:
    yield Heading("Splits and classes")
    sums = [spread for spread in counts.spreads if spread.quantity.total]
    columns = ["split", "items"]
    columns += ["with a class", "classes", "most frequent class", "its share"] if counts.totals else []
    columns += [spread.quantity.total[0] for spread in sums if spread.quantity.total]
    rows = []
    for split in counts.splits:
        labelled, items = counts.of(split), counts.classes[split].total()
        first, most = max(labelled.items(), key=lambda entry: (entry[1], entry[0]), default=("", 0))
        share = f"{most / labelled.total():.1%}" if most else ""
        cells = [split, f"{items:,}"]
        cells += [f"{labelled.total():,}", f"{len(labelled):,}", one_line(first), share] if counts.totals else []
        cells += [_number(one.sums.get(split, 0.0) / one.quantity.total[1]) for one in sums if one.quantity.total]
        rows.append(tuple(cells))
    yield Table("Splits", tuple(columns), tuple(rows), texts=("most frequent class",))
    if texts := [(name, count) for name, count in sorted(counts.texts.items()) if count]:
        items = sum(of_split.total() for of_split in counts.classes.values())
        cells_of_texts = tuple((name, f"{count:,}", f"{count / items:.1%}") for name, count in texts)
        yield Table("Texts beside the items", ("text", "items that have it", "share"), cells_of_texts)
    if counts.totals:
        yield (
            "The share of the most frequent class is what an answer scores that never looks at the item. "
            f"{_balance(counts.totals)}"
        )
        yield _class_bars(counts)
    else:
        yield "No item has a class: the corpus can be pretrained on; probes need classes."


def _class_bars(counts: CorpusCounts) -> Bars:
    names = list(counts.totals)
    of_split = {split: counts.of(split) for split in counts.splits}
    rows = [(one_line(name), tuple(of_split[split][name] for split in of_split)) for name in names]
    if len(rows) <= MOST_CLASSES:
        return Bars("Items by class", tuple(of_split), tuple(rows))
    left_out = f"{len(rows) - MOST_CLASSES:,} classes between these"
    shown = [*rows[: MOST_CLASSES - RAREST], (left_out, None), *rows[-RAREST:]]
    return Bars("Items by class: the largest and the rarest", tuple(of_split), tuple(shown))


def _numbers(counts: CorpusCounts) -> Iterator[Part | PagePart]:
    if not counts.spreads:
        return
    yield Heading("Sizes")
    yield SideBySide(tuple(_value_bars(spread) if spread.has_few else _histogram(spread) for spread in counts.spreads))


def _value_bars(spread: Spread) -> Bars:
    rows = tuple((_with_unit(value, spread), (items,)) for value, items in sorted(spread.values.items()))
    return Bars(spread.quantity.name.capitalize(), ("items",), rows)


def _histogram(spread: Spread) -> Histogram:
    counts = spread.bins.reshape(BINS, FINE).sum(axis=1)
    edges = spread.edges[::FINE]
    ranges = tuple(f"{_number(low)} to {_with_unit(high, spread)}" for low, high in pairwise(edges))
    labels = tuple(_number(edges[at]) for at in (0, BINS // 4, BINS // 2, 3 * BINS // 4, BINS))
    unit = f", {spread.quantity.unit}" if spread.quantity.unit else ""
    axis = "; the axis is logarithmic" if spread.is_logarithmic else ""
    caption = (
        f"{_with_unit(spread.low, spread)} to {_with_unit(spread.high, spread)}, median "
        f"about {_number(spread.median)}, mean {_number(spread.mean)}{axis}"
    )
    return Histogram(f"{spread.quantity.name.capitalize()}{unit}", tuple(counts.tolist()), labels, ranges, caption)


def _files(report: IngestReport) -> Iterator[Part | PagePart]:
    if report.origins:
        yield Heading("What the files are")
        yield SideBySide(
            tuple(
                Bars(_of_those_that_say_it(name, values, report.kept), ("items",), _most(values))
                for name, values in sorted(report.origins.items())
            )
        )
    yield Heading("What ingest did to them")
    if report.notes:
        yield Bars("Notes", ("items",), _most(report.notes))
    else:
        yield "Nothing: no item needed a note."


def _of_those_that_say_it(name: str, values: Mapping[str, int], kept: int) -> str:
    counted = sum(values.values())
    return name.capitalize() if counted >= kept else f"{name.capitalize()}, of {counted:,} items that say it"


def _most(values: Mapping[str, int]) -> tuple[tuple[str, tuple[int, ...] | None], ...]:
    """The most frequent values as rows of bars."""
    ordered = sorted(values.items(), key=lambda entry: (-entry[1], entry[0]))
    rows: list[tuple[str, tuple[int, ...] | None]] = [(one_line(name), (n,)) for name, n in ordered[:MOST_ROWS]]
    if rest := ordered[MOST_ROWS:]:
        rows.append((f"{len(rest):,} more, of {sum(n for _, n in rest):,} items", None))
    return tuple(rows)


def _quarantine(corpus: Path, report: IngestReport) -> Iterator[Part | PagePart]:
    yield Heading("Quarantine")
    reasons = count_quarantine(corpus, MOST_KEYS)
    if not reasons:
        lost = f"{report.quarantined:,} items are quarantined, but their list {QUARANTINE} is not there."
        yield lost if report.quarantined else "No item is quarantined."
        return
    rows = tuple(
        (one_line(reason), f"{found.items:,}", "\n".join(_key(key) for (key,) in found.examples))
        for reason, found in reasons[:MOST_ROWS]
    )
    columns = ("reason (the first of its kind)", "items", "such as")
    yield Table(f"{report.quarantined:,} items that are not used", columns, rows, texts=("such as",))
    left_out = f" {len(reasons) - MOST_ROWS:,} more kinds of reasons are left out here." if reasons[MOST_ROWS:] else ""
    yield f"Reasons that differ only in numbers and quoted words are counted as one.{left_out} All are in {QUARANTINE}."


def _duplicates(kinds: Mapping[str, Listed]) -> Iterator[Part | PagePart]:
    yield Heading("Duplicates")
    found = {kind: listed for kind, listed in kinds.items() if listed.items}
    if not found:
        yield "No item repeats another."
        return
    rows = tuple(
        (kind, f"{listed.items:,}", "\n".join(_pair(example) for example in listed.examples))
        for kind, listed in found.items()
    )
    yield Table("Items of the same content", ("kind", "items", "such as"), rows, texts=("such as",))
    yield f"Of items of the same content one is kept. All pairs are in {DUPLICATES}."


def _pair(example: Sequence[str]) -> str:
    key, other, *said = example
    return f"{_key(key)} = {_key(other)}" + (f" ({one_line(said[0])})" if said else "")


def _lacking(about: Mapping[str, Any], counts: CorpusCounts) -> Iterator[str]:
    if counts.lacking:
        yield f"the manifest has no {', '.join(counts.lacking)}"
    if "origins" not in about["report"]:
        yield "formats and writers of its files were not recorded when it was ingested"
    if "remarks" not in about["report"]:
        yield "remarks on its labels were not recorded when it was ingested"
    if "contradictions" not in about["report"]:
        yield "duplicates in two classes were not recorded when it was ingested"


# -------------------------------------------------------------------------------------------- gallery


def _gallery(modality: Modality, corpus: Path, counts: CorpusCounts) -> tuple[Gallery | None, str]:
    """Examples by class and split, and what to say of them."""
    columns = pq.read_schema(corpus / MANIFEST).names
    if not {"row", "sha256"} <= {*columns} or not any((corpus / SHARDS).glob("part-*.arrow")):
        return None, "The corpus has no stored items to show."
    names: list[str | None] = list(counts.totals)
    if len(names) > GALLERY_CLASSES:
        names = [*names[: GALLERY_CLASSES - GALLERY_CLASSES // 3], *names[-(GALLERY_CLASSES // 3) :]]
    groups = [(split, name) for name in [*names, None] for split in counts.splits if counts.classes[split].get(name)]
    per_group = modality.images_per_row * max(1, EXAMPLE_ROWS // max(len(groups), 1))
    chosen = choose(corpus, groups, per_group)
    examples, is_full = _examples(modality, corpus, chosen, per_group)
    if examples is None:
        return None, "This modality has no previews of its items."
    shown = [
        (one_line(name) if name is not None else "without a class", f"{split}, {items:,} items", examples[split, name])
        for split, name in groups
        if (items := counts.classes[split][name]) and examples[split, name]
    ]
    remark = f"{sum(map(len, examples.values())):,} of them, chosen by a hash of their content, so always the same."
    if len(counts.totals) > GALLERY_CLASSES:
        remark += f" Of {len(counts.totals):,} classes, the {GALLERY_CLASSES - GALLERY_CLASSES // 3} largest and the "
        remark += f"{GALLERY_CLASSES // 3} rarest."
    if is_full:
        remark += f" More would make the page larger than {EXAMPLE_BYTES / 1e6:g} MB."
    return Gallery(tuple(shown)), remark


def _examples(
    modality: Modality, corpus: Path, chosen: Mapping[Group, Sequence[int]], per_group: int
) -> tuple[dict[Group, list[Example]] | None, bool]:
    """Examples of each group, and whether some are left out because the page is full. Every group gets its first one
    before any gets a second."""
    shards = ShardReader(corpus / SHARDS)
    said = _rows_of(corpus, {row for rows in chosen.values() for row in rows}, modality)
    examples: dict[Group, list[Example]] = {group: [] for group in chosen}
    size = 0
    for number in range(per_group):
        for group, rows in chosen.items():
            if number >= len(rows):
                continue
            row = said[rows[number]]
            preview = _preview(modality, shards.view("data", rows[number]).tobytes(), row)
            if preview is None:
                return None, False
            size += math.ceil(len(preview.data) / 3) * 4 + len(preview.text.encode("utf-8", "replace"))
            if size > EXAMPLE_BYTES:
                return examples, True
            examples[group].append(_example(modality, row, preview))
    return examples, False


def examples_of(modality: Modality, corpus: Path, items: Sequence[int], captions: Sequence[str]) -> list[Example]:
    """Some items of a corpus for people, in their order; none where the modality has no previews, and only as many as
    fit on a page.

    Args:
        modality: what the corpus is.
        corpus: folder that ingest left.
        items: positions in its manifest.
        captions: what stands under each.
    """
    opened, shards = Corpus(corpus), ShardReader(corpus / SHARDS)
    rows = opened.integers("row")[np.array(items, dtype=np.int64)].tolist()
    said, examples, size = _rows_of(corpus, set(rows), modality), list[Example](), 0
    for row, caption in zip(rows, captions, strict=True):
        preview = _preview(modality, shards.view("data", row).tobytes(), said[row])
        size += 0 if preview is None else math.ceil(len(preview.data) / 3) * 4
        if preview is None or size > EXAMPLE_BYTES:
            break
        examples.append(replace(_example(modality, said[row], preview), caption=caption))
    return examples


def _preview(modality: Modality, data: bytes, said: Mapping[str, object]) -> Preview | None:
    """An item for people. One that cannot be shown is no reason to lose the page."""
    try:
        return modality.preview(data, said)
    except Exception as error:
        return Preview(f"(cannot be shown: {named_error(error)})")


def _rows_of(corpus: Path, rows: set[int], modality: Modality) -> dict[int, dict[str, object]]:
    """What the manifest says of some rows of the shards."""
    found: dict[int, dict[str, object]] = {}
    wanted = np.array(sorted(rows), np.int64)
    with open_manifest(corpus) as manifest:
        here = {*manifest.schema_arrow.names}
        columns = ["key", "row", *(name for name in (*modality.facts, *modality.texts) if name in here)]
        for batch in manifest.iter_batches(columns=columns):
            is_wanted = np.isin(batch["row"].to_numpy(), wanted)
            if is_wanted.any():
                found |= {row["row"]: row for row in batch.filter(is_wanted).to_pylist()}
    return found


def _example(modality: Modality, row: Mapping[str, object], preview: Preview) -> Example:
    """A preview with its name and numbers; under it stand the end of the name and the numbers that add up."""
    name, numbers, shown = str(row["key"]), [], []
    for quantity in modality.quantities():
        if all(fact in row for fact in quantity.facts):
            value = float(quantity.of(*(np.array([row[fact]]) for fact in quantity.facts))[0])
            said = f"{_number(value)} {quantity.unit}".rstrip()
            numbers.append(f"{quantity.name} {said}")
            shown += [said] if quantity.total else []
    caption = " \u00b7 ".join([_key(name.rstrip("/").rpartition("/")[2]), *shown])
    title = " \u00b7 ".join([_key(name), *numbers])
    return Example(title, caption, preview.text, preview.media_type, preview.data, preview.is_small)


# ---------------------------------------------------------------------------------------------- words


def _key(key: str) -> str:
    """A key of bounded length, by its end, which tells items apart."""
    line = one_line(key)
    return line if len(line) <= KEY_CHARACTERS else "..." + line[-KEY_CHARACTERS + 3 :]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(map(one_line, names[:MOST_NAMES])) + more


def _balance(totals: Counter[str]) -> str:
    largest, smallest = max(totals.values()), min(totals.values())
    if largest == smallest:
        return f"All classes have {largest:,} items."
    if _number(largest / smallest) == "1":
        return "All classes are about as large."
    return f"The largest class has {_number(largest / smallest)} times the items of the smallest."


def _with_unit(value: float, spread: Spread) -> str:
    return f"{_number(value)} {spread.quantity.unit}".rstrip()


def _number(value: float) -> str:
    """Three digits that count; whole numbers as they are."""
    value = float(value)
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
