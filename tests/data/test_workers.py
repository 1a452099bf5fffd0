import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from d2v.data.ingest import Record, Rejected, ingest
from d2v.data.sources.source import Item
from d2v.data.store import ShardReader
from d2v.data.workers import CAN_FORK, Worker, WorkerDied, Workers, streamed
from tests.data.ingest_helpers import source_of
from tests.data.test_ingest import rows

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="there is no safe fork here")
HERE = os.getpid()


def shouted(data: bytes) -> bytes:
    """A decoder that some items end."""
    if os.getpid() == HERE:
        raise RuntimeError("it runs in the process of the test")
    if data == b"exit":
        os._exit(7)
    if data == b"kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    return data.upper()


def test_what_ends_a_worker_ends_nothing_else() -> None:
    with Workers(shouted, count=2) as workers:
        first = workers.map([b"a", b"exit", b"b", b"kill", b"c"])
        assert [one if isinstance(one, bytes) else str(one) for one in first] == [
            *(b"A", "it ended its process with exit code 7", b"B"),
            *("it ended its process with SIGSEGV", b"C"),
        ]
        assert workers.map([b"d"]) == [b"D"]


def test_an_item_is_tried_once_more(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def dies_once(data: bytes) -> bytes:
        if data == b"x" and not mark.exists():
            mark.touch()
            os._exit(1)
        return data

    with Workers(dies_once, count=1) as workers:
        assert workers.map([b"w", b"x"]) == [b"w", b"x"]
    assert mark.exists()


def test_what_does_not_end_is_ended() -> None:
    worker = Worker(lambda _: threading.Event().wait(), limit_s=0.2)
    with pytest.raises(WorkerDied, match=r"did not end within 0\.2 s"):
        worker.ask([b"x"])
    worker.close()


def test_workers_end_with_their_parent() -> None:
    """Also where another worker was forked while they were there."""
    read, write = os.pipe()
    parent = os.fork()
    if not parent:
        workers = Workers(lambda _: os.getpid(), count=2)
        os.write(write, " ".join(str(workers.map([b""])[0]) for _ in range(2)).encode())
        os._exit(0)
    pids = [int(pid) for pid in os.read(read, 100).split()]
    os.waitpid(parent, 0)
    assert len(set(pids)) == 2
    for pid in pids:
        wait_until_gone(pid)


def wait_until_gone(pid: int) -> None:
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX":
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"process {pid} is still there")


def test_streams_give_what_their_iterator_gives() -> None:
    def counted(last: int, failure: Exception | None = None) -> Iterator[int]:
        yield from range(last)
        if failure:
            raise failure

    assert list(streamed(lambda: counted(1000), lambda _: 1, 2**28)) == list(range(1000))
    stream = streamed(lambda: counted(3, ValueError("three")), lambda _: 1, 2**28)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(stream)


def test_a_stream_that_ends_its_process_or_asks_for_too_much_memory() -> None:
    def dying() -> Iterator[int]:
        yield 1
        os._exit(3)

    with pytest.raises(WorkerDied, match="exit code 3"):
        list(streamed(dying, lambda _: 2**20, 2**28))

    def large() -> Iterator[int]:
        yield np.zeros(2**27, np.uint8).nbytes

    with pytest.raises(MemoryError):
        list(streamed(large, lambda _: 1, 2**24))


def read(data: bytes) -> Record:
    if data == b"bad":
        raise Rejected("it is bad")
    return Record(shouted(data), {"length": len(data)})


def test_ingest_goes_on_where_an_item_ends_its_decoder(tmp_path: Path) -> None:
    items = [Item(f"k{n}", b"item %d" % n) for n in range(300)]
    items[40], items[41] = Item("bad", b"bad"), Item("link", None, refused="a link")
    items[100], items[299] = Item("exits", b"exit"), Item("crashes", b"kill")
    report = ingest(source_of(items), read, ("length",), tmp_path / "c", {}, 400, 0.25, in_workers=True)
    assert (report.total, report.kept, report.quarantined) == (300, 296, 4)
    reasons = {row["key"]: row["reason"] for row in rows(tmp_path / "c" / "quarantine.csv")}
    assert reasons == {
        "bad": "it is bad",
        "link": "a link",
        "exits": "its decoder failed twice: it ended its process with exit code 7",
        "crashes": "its decoder failed twice: it ended its process with SIGSEGV",
    }


def test_arrays_are_read_in_this_process(tmp_path: Path) -> None:
    def here(data: bytes | np.ndarray) -> Record:
        return Record(b"here" if os.getpid() == HERE else b"there", {})

    items = [Item("a", np.zeros(3)), Item("b", b"x")]
    ingest(source_of(items), here, (), tmp_path / "c", {}, 400, 0.25, in_workers=True)
    shards = ShardReader(tmp_path / "c" / "shards")
    assert [shards.binary("data", row) for row in range(2)] == [b"here", b"there"]
