"""Shared by every prepare step: reading a corpus, being up to date or not, swapping in, and the probe's rows.

A prepared folder holds `train/`, `val/` and `test/` shards, `items.parquet` with what the corpus says of their rows,
what ingest counted in `ingested.json` and, written last, `prepared.json`. Folders of earlier versions have no `val/`
and no `items.parquet`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from d2v.config import Block, ClusterConfig
from d2v.data import digests, fingerprint
from d2v.data.disk import full_disk_named, one_at_a_time, read_json, swap_in, write_json
from d2v.data.ingest import CORPUS, MANIFEST, SHARDS
from d2v.data.parallel import ordered_map
from d2v.data.store import SHARD_SUFFIX, ShardReader, ShardWriter
from d2v.errors import DataError
from d2v.progress import Progress, log

if TYPE_CHECKING:
    import pandas as pd

PREPARED, INGESTED, ITEMS = "prepared.json", "ingested.json", "items.parquet"
SHARD_BYTES = 64 * 2**20
PREPARED_KEYS = {"train_items": int, "test_items": int, "fingerprint": str}
"""What every modality's prepared.json holds."""
INGEST_COUNTS = ("total", "kept", "quarantined", "duplicates", "across_splits", "contradictions")
INGEST_WORDS = {
    "quarantined": "quarantined",
    "duplicates": "duplicates",
    "contradictions": "in two classes",
    "changed": "read with a note (cut, scaled, turned ...)",
    "remarks": "remarks",
}
"""What is said of ingest's counts, by their names."""
CHECKED_BYTES = 2**30
"""The largest prepared folder whose shards are checked whenever it is opened; `d2v verify` checks every one."""
UNLABELLED = -1
"""The class id of items without a class."""
KNOWN_DIGESTS = ".digests"
"""File of a folder that is being prepared, with digests that need not be computed again."""
KEPT_OF_ITEMS = ("key", "split", "group", "fold", "speaker")
"""Columns of the manifest that a prepared folder keeps: what an item is called and belongs together with."""


class Corpus:
    """A finished corpus, opened for reading. Its items are counted from 0 in the order of its manifest.

    Args:
        folder: what ingest left.

    Raises:
        DataError: there is no finished corpus.
    """

    def __init__(self, folder: Path) -> None:
        self.about = read_corpus(folder)
        digests.check(folder, [CORPUS, MANIFEST], DataError, f"Remove {folder} and run the ingest step again")
        self.folder, self.shards = folder, ShardReader(folder / SHARDS)
        self.splits = np.array(self.column("split"), dtype=object)
        self._rows = self.integers("row")

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def source(self) -> str:
        """Where it came from, for people."""
        return str(self.about["source"])

    @property
    def fingerprint(self) -> str:
        """Hash of its contents."""
        return str(self.about["report"]["fingerprint"])

    @property
    def licence(self) -> str:
        """What its items are under; "" if the source does not say."""
        return str(self.about.get("licence", ""))

    @property
    def counts(self) -> dict[str, int]:
        """What ingest counted, and the number of its remarks."""
        report = self.about["report"]
        counted = {name: report.get(name, 0) for name in INGEST_COUNTS}
        return {**counted, "changed": sum(report.get("notes", {}).values()), "remarks": len(report.get("remarks", ()))}

    @property
    def settings(self) -> dict[str, Any]:
        """How it is to be read; empty for corpora that do not say."""
        return dict(self.about.get("settings", {}))

    def column(self, name: str) -> list[Any]:
        """One column of the manifest, without shards being read.

        Raises:
            DataError: the corpus has no such column.
        """
        columns = manifest_columns(self.folder)
        if name not in columns:
            raise DataError(
                f"The corpus {self.folder} has no column {name}, only {', '.join(columns)}: name one of them, or run "
                "the ingest step again"
            )
        with _whole_manifest(self.folder):
            return pq.read_table(self.folder / MANIFEST, columns=[name]).column(name).to_pylist()

    def integers(self, name: str) -> np.ndarray:
        """An integer column of the manifest as an int64 array."""
        return np.array(self.column(name), dtype=np.int64)

    def rows_of(self, items: np.ndarray) -> np.ndarray:
        """(n,) int64 rows of the shards of some items."""
        return self._rows[items]

    def data(self, items: Sequence[int] | np.ndarray) -> Iterator[bytes]:
        """Stored contents of some items, one at a time."""
        return (self.shards.binary("data", int(self._rows[item])) for item in items)

    def classes(self, column: str = "label") -> tuple[list[str], np.ndarray]:
        """Class names, and the class id of every item (int64, UNLABELLED without one), from `label` or another column
        of strings."""
        values = self.column(column)
        found = sorted({str(value) for value in values if value is not None})
        names = list(self.about["report"]["class_names"]) if column == "label" else found
        ids = {name: number for number, name in enumerate(names)}
        return names, np.array([ids.get(value, UNLABELLED) for value in values], dtype=np.int64)

    def items_by_split(self, noun: str) -> dict[str, np.ndarray]:
        """Ascending items of "train" and of "test"; a source without a test split is tested on its val split.

        Args:
            noun: what the items are, for the message.

        Raises:
            DataError: nothing to train on.
        """
        test_split = next((name for name in ("test", "val") if (self.splits == name).any()), "")
        train, test = (np.flatnonzero(self.splits == split) for split in ("train", test_split))
        if not len(train):
            raise DataError(
                f"The corpus of {self.source} has no train {noun} (its splits: {set(self.splits)}): lower "
                "ingest.test_fraction or give a source with a train split"
            )
        return {"train": train, "test": test}

    def validation_items(self) -> np.ndarray:
        """Ascending items of the val split; none where they are what is tested on."""
        has_test = bool((self.splits == "test").any())
        return np.flatnonzero(self.splits == "val") if has_test else np.zeros(0, dtype=np.int64)


Facts = Mapping[str, Any]
"""What was found of an item while its row was made: plain values, among them columns of the row."""
Make = Callable[[bytes], tuple[bytes, Facts]]
"""What the corpus stores of an item -> what the prepared row holds, and facts about it. A module's function, or a
partial of one, so that a cluster can make rows too."""
Columns = Callable[[int], dict[str, Any]]
"""Item -> columns of its row that are known before it is made."""


class RowWriter:
    """Writes the parts of a prepared folder: an item of the corpus is a row.

    Args:
        corpus: whose items.
        folder: that is being prepared.
    """

    def __init__(self, corpus: Corpus, folder: Path) -> None:
        self.corpus, self.folder = corpus, folder

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Nothing to end."""

    def write(
        self, part: str, schema: pa.Schema, items: np.ndarray, make: Make, columns: Columns, progress: Progress
    ) -> Iterator[Facts]:
        """Write a part, as its facts are asked for.

        Args:
            part: name of the shards' folder.
            schema: of a row: what `columns` and `make` give, and `data`.
            items: of the corpus, row by row.
            make, columns: see their types.
            progress: counts the rows.
        """
        writer = ShardWriter(self.folder / part, schema, SHARD_BYTES)
        for item, (data, facts) in zip(items, ordered_map(make, self.corpus.data(items)), strict=True):
            of_row = {name: facts[name] for name in schema.names if name in facts}
            writer.append(columns(int(item)) | of_row | {"data": data})
            progress.advance()
            yield facts
        writer.flush()


def row_writer(corpus: Corpus, folder: Path, config: Block) -> RowWriter:
    """The writer of a prepare block's engine: of this process, or of a cluster."""
    if getattr(config, "engine", "local") == "local":
        return RowWriter(corpus, folder)
    from d2v.data.cluster.prepare import ClusterRowWriter

    cluster: ClusterConfig = getattr(config, "cluster", ClusterConfig())
    return ClusterRowWriter(corpus, folder, cluster, shaping(config))


def shaping(config: Block) -> dict[str, Any]:
    """The values of a prepare block that shape what is written."""
    return config.model_dump(exclude={"engine", "cluster"})


def write_items(folder: Path, corpus: Corpus, parts: Mapping[str, np.ndarray]) -> None:
    """Leave `items.parquet`: for each row of each part, its item in the corpus and what the corpus says of it.

    Args:
        folder: that is being prepared.
        corpus: what the items are of.
        parts: name of the shards' folder -> items, row by row.
    """
    names = [name for name in KEPT_OF_ITEMS if name in pq.read_schema(corpus.folder / MANIFEST).names]
    manifest = pq.read_table(corpus.folder / MANIFEST, columns=names)
    tables = [
        manifest.take(pa.array(items))
        .append_column("part", pa.array([part] * len(items), pa.string()))
        .append_column("item", pa.array(items, pa.int64()))
        for part, items in parts.items()
    ]
    pq.write_table(pa.concat_tables(tables), folder / ITEMS)


@one_at_a_time
def bring_up_to_date(
    corpus: Path,
    out: Path,
    parameters: Mapping[str, Any],
    build: Callable[[Corpus, Path], Mapping[str, Any]],
    summary: Callable[[Mapping[str, Any]], str],
) -> dict[str, Any]:
    """Prepare a corpus into `out`, unless that was done; the earlier folder stays until the new one is whole.

    Args:
        corpus: the corpus folder.
        out: the prepared folder.
        parameters: all that shapes the result beside the corpus.
        build: (corpus, empty folder) -> plain values that describe what it wrote into the folder.
        summary: one line on such a description, for people.

    Returns:
        The contents of `prepared.json`: what `build` gave, with its own and its corpus's fingerprint.

    Raises:
        DataError: there is no finished corpus, nothing to train on, or the disk is full.
    """
    opened = Corpus(corpus)
    settings = {"settings": opened.settings} if opened.settings else {}
    identity = fingerprint.of_values({"corpus": opened.fingerprint, "parameters": dict(parameters), **settings})
    if (out / PREPARED).is_file():
        done = read_json(out / PREPARED, DataError, "remove it, and run the prepare step again", {"fingerprint": str})
        if done["fingerprint"] == identity:
            log(f"prepare: {out} is up to date ({summary(done)})")
            return done
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with full_disk_named(out, DataError, "The corpus and the earlier prepared data are untouched."):
        partial.mkdir(parents=True)
        licence = {"licence": opened.licence} if opened.licence else {}
        content = {
            **build(opened, partial),
            **licence,
            "corpus_fingerprint": opened.fingerprint,
            "fingerprint": identity,
        }
        write_json(partial / INGESTED, opened.counts | {"corpus": Path(os.path.relpath(corpus, out)).as_posix()})
        write_json(partial / PREPARED, content)
        known = partial / KNOWN_DIGESTS
        digests.seal(partial, json.loads(known.read_text()) if known.exists() else None)
        known.unlink(missing_ok=True)
        swap_in(partial, out)
        shutil.rmtree(out.with_name(f".{out.name}.cluster"), ignore_errors=True)
    log(f"prepare: {summary(content)}")
    return content


def log_ingest(prepared: Path, step: str) -> None:
    """Say in one line what ingest left out or remarked on, for those who did not see it; nothing where it had nothing
    to say, or where an earlier version prepared the data.

    Args:
        prepared: folder that prepare left.
        step: whose line it is.
    """
    if not (prepared / INGESTED).is_file():
        return
    counts = read_json(prepared / INGESTED, DataError, "run the prepare step again", {"corpus": str})
    words = [f"{counts[name]:,} {said}" for name, said in INGEST_WORDS.items() if counts.get(name)]
    if words:
        corpus = Path(os.path.normpath(prepared / counts["corpus"]))
        log(f"{step}: of {counts['total']:,} items ingest counted {', '.join(words)}: see {corpus / CORPUS}")


def _check(folder: Path) -> None:
    """All files of a prepared folder; of a large one those that are no shards, as reading all of it would take long."""
    names = [name for name in digests.read(folder) if (folder / name).is_file()]
    if sum((folder / name).stat().st_size for name in names) > CHECKED_BYTES:
        names = [name for name in names if not name.endswith(SHARD_SUFFIX)]
    digests.check(folder, names, DataError, f"Remove {folder} and run the prepare step again")


class PreparedFolder:
    """A prepared folder, opened for reading; safe to hand to worker processes.

    Args:
        folder: what prepare left.
        noun: what the items are, for the message.

    Attributes:
        about: the contents of `prepared.json`.
        folder: the folder.
        train, val, test: shards of the splits; `val` has no rows where the corpus has none beside a test split.

    Raises:
        DataError: the folder is not a prepared one, or shards are missing or damaged.
    """

    def __init__(self, folder: Path, noun: str) -> None:
        self.about = read_json(folder / PREPARED, DataError, "run the prepare step first", PREPARED_KEYS)
        _check(folder)
        self.folder = folder
        self.train, self.test = ShardReader(folder / "train"), ShardReader(folder / "test")
        self.val = ShardReader(folder / "val")
        found = (len(self.train), len(self.test))
        if found != (self.about["train_items"], self.about["test_items"]):
            items = " and ".join(f"{count} {split}" for count, split in zip(found, ("train", "test"), strict=True))
            raise DataError(f"{folder} lacks shards (found {items} {noun}): remove it and prepare again")

    @property
    def fingerprint(self) -> str:
        """Hash of the corpus and of all that shaped the preparation."""
        return str(self.about["fingerprint"])

    @property
    def corpus_fingerprint(self) -> str:
        """Hash of the corpus."""
        return str(self.about["corpus_fingerprint"])

    def items(self, part: str) -> pd.DataFrame | None:
        """What the corpus says of the rows of a part, row by row: `item` in its manifest, `key`, `split`, `group`,
        `fold`, and `speaker` of recordings. None where that is not known, as in folders of earlier versions.

        Args:
            part: name of the shards' folder.
        """
        import pandas as pd  # imported late: ingest does not wait for it

        if not (self.folder / ITEMS).is_file():
            return None
        table = pd.read_parquet(self.folder / ITEMS, filters=[("part", "==", part)])
        return table.reset_index(drop=True) if len(table) else None

    @property
    def corpus(self) -> Path | None:
        """The corpus folder, if it is still where it was."""
        if not (self.folder / INGESTED).is_file():
            return None
        about = read_json(self.folder / INGESTED, DataError, "run the prepare step again", {"corpus": str})
        folder = Path(os.path.normpath(self.folder / about["corpus"]))
        return folder if (folder / MANIFEST).is_file() else None

    @property
    def has_own_test_items(self) -> bool:
        """Whether probes are tested on the corpus's test split, and not on items taken from train."""
        return self.about["test_items"] > 0 and self.about.get("probe_test_from", "test") == "test"

    @property
    def num_train(self) -> int:
        """Items for pretraining."""
        return int(self.about["train_items"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by id; empty when there are no labels."""
        return tuple(self.about["class_names"])


def balanced_subset(labels: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Ascending rows of at most `count` labelled items, classes taking turns until they run out."""
    ranked: list[tuple[int, float, int]] = []
    for label in np.unique(labels[labels != UNLABELLED]):
        members = random.permutation(np.flatnonzero(labels == label))
        ranked += [(turn, random.random(), int(row)) for turn, row in enumerate(members)]
    return np.sort(np.array([row for _, _, row in sorted(ranked)[:count]], dtype=np.int64))


def probe_rows(labels: Mapping[str, np.ndarray], counts: Mapping[str, int], seed: int) -> dict[str, list[int]]:
    """Fixed rows of both splits with as equal class counts as the data allows; empty if unlabelled.

    Args:
        labels: class ids of the rows of "train" and of "test".
        counts: at most so many rows of each.
        seed: another one gives another subset.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    return {split: balanced_subset(labels[split], counts[split], random).tolist() for split in ("train", "test")}


def manifest_columns(corpus: Path) -> list[str]:
    """Names of the columns of a corpus's manifest. Raises DataError if it is damaged."""
    with _whole_manifest(corpus):
        return list(pq.read_schema(corpus / MANIFEST).names)


@contextmanager
def _whole_manifest(corpus: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{corpus / MANIFEST} cannot be read ({error}): remove {corpus} and run the ingest step again"
        ) from error


def read_corpus(folder: Path) -> dict[str, Any]:
    """The contents of a corpus's corpus.json.

    Raises:
        DataError: there is no finished corpus, or the file is not what ingest wrote.
    """
    about = read_json(folder / CORPUS, DataError, "run the ingest step first", {"source": str, "report": dict})
    if not isinstance(about["report"].get("fingerprint"), str):
        raise DataError(
            f"{folder / CORPUS} is not what was written (its report lacks fingerprint): remove {folder} and run the "
            "ingest step again"
        )
    return about
