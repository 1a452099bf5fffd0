"""The driver of an ingest on a cluster: it cuts the source, goes through the items in order, and writes the tables.

One process finds duplicates, splits and borders of shards one item after the other. The driver does the same with the
facts about each item, which workers found; its record stays in files. So the corpus has the bytes of one process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2v.data import fingerprint
from d2v.data.cluster import machine
from d2v.data.cluster.client import Cluster
from d2v.data.cluster.files import (
    PIECES,
    SHARDS,
    Piece,
    digests_of_shards,
    make_folders,
    mirror_of,
    only,
    range_path,
    take_shards,
    waiting_for,
    work_root,
    write_range,
)
from d2v.data.cluster.pieces import LISTINGS, ROW, IngestJob, read_piece, write_shard
from d2v.data.cluster.remote import Remote
from d2v.data.cluster.stream import ShardPlan, Stream, whole_piece
from d2v.data.ingest import CSV_HEADS, RULES, IngestPass, Outcome, Record
from d2v.data.ingest import SHARDS as CORPUS_SHARDS
from d2v.data.sources.source import Item
from d2v.data.url_paths import absolute, copy_files, inside, is_url, remove_folder
from d2v.errors import DataError
from d2v.progress import Progress

OWNER = ".cluster"
"""A file of the partial corpus: whose shards it was given."""


class ClusterIngest(IngestPass):
    """One pass over a source whose items are read by the workers of a cluster.

    The work folder beside the corpus holds what is done. It belongs to one source, one recipe and one set of versions:
    with others it is begun anew.
    """

    read_task, write_task = staticmethod(read_piece), staticmethod(write_shard)

    def __init__(self, remote: Remote, *args: Any) -> None:
        self.remote = remote
        super().__init__(*args)
        listings = {} if self.source.ranges else self.remote.listings
        (self.work / LISTINGS).write_text(json.dumps(listings))
        self.job = IngestJob(
            absolute(self.work),
            machine.mark(self.work),
            machine.versions(),
            self.source.fingerprint,
            replace(self.remote, listings={}),
            self.read,
            self.facts,
            self.texts,
            self.test_fraction,
            self.in_workers,
            self.source.ranges is not None,
        )

    # ------------------------------------------------------------------------------------ work folder

    def _restore(self) -> dict[str, Any]:
        """Make the folders. Whole pieces and shards of the same work are kept, all else is removed."""
        shaping = {
            "identity": self.identity,
            "rules": RULES,
            "columns": self._schema().names,
            "shard_bytes": self.shard_bytes,
            "piece_items": self.remote.config.piece_items,
            "versions": machine.versions(),
        }
        owner = fingerprint.of_values(shaping)[:16]
        self.root = work_root(self.remote.config, self.folder)
        self.work = only(self.root, owner)
        shards, owned = self.folder / CORPUS_SHARDS, self.folder / OWNER
        kept = self.work / SHARDS if self.remote.config.exchange is None else waiting_for(shards)
        if not kept.exists() and owned.is_file() and owned.read_text() == owner and shards.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            shards.rename(kept)  # killed behind its last shard
        make_folders(self.work)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        owned.write_text(owner)
        for name, head in CSV_HEADS.items():
            (self.folder / name).write_text(",".join(head) + "\r\n")
        return {"parts": 0, "next_item": 0}

    def _open_writer(self, first: int) -> ShardPlan:
        self.shards, self.plan = self.work / SHARDS, ShardPlan(self.shard_bytes)
        return self.plan

    # ------------------------------------------------------------------------------------ stream

    def stream(self) -> None:
        """Have every piece read that is left, and every shard written, and take the shards."""
        with Cluster(self.remote.config, "ingest") as cluster, Progress("ingest", self.total) as progress:
            Stream(self, cluster, "ingest").run(progress)
        if len(inside(self.shards)) != self.plan.shards:
            raise DataError(f"{self.shards} holds other shards than were written: remove {self.work} and run it again")
        self.known_digests = digests_of_shards(self.work, CORPUS_SHARDS)
        take_shards(self.job, self.work, self.folder / CORPUS_SHARDS)
        self.shards = self.folder / CORPUS_SHARDS

    @property
    def total(self) -> int | None:
        """Items of the source, if that is known."""
        return self.source.total

    @property
    def done(self) -> int:
        """Items that were counted."""
        return self.next_item

    @property
    def detail(self) -> str:
        """What to say behind the bar."""
        return f"{self.report.kept:,} kept, {self.report.quarantined:,} quarantined"

    def hand_out(self, start: int, stop: int) -> None:
        """Write the list of a piece's items, so that a worker needs no other list."""
        if self.source.ranges:
            write_range(range_path(self.work, start), self.source.ranges(start, stop))

    def take_piece(self, piece: Piece) -> None:
        """Count its items and find their shards. Items that an earlier piece has told of already are left out."""
        position = piece.start
        for number, said in enumerate(zip(*(piece.rows[name] for name in ROW), strict=True)):
            _, items, *_, data_bytes, _ = said
            if position >= self.next_item:
                self.plan.at(piece.start, number, data_bytes)
                self._take(_outcome_of(*said))
                self.next_item += items
            position += items
        range_path(self.work, piece.start).unlink(missing_ok=True)

    def _grouped(self) -> Iterator[tuple[str, str]]:
        for path in inside(self.work / PIECES):
            if path.suffix != ".json":
                continue
            said = whole_piece(self.work, int(path.stem)).rows
            yield from (
                (key, group) for key, group in zip(said["key"], said["group"], strict=True) if group is not None
            )

    # ------------------------------------------------------------------------------------ end

    def swap_in(self, out: Path) -> None:
        """Put the whole corpus in its place. Shards in an exchange stay there, for the workers of the next step."""
        (self.folder / OWNER).unlink()
        super().swap_in(out)
        if self.remote.config.exchange is not None:
            mirror = mirror_of(self.remote.config, out, self.report.fingerprint)
            only(mirror.parent, mirror.name)
            if is_url(mirror) and not inside(mirror):
                copy_files(self.work / SHARDS, mirror)
            remove_folder(self.root)


def _outcome_of(
    key: str,
    items: int,
    reason: str | None,
    split: str,
    label: str | None,
    group: str | None,
    fold: str | None,
    note: str,
    sha256: str,
    _bytes: int,
    origin: Mapping[str, str],
) -> Outcome:
    if reason is not None:
        return Outcome(Item(key, None, rows=items), b"", None, reason)
    item = Item(key, None, label, split, group=group, fold=fold, rows=items)
    return Outcome(item, bytes.fromhex(sha256), Record(b"", {}, note, {}, origin), "")
