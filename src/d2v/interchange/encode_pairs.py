"""From pairs as a recipe names them to features of their items, kept on disk.

Pairs come from a corpus, whose items have texts, or from a table with two columns. Every distinct item is encoded once,
by an encoder in evaluation mode without gradients: its weights are as before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from d2v.alignment.pair_features import FEATURES, TEXTS, read_pair_features
from d2v.alignment.pairs import RULES, Pairs, apart, hold_out
from d2v.config.alignment import AlignConfig, PairsConfig
from d2v.data import digests
from d2v.data.disk import full_disk_named, one_at_a_time, write_json
from d2v.data.ingest import Record, one_line
from d2v.data.prepared import Corpus
from d2v.errors import ConfigError, DataError
from d2v.interchange.load import Model, check_finite
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.progress import Progress, log

Made = Callable[[], Any]
"""Reads an item, as `Model.to_inputs` takes a list of."""


@dataclass
class Items:
    """The distinct items of a modality, each with a name of its own.

    Attributes:
        modality: name of it.
        keys: of each item: its text, or a name.
        read: of each item.
        is_text: whether the keys are the items themselves.
    """

    modality: str
    keys: list[str] = field(default_factory=list)
    read: list[Made] = field(default_factory=list)
    is_text: bool = False
    _rows: dict[str, int] = field(default_factory=dict)

    def row(self, key: str, read: Made) -> int:
        """The row of an item; a new one of a new key."""
        if key not in self._rows:
            self._rows[key] = len(self.keys)
            self.keys.append(key)
            self.read.append(read)
        return self._rows[key]


@one_at_a_time
def encode_pairs(config: AlignConfig, corpora: Mapping[str, Path], models: Mapping[str, Model], out: Path) -> Path:
    """Write the features of all items that the recipe's pairs name into `out`; what is there of the same encoders and
    pairs is kept.

    Args:
        config: the recipe.
        corpora: modality -> folder that ingest left.
        models: modality -> its encoder.
        out: folder, made anew.

    Raises:
        ConfigError: pairs of a corpus without texts, or a table without such columns.
        DataError: no corpus or table, an item that cannot be read, or too few pairs.
    """
    items: dict[str, Items] = {}
    kinds = {name: _pairs(name, kind, corpora, items) for name, kind in config.pairs.items()}
    identity = _identity(config, models, items, kinds)
    if _is_up_to_date(out, identity):
        log(f"align: features of {_counted(items)} are there")
        return out
    out.mkdir(parents=True, exist_ok=True)
    (out / FEATURES).unlink(missing_ok=True)
    with full_disk_named(out, DataError, "Nothing of it is used."):
        for name, some in items.items():
            rows = _encode(models[name], some, config)
            np.savez(out / f"{name}.npz", features=rows)
        write_json(out / TEXTS, {name: some.keys for name, some in items.items() if some.is_text})
        parted = {}
        for name, (pairs, is_test) in kinds.items():
            keys = [items[pairs.second].keys[row] for row in pairs.second_rows.tolist()]
            parted[name] = hold_out(pairs, keys, is_test, config.held_out)
        found: dict[str, Any] = {}
        for name, held in apart(parted).items():
            pairs = kinds[name][0]
            sides = {"first": pairs.first, "second": pairs.second}
            parts = {part: getattr(held, part) for part in ("train", "test", "known")}
            rows_of = {part: [one.first_rows.tolist(), one.second_rows.tolist()] for part, one in parts.items()}
            found[name] = sides | rows_of
            counts = ", ".join(f"{len(one):,} {part}" for part, one in parts.items())
            log(f"align: {name}: {len(pairs):,} pairs of {pairs.first} and {pairs.second} ({counts})")
        files = {name: digests.of_file(out / name) for name in [*(f"{name}.npz" for name in items), TEXTS]}
        about = {"identity": identity, "modalities": sorted(items), "kinds": found, "files": files}
        write_json(out / FEATURES, about)
    return out


# ------------------------------------------------------------------------------------------------ pairs


def _pairs(
    name: str, kind: PairsConfig, corpora: Mapping[str, Path], items: dict[str, Items]
) -> tuple[Pairs, np.ndarray]:
    """(pairs, whether the source counts the first item of each as a test item); their items join `items`."""
    if registry.get(kind.first).takes_words:
        raise ConfigError(f"align.pairs.{name}.first is {kind.first}, which reads texts: name that side second")
    if kind.table is None and not registry.get(kind.second).takes_words:
        raise ConfigError(
            f"align.pairs.{name} pairs {kind.first} with {kind.second}, and a corpus says texts alone of its items: "
            "give a table"
        )
    rows = list(_of_corpus(kind, corpora[kind.first]) if kind.table is None else _of_table(name, kind))
    if not rows:
        raise DataError(f"align.pairs.{name} has no pairs: give a corpus or a table with both sides of some items")
    if kind.most is not None and len(rows) > kind.most:
        rows = [rows[number] for number in np.linspace(0, len(rows) - 1, kind.most).astype(int).tolist()]
    for modality in (kind.first, kind.second):
        items.setdefault(modality, Items(modality, is_text=registry.get(modality).takes_words))
    sides = [
        np.array([items[modality].row(key, read) for key, read in some], np.int64)
        for modality, some in ((kind.first, [row[0] for row in rows]), (kind.second, [row[1] for row in rows]))
    ]
    is_test = np.array([row[2] for row in rows], dtype=bool)
    return Pairs(name, kind.first, kind.second, *sides), is_test


Side = tuple[str, Made]
"""Key of an item, and what reads it."""


def _of_corpus(kind: PairsConfig, folder: Path) -> Iterator[tuple[Side, Side, bool]]:
    corpus, modality = Corpus(folder), registry.get(kind.first)
    texts, by_split = modality.captions(corpus), corpus.items_by_split("items")
    is_test = np.zeros(len(corpus), dtype=bool)
    is_test[by_split["test"]] = True
    chosen = np.sort(np.concatenate([by_split["train"], by_split["test"]]))
    for number in chosen.tolist():
        if text := texts[number]:
            read = _Stored(corpus, modality, number)
            yield (f"{corpus.fingerprint[:16]}/{number}", read), (text, _Said(text)), bool(is_test[number])


@dataclass(frozen=True)
class _Stored:
    """Reads an item of a corpus."""

    corpus: Corpus
    modality: Modality
    number: int

    def __call__(self) -> object:
        (data,) = self.corpus.data([self.number])
        return self.modality.from_record(Record(data, {}))


@dataclass(frozen=True)
class _Said:
    """A text, or the path of a file, from a table."""

    cell: str

    def __call__(self) -> object:
        return self.cell


def _of_table(name: str, kind: PairsConfig) -> Iterator[tuple[Side, Side, bool]]:
    table = Path(cast(str, kind.table))
    read = _read_table(table, f"align.pairs.{name}.table")
    columns = kind.columns or (kind.first, kind.second)
    if missing := [column for column in columns if column not in read.columns]:
        raise ConfigError(
            f"{table} has no column {', '.join(missing)}, only {', '.join(map(str, read.columns))}: name two of them "
            f"in align.pairs.{name}.columns"
        )
    splits = read["split"].astype(str).tolist() if "split" in read.columns else [""] * len(read)
    for first, second, split in zip(*(read[column].tolist() for column in columns), splits, strict=True):
        cells = [_cell(modality, cell, table.parent) for modality, cell in ((kind.first, first), (kind.second, second))]
        if all(cells):
            yield (cells[0], _Said(cells[0])), (cells[1], _Said(cells[1])), split == "test"


def _read_table(table: Path, key: str) -> pd.DataFrame:
    if not table.is_file():
        raise DataError(f"{table} is not there: give {key} a CSV, TSV, JSON-lines or Parquet file")
    try:
        if table.suffix == ".parquet":
            return pd.read_parquet(table)
        if table.suffix in (".jsonl", ".json"):
            return pd.read_json(table, lines=True, dtype=False)
        return pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise DataError(
            f"{table} cannot be read as a table ({one_line(str(error))}): mend it, or give another"
        ) from error


def _cell(modality: str, cell: object, folder: Path) -> str:
    """An item as `Model.encode` takes it: a text, or a path from the table's folder; "" of an empty cell."""
    text = "" if cell is None or cell != cell else str(cell)
    return text if not text or registry.get(modality).takes_words else str(folder / text)


# --------------------------------------------------------------------------------------------- encoding


def _encode(model: Model, items: Items, config: AlignConfig) -> np.ndarray:
    """(n, D) float32, in the order of the rows."""
    if model.batch_size > 1:  # else its features depend on padding
        model.batch_size = config.batch_items
    modality = registry.get(items.modality)
    limit, found = model.batch_limit(), dict[int, np.ndarray]()
    read = ((row, modality.read_item(one())) for row, one in enumerate(items.read))
    with Progress(f"encode {items.modality}", len(items.keys)) as progress:
        for window in limit.windows(read, lambda one: model.tokens_of(one[1])):
            for numbers in limit.by_length([model.tokens_of(raw) for _, raw in window]):
                inputs = model.to_inputs([window[number][1] for number in numbers], long="windows")
                rows = model.head_inputs(inputs, config.features)
                found |= {window[number][0]: row for number, row in zip(numbers, rows, strict=True)}
            progress.advance(len(window))
    rows = np.stack([found[row] for row in range(len(items.keys))])
    for number in np.flatnonzero(~np.isfinite(rows).all(axis=1))[:1].tolist():
        check_finite(rows[number], items.keys[number])
    return rows


def _identity(
    config: AlignConfig, models: Mapping[str, Model], items: Mapping[str, Items], kinds: Mapping[str, Any]
) -> dict[str, Any]:
    """What features and pairs depend on."""
    digest = hashlib.sha256()
    for name, some in sorted(items.items()):
        for key in some.keys:
            digest.update(f"{name}\0{key}\0{_changed_s(some, key)}\n".encode("utf-8", "surrogatepass"))
    for name, (pairs, is_test) in sorted(kinds.items()):
        digest.update(name.encode() + pairs.first_rows.tobytes() + pairs.second_rows.tobytes() + is_test.tobytes())
    encoders = {name: models[name].fingerprint() for name in sorted(items)}
    identity = {"encoders": encoders, "pairs": digest.hexdigest(), "reads": config.features}
    return identity | {"held_out": config.held_out, "rules": RULES}


def _changed_s(items: Items, key: str) -> float:
    """When the file of a table's item was modified last; 0 of texts, and of items of a corpus, which its fingerprint
    names."""
    path = Path(key)
    return 0.0 if items.is_text or not path.is_file() else path.stat().st_mtime


def _is_up_to_date(out: Path, identity: Mapping[str, Any]) -> bool:
    try:
        return bool(read_pair_features(out).about["identity"] == dict(identity))
    except (DataError, KeyError, OSError, ValueError):
        return False


def _counted(items: Mapping[str, Items]) -> str:
    return ", ".join(f"{len(some.keys):,} items of {name}" for name, some in items.items())
