"""From a source to shards, whatever the modality: hash, read, quarantine, deduplicate, split, write, journal.

A corpus folder holds `shards/`, `manifest.parquet` (one row per kept item), `quarantine.csv`, `duplicates.csv` and,
written last, `corpus.json`. Memory is one shard, the items under way and about 250 bytes per item for its hash and key.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from d2v.config.credentials import without_credentials
from d2v.data import digests, fingerprint
from d2v.data.cluster.remote import Remote
from d2v.data.corpus_labels import CorpusLabels
from d2v.data.disk import full_disk_named, one_at_a_time, swap_in, write_json
from d2v.data.parallel import ordered_map
from d2v.data.sources.source import Item, Source
from d2v.data.store import ShardReader, ShardWriter, shard_path
from d2v.data.workers import WorkerDied, Workers
from d2v.errors import DataError
from d2v.progress import Progress, log

CORPUS, MANIFEST, SHARDS = "corpus.json", "manifest.parquet", "shards"
QUARANTINE, DUPLICATES, JOURNAL = "quarantine.csv", "duplicates.csv", "journal.json"
CSV_HEADS = {
    QUARANTINE: ("key", "reason", "items"),
    DUPLICATES: ("key", "duplicate_of", "across_splits", "contradiction"),
}
LATER_KEYS = ("no_label", "columns", "delimiter", "header", "parted_groups", "bits")
"""Keys of ingest blocks that the first corpora did not have; null means that nothing is said."""
BELONGS = ("group", "fold")
"""Columns of the manifest that say what an item belongs together with; corpora of earlier versions have none."""
GROUPS_SHOWN = 6
BUNCH_ITEMS, BUNCH_BYTES = 16, 1 << 16
WORKER_ITEMS, WORKER_BYTES = 64, 1 << 20
"""What goes to a thread, or through it to a worker, at a time: so many items, or as many as hold so many bytes."""
PartedGroups = Literal["move", "refuse"]
RULES = 2
"""Raised when names and values are understood in another way, so that the same source can give other classes or splits.
A corpus that is already there stays as it is."""


class Rejected(Exception):
    """An item that cannot be used; the message is the reason that the quarantine gives."""


@dataclass(frozen=True)
class Record:
    """An item that was read: what is stored, facts such as its size, what was done to it, what it says about itself,
    and what its file was: its format, what wrote it."""

    data: bytes
    facts: Mapping[str, int]
    note: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)


@dataclass
class IngestReport:
    """Counts of a source's items: `total` = `kept` + `quarantined` + `duplicates`.

    `origins` counts what the files of items were: name, such as "format", -> value -> items. Like `notes`, it also
    counts train items that a test item of the same content replaced. `classes` counts the kept items: split -> class ->
    items. Corpora of earlier versions have neither.
    """

    total: int = 0
    kept: int = 0
    quarantined: int = 0
    duplicates: int = 0
    across_splits: int = 0
    contradictions: int = 0
    class_names: list[str] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    origins: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    fingerprint: str = ""

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {count:,}" for name, count in sorted(self.splits.items()))
        contradictions = f", {self.contradictions:,} in two classes" if self.contradictions else ""
        return (
            f"{self.total:,} items = {self.kept:,} kept + {self.quarantined:,} quarantined + "
            f"{self.duplicates:,} duplicates ({self.across_splits:,} across splits{contradictions}); {splits}"
        )

    def balance(self) -> str:
        """How many items the classes of the train split have, in one line; "" without classes."""
        counts = self.classes.get("train", {})
        if len(counts) < 2:
            return ""
        order = sorted(counts, key=lambda name: (-counts[name], name))
        first, last, total = order[0], order[-1], sum(counts.values())
        return (
            f"{len(counts):,} classes of {total:,} train items, from {counts[last]:,} ({last}) to {counts[first]:,} "
            f"({first}); always answering {first} would be right for {100 * counts[first] / total:.1f}% of them"
        )


Reader = Callable[[bytes | np.ndarray], Record]
REASON_CHARACTERS = 500
LABEL_CHARACTERS = 10_000
MOST_ORIGINS, OTHER_ORIGINS = 100, "others"
"""How many formats and writers are counted by name, for files may say anything."""


def named_error(error: BaseException) -> str:
    """An error for people: its type, and what it says if it says something."""
    try:
        said = str(error)
    except Exception:  # an error that cannot even be printed
        said = ""
    return f"{type(error).__name__}: {one_line(said)}" if said.strip() else type(error).__name__


def refusal(error: BaseException) -> str:
    """Why an item cannot be used, from what its reader raised: whatever a decoder raises is a reason."""
    return str(error) if isinstance(error, Rejected) else f"its decoder failed: {named_error(error)}"


def one_line(text: str) -> str:
    """A text for a table: one line, of bounded length, in characters that can be written."""
    plain = " ".join(text.encode("utf-8", "backslashreplace").decode().replace("\0", "").split())
    return plain if len(plain) <= REASON_CHARACTERS else plain[: REASON_CHARACTERS - 3] + "..."


def _check_label(label: str | None) -> None:
    if len(label or "") > LABEL_CHARACTERS:
        raise Rejected(f"its label has {len(label or ''):,} characters, which is no name of a class")


def _check_texts(texts: Mapping[str, str | None]) -> None:
    for name, text in texts.items():
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise Rejected(f"its {name} is no valid text: it has half of a surrogate pair") from None


def _bunches(items: Iterable[Item], most_items: int, most_bytes: int) -> Iterator[list[Item]]:
    """Items for one call of a thread or a worker, which costs as much as reading a small one."""
    bunch: list[Item] = []
    size = 0
    for item in items:
        bunch.append(item)
        size += item.data.nbytes if isinstance(item.data, np.ndarray) else len(item.data or b"")
        size += len(item.label or "")
        if len(bunch) == most_items or size >= most_bytes:
            yield bunch
            bunch, size = [], 0
    if bunch:
        yield bunch


_Reading = tuple[bytes, Record | None, str]
"""Digest of an item's content; what was read, or the reason for its quarantine."""
_Sent = tuple[bytes, tuple[Any, ...] | None, str]
"""The same from a worker, with the record as its fields; None for `data` that is the item's own."""


def _reading(read: Reader, data: bytes | np.ndarray) -> _Reading:
    """This is the boundary that nothing in a file gets past: whatever its decoder raises is the reason for its
    quarantine."""
    digest = b""
    try:
        digest = fingerprint.content_hash(data)
        return digest, read(data), ""
    except BaseException as error:  # some decoders' own errors are not Exceptions
        return digest, None, refusal(error)


def _sent(read: Reader, data: bytes) -> _Sent:
    """A reading in a worker, as what costs least to send."""
    digest, record, reason = _reading(read, data)
    if record is None:
        return digest, None, reason
    stored = None if record.data is data else record.data
    return digest, (stored, dict(record.facts), record.note, dict(record.texts), dict(record.origin)), reason


def _received(sent: _Sent | WorkerDied, data: bytes) -> _Reading:
    if isinstance(sent, WorkerDied):
        return b"", None, f"its decoder failed twice: {sent}"
    digest, fields, reason = sent
    if fields is None:
        return digest, None, reason
    stored, *rest = fields
    return digest, Record(data if stored is None else stored, *rest), reason


@dataclass(frozen=True)
class Outcome:
    """One item after reading: a record, or the reason for its quarantine."""

    item: Item
    digest: bytes
    record: Record | None
    reason: str


class Inspection:
    """Reads items with threads, in order.

    Args:
        read: bytes or array -> Record; raises Rejected.
        in_workers: call `read` for encoded files in processes that may die.
        threads: at most so many items, or bunches of them, are read at a time.
        one_by_one: send items to the processes alone, so that each is tried twice before it is given up.
    """

    def __init__(self, read: Reader, in_workers: bool, threads: int, one_by_one: bool = False) -> None:
        self.read, self.in_workers, self.threads = read, in_workers, threads
        self._most = (
            (1, 1) if one_by_one else (WORKER_ITEMS, WORKER_BYTES) if in_workers else (BUNCH_ITEMS, BUNCH_BYTES)
        )
        self._workers = Workers(partial(_sent, read), threads)

    def __enter__(self) -> Inspection:
        return self

    def __exit__(self, *_: object) -> None:
        self._workers.__exit__()

    def outcomes(self, items: Iterable[Item]) -> Generator[Outcome, None, None]:
        """Each item with its record, or the reason for its quarantine."""
        bunches = _bunches(items, *self._most)
        with closing(ordered_map(self._inspect_all, bunches, self.threads)) as inspected:
            yield from chain.from_iterable(inspected)

    def _inspect_all(self, items: Sequence[Item]) -> list[Outcome]:
        """Read items, encoded files of a modality with native decoders in a worker, which may die. It runs in a thread,
        which Ctrl-C does not reach."""
        readings: dict[int, _Reading] = {}
        if self.in_workers:
            encoded = {n: one.data for n, one in enumerate(items) if isinstance(one.data, bytes) and not one.refused}
            sent = self._workers.map(list(encoded.values())) if encoded else []
            readings = {n: _received(one, data) for (n, data), one in zip(encoded.items(), sent, strict=True)}
        return [self._inspect(item, readings.get(n)) for n, item in enumerate(items)]

    def _inspect(self, item: Item, reading: _Reading | None) -> Outcome:
        if item.data is None or item.refused:
            return Outcome(item, b"", None, item.refused or "it has no content")
        digest, record, reason = reading or _reading(self.read, item.data)
        if record is not None:
            try:
                _check_label(item.label)
                _check_texts({"label": item.label, **item.texts, **record.texts})
            except Rejected as error:
                return Outcome(item, digest, None, str(error))
        return Outcome(item, digest, record, reason)


def schema_of(facts: Sequence[str], texts: Sequence[str]) -> pa.Schema:
    """Columns of a corpus's shards."""
    text = [(name, pa.string()) for name in ("key", "split", "label", "note", *BELONGS, *texts)]
    return pa.schema(
        [*text, ("sha256", pa.binary(32)), *((name, pa.int64()) for name in facts), ("data", pa.large_binary())]
    )


def split_of(item: Item, digest: bytes, test_fraction: float) -> str:
    """The split that an item says, else by the hash of its group or of its content."""
    if item.split:
        return item.split
    if item.group is not None:
        digest = fingerprint.content_hash(item.group.encode("utf-8", "surrogatepass"))
    return fingerprint.hash_split(digest, test_fraction)


@one_at_a_time
def ingest(
    source: Source,
    read: Reader,
    facts: tuple[str, ...],
    out: Path,
    parameters: Mapping[str, Any],
    shard_bytes: int,
    test_fraction: float,
    texts: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
    no_label: Sequence[str] | None = None,
    parted_groups: PartedGroups | None = None,
    advice: Mapping[str, str] | None = None,
    in_workers: bool = False,
    remote: Remote | None = None,
) -> IngestReport:
    """Bring `out` up to date with a source.

    Unchanged source and parameters: a quick check, even where today's rules of names would give other classes or
    splits. A killed ingest goes on after its last whole shard. A change builds a new corpus beside the old one, which
    is replaced when the new one is whole.

    Args:
        source: items in a fixed order.
        read: bytes or array -> Record; raises Rejected.
        facts: names of the integer facts that `read` gives.
        out: the corpus folder.
        parameters: everything else that shapes the corpus.
        shard_bytes: payload per shard.
        test_fraction: of the hash split, for items without a split of their own.
        texts: names of the strings that items and records may carry; each is a column of the corpus.
        settings: how the corpus is to be read, recorded in it. They do not change it: an unchanged corpus keeps those
            that it was made with.
        no_label: labels that mean none; None: -1 does, unless it is one of the classes -1, 0 and 1.
        parted_groups: what to do with groups of which the source itself puts items into several splits: `move` takes
            their training items into the other split, `refuse` raises; None leaves them, and names them.
        advice: what to do about notes that `read` gives; a remark counts the items with such a note.
        in_workers: call `read` for encoded files in processes that may die: an item that ends one is tried once more
            alone, then quarantined.
        remote: read on a cluster instead of in this process; the corpus has the same bytes.

    Raises:
        DataError: nothing could be kept, the counts do not add up, or the disk is full.
    """
    identity = fingerprint.of_values({"source": source.fingerprint, "parameters": dict(parameters)})
    if report := _unchanged(out, identity):
        log(f"ingest: {source.description} is unchanged since it was read; {report}{_older_rules(out)}")
        return report
    if _older_rules(out):
        log(
            "ingest: the source or its settings are not those of the corpus that is there, which earlier rules of "
            "names made: classes and splits can differ from it"
        )
    folder = out.with_name(f".{out.name}.partial")
    with full_disk_named(out, DataError, "What was read so far is kept, and the earlier corpus too."):
        make = IngestPass if remote is None else _of_cluster(remote)
        run = make(
            source,
            read,
            (facts, texts),
            folder,
            identity,
            shard_bytes,
            test_fraction,
            no_label,
            parted_groups,
            in_workers,
        )
        run.stream()
        report = run.finish(parameters, settings or {}, advice or {})
        run.swap_in(out)
    for remark in report.remarks:
        log(f"ingest: {remark}")
    log(f"ingest: {report}")
    if line := report.balance():
        log(f"ingest: {line}")
    return report


def _of_cluster(remote: Remote) -> Callable[..., IngestPass]:
    from d2v.data.cluster.ingest import ClusterIngest

    return partial(ClusterIngest, remote)


def ingest_parameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an ingest block that shape the corpus, which holds no credentials. Keys that came later count where
    they are set, so that the corpora before them stay what they are."""

    def is_set(value: Any) -> bool:
        return value is not None and not (isinstance(value, dict) and all(one is None for one in value.values()))

    given = {key: value for key, value in values.items() if key not in LATER_KEYS or is_set(value)}
    parameters: dict[str, Any] = without_credentials(given)
    return parameters


def _unchanged(out: Path, identity: str) -> IngestReport | None:
    """The report of a finished corpus of this identity whose shards are all there."""
    try:
        content = json.loads((out / CORPUS).read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not isinstance(content.get("shard_bytes", {}), dict):
        return None
    shards = content.get("shard_bytes", {})
    whole = all(
        (out / SHARDS / name).is_file() and (out / SHARDS / name).stat().st_size == size
        for name, size in shards.items()
    )
    return IngestReport(**content["report"]) if content.get("identity") == identity and whole else None


def _older_rules(out: Path) -> str:
    """What to say of a corpus that earlier rules made; "" for others."""
    try:
        rules = json.loads((out / CORPUS).read_text()).get("rules", 1)
    except (OSError, ValueError, RecursionError, AttributeError):
        return ""
    advice = f"; it was read by earlier rules of names, to read it anew remove {out}"
    return advice if rules < RULES else ""


class Writer(Protocol):
    """Where rows of shards go, see `d2v.data.store.ShardWriter`."""

    shards: int

    def append(self, row: Mapping[str, Any]) -> bool:
        """Add a row; True if that completed a shard."""
        ...

    def flush(self) -> bool:
        """Write what is left; False if there was nothing."""
        ...


class IngestPass:
    """One pass over a source into the partial folder; picks up where its journal ends."""

    def __init__(
        self,
        source: Source,
        read: Reader,
        columns: tuple[tuple[str, ...], tuple[str, ...]],
        folder: Path,
        identity: str,
        shard_bytes: int,
        test_fraction: float,
        no_label: Sequence[str] | None,
        parted_groups: PartedGroups | None,
        in_workers: bool,
    ) -> None:
        self.source, self.read, self.parted_groups, self.in_workers = source, read, parted_groups, in_workers
        self.moved: dict[str, str] = {}  # key of a training item -> the split that it goes to with its group
        self.facts, self.texts = columns
        self.no_label = no_label
        self.folder, self.identity, self.test_fraction = folder, identity, test_fraction
        self.shards = folder / SHARDS
        self.seen: dict[bytes, tuple[str, str, str | None]] = {}  # digest -> split, key, label of the item that is kept
        self.groups: dict[str, str] = {}  # group -> its splits, with commas between
        self.superseded: set[bytes] = set()  # digests of train items that a test item of the same content replaces
        self.report = IngestReport()
        self.shard_bytes = shard_bytes
        self.known_digests: dict[str, str] = {}  # files of the folder whose digests need not be computed again
        journal = self._restore()
        self.writer = self._open_writer(journal["parts"])
        self.next_item = journal["next_item"]

    def _open_writer(self, first: int) -> Writer:
        return ShardWriter(self.shards, self._schema(), self.shard_bytes, first)

    def _schema(self) -> pa.Schema:
        return schema_of(self.facts, self.texts)

    # ------------------------------------------------------------------------------------ journal

    def _restore(self) -> dict[str, Any]:
        """The journal of an interrupted pass over the same source; anything after it is taken back."""
        path = self.folder / JOURNAL
        try:
            journal = json.loads(path.read_text()) if path.is_file() else {}
        except (ValueError, RecursionError):
            journal = {}  # damaged, so all is read again
        found = (journal.get("identity"), journal.get("rules"), journal.get("columns"))
        if found != (self.identity, RULES, self._schema().names) or not self._has_heads():
            shutil.rmtree(self.folder, ignore_errors=True)
            (self.folder / SHARDS).mkdir(parents=True)
            for name, head in CSV_HEADS.items():
                (self.folder / name).write_text(",".join(head) + "\r\n")
            return {"parts": 0, "next_item": 0}
        for shard in (self.folder / SHARDS).glob("part-*.arrow"):
            if shard >= shard_path(self.folder / SHARDS, journal["parts"]):
                shard.unlink()
        for name, size in journal["csv_bytes"].items():
            with (self.folder / name).open("r+b") as file:
                file.truncate(size)
        self.report = IngestReport(**journal["report"])
        self.superseded = {bytes.fromhex(digest) for digest in journal["superseded"]}
        self.groups = journal["groups"]
        stored = ShardReader(self.folder / SHARDS)
        columns = (stored.column(name) for name in ("sha256", "split", "key", "label"))
        self.seen = {digest: (split, key, label) for digest, split, key, label in zip(*columns, strict=True)}
        log(f"ingest: going on after item {journal['next_item']:,}, where it was interrupted")
        return journal

    def _has_heads(self) -> bool:
        """Whether the tables of lines have the columns of today."""
        for name, head in CSV_HEADS.items():
            with (self.folder / name).open(newline="", encoding="utf-8") as file:
                if file.readline() != ",".join(head) + "\r\n":
                    return False
        return True

    def _save_journal(self) -> None:
        content = {
            "identity": self.identity,
            "rules": RULES,
            "columns": self._schema().names,
            "groups": self.groups,
            "parts": self.writer.shards,
            "next_item": self.next_item,
            "csv_bytes": {name: (self.folder / name).stat().st_size for name in CSV_HEADS},
            "report": asdict(self.report),
            "superseded": sorted(digest.hex() for digest in self.superseded),
        }
        write_json(self.folder / JOURNAL, content)

    # ------------------------------------------------------------------------------------ stream

    def stream(self) -> None:
        """Read every item that is left."""
        with (
            Inspection(self.read, self.in_workers, os.cpu_count() or 1) as inspection,
            closing(inspection.outcomes(self.source.items(self.next_item))) as outcomes,
            Progress("ingest", self.source.total, self.next_item) as progress,
        ):
            for outcome in outcomes:
                self.next_item += outcome.item.rows
                if self._take(outcome):
                    self._save_journal()
                progress.advance(
                    outcome.item.rows, f"{self.report.kept:,} kept, {self.report.quarantined:,} quarantined"
                )
        self.writer.flush()
        self._save_journal()

    def _take(self, outcome: Outcome) -> bool:
        """Count one item and store it, unless it is quarantined or a duplicate; True if a shard was completed."""
        item, report = outcome.item, self.report
        report.total += item.rows
        if outcome.record is None:
            report.quarantined += item.rows
            self._note(QUARANTINE, item.key, one_line(outcome.reason), str(item.rows))
            return False
        split = split_of(item, outcome.digest, self.test_fraction)
        if item.group is not None and split not in self.groups.setdefault(item.group, split).split(","):
            self.groups[item.group] += f",{split}"
        if outcome.digest in self.seen and not self._replaces(outcome.digest, item, split):
            return False
        self.seen[outcome.digest] = (split, item.key, item.label)
        report.kept += 1
        if outcome.record.note:
            report.notes[outcome.record.note] = report.notes.get(outcome.record.note, 0) + 1
        self._count_origin(outcome.record.origin)
        record = outcome.record
        said = {**item.texts, **record.texts}
        row = {"key": item.key, "split": split, "label": item.label, "note": record.note}
        row |= {"group": item.group, "fold": item.fold}
        row |= {name: said.get(name) for name in self.texts}
        return self.writer.append(row | {"sha256": outcome.digest, "data": record.data} | dict(record.facts))

    def _count_origin(self, origin: Mapping[str, str]) -> None:
        for name, value in origin.items():
            counts = self.report.origins.setdefault(name, {})
            counted = value if value in counts or len(counts) < MOST_ORIGINS else OTHER_ORIGINS
            counts[counted] = counts.get(counted, 0) + 1

    def _replaces(self, digest: bytes, item: Item, split: str) -> bool:
        """Record a duplicate, and the two classes of one that contradicts itself. An item outside train replaces a
        train item of the same content, so that no model is measured on what it was trained on."""
        kept_split, kept_key, kept_label = self.seen[digest]
        across = kept_split != split
        contradicts = None not in (kept_label, item.label) and kept_label != item.label
        self.report.duplicates += 1
        self.report.across_splits += across
        self.report.contradictions += contradicts
        replaces = across and kept_split == "train"
        loser, winner = (kept_key, item.key) if replaces else (item.key, kept_key)
        labels = (kept_label, item.label) if replaces else (item.label, kept_label)
        said = f"{labels[0]} here, {labels[1]} there" if contradicts else ""
        self._note(DUPLICATES, loser, winner, "yes" if across else "no", said)
        if replaces:
            self.superseded.add(digest)
            self.report.kept -= 1
        return replaces

    def _note(self, name: str, *cells: str) -> None:
        with (self.folder / name).open("a", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerow(cells)

    # ------------------------------------------------------------------------------------ end

    def finish(
        self, parameters: Mapping[str, Any], settings: Mapping[str, Any], advice: Mapping[str, str]
    ) -> IngestReport:
        """Write manifest and report after checking that every item is accounted for."""
        report = self.report
        if not report.kept:
            raise DataError(
                f"None of the {report.total} items of {self.source.description} could be used{self._first_reason()}. "
                f"All reasons are in {self.folder / QUARANTINE}. Check that the source holds what this pipeline reads"
            )
        self._settle_groups()
        rows = self._write_manifest()
        if rows != report.kept or report.total != report.kept + report.quarantined + report.duplicates:
            raise DataError(
                f"The counts of {self.source.description} do not add up ({report}; {rows} rows): remove "
                f"{self.folder} and run the step again"
            )
        for note, remedy in advice.items():
            count = sum(number for notes, number in report.notes.items() if note in notes.split(", "))
            report.remarks += [f"{count:,} of {report.kept:,} items have {note}: {remedy}"] if count else []
        self._write_corpus(parameters, settings)
        return report

    def _parted(self) -> list[str]:
        """Groups that are in more than one split."""
        return sorted(group for group, splits in self.groups.items() if "," in splits)

    def _settle_groups(self) -> None:
        """Refuse groups in several splits, or find the training items that move. Shards do not tell the groups, so the
        source is asked once more."""
        parted = set(self._parted())
        if parted and self.parted_groups == "refuse":
            raise DataError(
                f"{self._named_groups()}, as {self.source.description} says itself: mend its splits, or set "
                "ingest.parted_groups to move, which takes their training items into the other split"
            )
        if parted and self.parted_groups == "move":
            targets = {group: _held_out(self.groups[group].split(",")) for group in parted}
            self.moved = {key: targets[group] for key, group in self._grouped() if group in parted}

    def _grouped(self) -> Iterator[tuple[str, str]]:
        """Key and group of all items that have one."""
        return ((item.key, item.group) for item in self.source.items(0) if item.group is not None)

    def _named_groups(self) -> str:
        parted = self._parted()
        splits = ", ".join(sorted({split for group in parted for split in self.groups[group].split(",")}))
        named = ", ".join(map(one_line, parted[:GROUPS_SHOWN]))
        more = f" and {len(parted) - GROUPS_SHOWN:,} more" if len(parted) > GROUPS_SHOWN else ""
        return f"{len(parted):,} of {len(self.groups):,} groups are in more than one of {splits}: {named}{more}"

    def _first_reason(self) -> str:
        with (self.folder / QUARANTINE).open(newline="", encoding="utf-8") as file:
            first = next(csv.DictReader(file), None)
        return f" (the first, {first['key']}: {first['reason']})" if first else ""

    def _write_manifest(self) -> int:
        """One row per kept item, shard by shard, and from the same pass the fingerprint, splits and class names."""
        digest, rows, start = fingerprint.LineHash(), 0, 0
        labels = CorpusLabels(self._counted_labels(), self.no_label, self.test_fraction, has_groups=bool(self.groups))
        missing = dict.fromkeys(self.texts, 0)
        names = [name for name in self._schema().names if name != "data"]
        schema = pa.schema([self._schema().field(name) for name in names]).append(pa.field("row", pa.int64()))
        with pq.ParquetWriter(self.folder / MANIFEST, schema) as writer:
            for batch in ShardReader(self.shards).batches(names):
                numbered = batch.append_column("row", pa.array(range(start, start + len(batch)), pa.int64()))
                start += len(batch)
                kept = labels.applied(self._kept(numbered))
                writer.write_table(pa.Table.from_batches([kept], schema))
                rows += len(kept)
                for name in self.texts:
                    missing[name] += kept.column(name).null_count
                for entry in kept.column("split").value_counts().to_pylist():
                    self.report.splits[entry["values"]] = self.report.splits.get(entry["values"], 0) + entry["counts"]
                self._count_classes(kept)
                digest.add(kept.select(["key", "split", "label", "sha256", *self.texts]).to_pylist())
        found = labels.names
        self.report.class_names = [one for one in self.source.class_names or sorted(found) if one not in labels.none]
        self.report.class_names = self.report.class_names if found else []
        self.report.fingerprint = digest.hexdigest()
        self.report.remarks = [
            *self.source.left_out,
            *self.source.remarks(),
            *labels.remarks,
            *self._remarks(rows, missing),
        ]
        return rows

    def _count_classes(self, kept: pa.RecordBatch) -> None:
        table = pa.Table.from_batches([kept.select(["split", "label"])]).drop_null()
        for row in table.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pylist():
            of_split = self.report.classes.setdefault(row["split"], {})
            of_split[row["label"]] = of_split.get(row["label"], 0) + row["count_all"]

    def _counted_labels(self) -> dict[str, dict[str, int]]:
        """Split -> label -> number of kept items; "" counts those without a label."""
        counts: dict[str, dict[str, int]] = {}
        for batch in ShardReader(self.shards).batches(["key", "split", "label", "sha256"]):
            table = pa.Table.from_batches([self._kept(batch)]).select(["split", "label"])
            for row in table.group_by(["split", "label"]).aggregate([([], "count_all")]).to_pylist():
                of_split = counts.setdefault(row["split"], {})
                label = row["label"] or ""
                of_split[label] = of_split.get(label, 0) + row["count_all"]
        return counts

    def _remarks(self, rows: int, missing: Mapping[str, int]) -> Iterator[str]:
        if self.report.contradictions:
            yield (
                f"items in two classes: {self.report.contradictions:,}. The column contradiction of {DUPLICATES} names "
                "both; the item that is kept has the class of its own place"
            )
        if missing.get("transcript", rows) < rows and missing["transcript"]:
            yield f"{missing['transcript']:,} of {rows:,} items have no transcript, though others have one"
        if self.moved:
            yield f"{self._named_groups()}. Their training items were moved to the other split"
        elif self._parted():
            yield (
                f"{self._named_groups()}, as the source says itself. What is measured may be of a group that was "
                "trained on: ingest.parted_groups can move such items or refuse them"
            )

    def _kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows without those that others replace, in the splits of their groups."""
        batch = self._without_superseded(batch)
        if not self.moved:
            return batch
        pairs = zip(batch.column("key").to_pylist(), batch.column("split").to_pylist(), strict=True)
        splits = [self.moved.get(key, split) if split == "train" else split for key, split in pairs]
        return batch.set_column(batch.schema.get_field_index("split"), "split", pa.array(splits, pa.string()))

    def _without_superseded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        replaced = pc.is_in(batch.column("sha256"), pa.array(sorted(self.superseded), pa.binary(32)))
        return batch.filter(pc.invert(pc.and_(replaced, pc.equal(batch.column("split"), "train"))))

    def _write_corpus(self, parameters: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        (self.folder / JOURNAL).unlink(missing_ok=True)
        shards = {path.name: path.stat().st_size for path in sorted((self.folder / SHARDS).glob("part-*.arrow"))}
        content = {
            "identity": self.identity,
            "rules": RULES,
            "source": without_credentials(self.source.description),
            "parameters": dict(parameters),
            "report": asdict(self.report),
            "shard_bytes": shards,
        }
        if self.source.licence:
            content["licence"] = self.source.licence
        if settings:
            content["settings"] = dict(settings)
        write_json(self.folder / CORPUS, content)
        digests.seal(self.folder, self.known_digests)

    def swap_in(self, out: Path) -> None:
        """Put the whole corpus in its place. What a cluster left of it is of no more use."""
        swap_in(self.folder, out)
        shutil.rmtree(out.with_name(f".{out.name}.cluster"), ignore_errors=True)


def _held_out(splits: Sequence[str]) -> str:
    """Of the splits of one group, the one that is not trained on: test before others."""
    return "test" if "test" in splits else next(split for split in splits if split != "train")
