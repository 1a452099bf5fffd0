import contextlib
import csv
import errno
import json
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
import soundfile

from d2v.data import fingerprint, ingest
from d2v.data.ingest import Record
from d2v.data.sources.source import Item
from d2v.data.store import ShardReader, ShardWriter
from d2v.errors import DataError
from tests.data.ingest_helpers import make_items, run, source_of

ROOT = Path(__file__).parents[2]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_item_is_accounted_for(tmp_path):
    report = run(tmp_path / "c", make_items(100))
    assert report.total == 100 == report.kept + report.quarantined + report.duplicates
    quarantine, duplicates = rows(tmp_path / "c" / "quarantine.csv"), rows(tmp_path / "c" / "duplicates.csv")
    assert len(quarantine) == report.quarantined > 10
    assert {row["reason"] for row in quarantine} == {"it is bad"}
    assert len(duplicates) == report.duplicates > 10
    manifest = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    assert len(manifest) == report.kept
    keys = {row["key"] for row in manifest} | {row["key"] for row in quarantine} | {row["key"] for row in duplicates}
    assert keys == {f"k{n}" for n in range(100)}
    shards = ShardReader(tmp_path / "c" / "shards")
    for row in manifest:
        assert fingerprint.content_hash(shards.binary("data", row["row"]).lower()) == row["sha256"]
        assert row["length"] == len(shards.binary("data", row["row"]))
    assert report.class_names == ["a", "b"]
    assert report.splits == {"train": report.kept - report.splits["test"], "test": report.splits["test"]}


def test_classes_are_counted_and_their_balance_is_said(tmp_path, capfd):
    items = [Item(f"k{n}", b"%d" % n, label="rare" if n % 10 == 0 else "common", split="train") for n in range(50)]
    report = run(tmp_path / "c", [*items, Item("none", b"none", split="train"), Item("t", b"t", "rare", "test")])
    assert report.classes == {"train": {"common": 45, "rare": 5}, "test": {"rare": 1}}
    assert json.loads((tmp_path / "c" / "corpus.json").read_text())["report"]["classes"] == report.classes
    line = "2 classes of 50 train items, from 5 (rare) to 45 (common); always answering common would be right for 90.0%"
    assert line in capfd.readouterr().err


def test_a_test_item_wins_over_its_twin_in_train(tmp_path):
    items = [
        Item("a", b"x", split="train"),
        Item("b", b"x", split="test"),
        Item("c", b"x", split="train"),
        Item("d", b"y", split="train"),
    ]
    report = run(tmp_path / "c", items)
    manifest = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    assert [(row["key"], row["split"]) for row in manifest] == [("b", "test"), ("d", "train")]
    assert (report.kept, report.duplicates, report.across_splits) == (2, 2, 2)
    assert rows(tmp_path / "c" / "duplicates.csv") == [
        {"key": "a", "duplicate_of": "b", "across_splits": "yes", "contradiction": ""},
        {"key": "c", "duplicate_of": "b", "across_splits": "yes", "contradiction": ""},
    ]


def test_splits_by_content_are_stable_and_of_the_asked_size(tmp_path):
    items = [Item(f"k{n}", b"content %d" % n) for n in range(2000)]
    report = run(tmp_path / "c", items, shard_bytes=4000)
    again = run(tmp_path / "d", items[::-1], shard_bytes=4000)
    assert report.splits == again.splits
    assert report.splits["test"] / 2000 == pytest.approx(0.25, abs=0.03)


def test_unchanged_is_a_quick_check_and_a_change_rebuilds(tmp_path, monkeypatch):
    first = run(tmp_path / "c", make_items(50))
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "IngestPass", None)  # any new pass would fail
        assert run(tmp_path / "c", make_items(50)) == first
    changed = run(tmp_path / "c", make_items(60), fingerprint="g")
    assert changed.total == 60
    assert not (tmp_path / ".c.partial").exists()
    assert not (tmp_path / ".c.old").exists()


def test_a_missing_shard_is_noticed(tmp_path):
    first = run(tmp_path / "c", make_items(50))
    lost = next((tmp_path / "c" / "shards").iterdir())
    lost.unlink()
    assert run(tmp_path / "c", make_items(50)) == first
    assert lost.is_file()


def test_a_killed_ingest_goes_on_and_ends_in_the_same_bytes(tmp_path):
    run(tmp_path / "whole", make_items(400))
    command = [sys.executable, "-m", "tests.data.ingest_helpers", str(tmp_path / "killed"), "400"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    journal = tmp_path / ".killed.partial" / "journal.json"
    deadline = time.monotonic() + 60
    while not (journal.exists() and json.loads(journal.read_text())["parts"] >= 5):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = json.loads(journal.read_text())["next_item"]
    assert 0 < done < 400
    run(tmp_path / "killed", make_items(400))
    for path in sorted((tmp_path / "whole").rglob("*")):
        if path.is_file():
            twin = tmp_path / "killed" / path.relative_to(tmp_path / "whole")
            assert twin.read_bytes() == path.read_bytes(), path


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole", make_items(80))
    run(tmp_path / "c", make_items(10))
    flush, left = ShardWriter.flush, [4]

    def full(self):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return flush(self)

    with monkeypatch.context() as patch:
        patch.setattr(ShardWriter, "flush", full)
        with pytest.raises(DataError, match=r"disk of .* is full .* MB free"):
            run(tmp_path / "c", make_items(80), fingerprint="g")
    assert json.loads((tmp_path / "c" / "corpus.json").read_text())["report"]["total"] == 10
    assert run(tmp_path / "c", make_items(80), fingerprint="g").fingerprint == whole.fingerprint


class Panic(BaseException):
    """As extensions in Rust raise it: no Exception."""


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def every_exception() -> list[BaseException]:
    """One of each class that is built in or that decoders bring, and odd ones."""
    kinds = {BaseException}
    while more := {below for kind in kinds for below in kind.__subclasses__()} - kinds:
        kinds |= more
    special = (
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    )
    odd = [
        Panic("in Rust"),
        Unprintable(),
        ValueError("two\nlines \ud800 \0"),
        OSError(errno.ENOSPC, "no space"),
        *special,
    ]
    for kind in kinds:
        for arguments in (("its message",), (5, "its message")):
            with contextlib.suppress(Exception):  # some ask for more, and groups for exceptions
                odd.append(kind(*arguments))
                break
    return odd


def test_whatever_a_decoder_raises_is_the_reason_for_a_quarantine(tmp_path):
    errors = every_exception()
    names = {type(error) for error in errors}
    assert {
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        MemoryError,
        RecursionError,
        StopIteration,
        AssertionError,
    } < names
    assert {
        av.error.InvalidDataError,
        av.error.PatchWelcomeError,
        soundfile.SoundFileRuntimeError,
        struct.error,
    } < names
    items = [Item(f"bad{n}", b"%d" % n) for n in range(len(errors))] + [Item("good", b"good", split="train")]

    def read(data):
        if data != b"good":
            raise errors[int(data)]
        return Record(data, {"length": 4})

    report = ingest.ingest(source_of(items), read, ("length",), tmp_path / "c", {}, 40, 0.1)
    assert (report.total, report.kept, report.quarantined) == (len(items), 1, len(errors))
    reasons = {row["key"]: row["reason"] for row in rows(tmp_path / "c" / "quarantine.csv")}
    for number, error in enumerate(errors):
        if not isinstance(error, ingest.Rejected):
            assert reasons[f"bad{number}"].startswith(f"its decoder failed: {type(error).__name__}")
    assert reasons["bad1"] == "its decoder failed: Unprintable"
    assert reasons["bad2"] == r"its decoder failed: ValueError: two lines \ud800"


def test_texts_that_cannot_be_written_are_quarantined(tmp_path):
    items = [
        Item("a", b"a", texts={"words": "half \ud83d"}),
        Item("b", b"b", label="\udce4"),
        Item("c", b"c", split="train"),
    ]
    read = lambda data: Record(data, {"length": 1})  # noqa: E731
    report = ingest.ingest(source_of(items), read, ("length",), tmp_path / "c", {}, 40, 0.1, ("words",))
    assert (report.kept, report.quarantined) == (1, 2)
    assert [row["reason"].split(" is")[0] for row in rows(tmp_path / "c" / "quarantine.csv")] == [
        "its words",
        "its label",
    ]


def test_nothing_usable_is_an_error_that_says_where_the_reasons_are(tmp_path):
    with pytest.raises(DataError, match=r"None of the 2 items .*the first, a: it is bad.*quarantine.csv"):
        run(tmp_path / "c", [Item("a", b"bad"), Item("b", None, refused="a link")])
    assert [row["reason"] for row in rows(tmp_path / ".c.partial" / "quarantine.csv")] == ["it is bad", "a link"]
