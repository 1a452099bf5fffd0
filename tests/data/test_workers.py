import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from d2v.data import workers as workers_module
from d2v.data.ingest import Record, Rejected, ingest
from d2v.data.sources.source import Item
from d2v.data.store import ShardReader
from d2v.data.workers import CAN_FORK, Worker, WorkerDied, Workers, streamed
from d2v.errors import DataError
from tests.data.ingest_helpers import source_of
from tests.data.test_ingest import rows

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="there is no safe fork here")
ROOT = Path(__file__).parents[2]


def shouted(test: int, data: bytes) -> bytes:
    """A decoder that some items end."""
    if os.getpid() == test:
        raise RuntimeError("it runs in the process of the test")
    if data == b"exit":
        os._exit(7)
    if data == b"kill":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Event().wait()
    return data.upper()


def own_id(_: bytes) -> int:
    return os.getpid()


def test_what_ends_a_worker_ends_nothing_else() -> None:
    with Workers(partial(shouted, os.getpid()), count=2) as workers:
        first = workers.map([b"a", b"exit", b"b", b"kill", b"c"])
        assert [one if isinstance(one, bytes) else str(one) for one in first] == [
            *(b"A", "it ended its process with exit code 7", b"B"),
            *("it ended its process with SIGSEGV", b"C"),
        ]
        assert workers.map([b"d"]) == [b"D"]


def dies_once(mark: Path, data: bytes) -> bytes:
    if data == b"x" and not mark.exists():
        mark.touch()
        os._exit(1)
    return data


def test_an_item_is_tried_once_more(tmp_path: Path) -> None:
    with Workers(partial(dies_once, tmp_path / "mark"), count=1) as workers:
        assert workers.map([b"w", b"x"]) == [b"w", b"x"]
    assert (tmp_path / "mark").exists()


def test_what_does_not_end_is_ended() -> None:
    with Workers(partial(shouted, os.getpid()), count=1, limit_s=0.2) as workers:
        first = workers.map([b"a", b"hang", b"b"])
    assert [one if isinstance(one, bytes) else str(one) for one in first] == [
        *(b"A", "it did not end within 0.2 s", b"B")
    ]


def slowly(data: bytes) -> bytes:
    time.sleep(0.7)
    return data


def test_the_limit_is_one_of_an_item_not_of_all_that_a_worker_is_sent() -> None:
    found: list[bytes] = []
    worker = Worker(slowly, limit_s=3.0)
    worker.ask([b"%d" % n for n in range(5)], found)
    worker.close()
    assert found == [b"0", b"1", b"2", b"3", b"4"]


def test_workers_load_no_torch() -> None:
    """It starts threads, and a fork of a process with threads can wait for ever."""
    with Workers(loaded, count=1) as workers:
        ((modules, threads),) = workers.map([b""])  # type: ignore[misc]
    assert not {"torch", "pipelines", "mlflow"} & modules
    assert threads == 1


def loaded(_: bytes) -> tuple[set[str], int]:
    return set(sys.modules), len(os.listdir("/proc/self/task"))


def test_a_server_that_was_ended_is_started_again() -> None:
    with Workers(own_id, count=1) as workers:
        pid = workers.map([b""])[0]
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        os.kill(int(status[1]), signal.SIGKILL)
        wait_until_gone(int(status[1]))
        again = workers.map([b""])[0]
    assert isinstance(again, int)
    assert again != pid


def test_a_server_that_ends_after_it_was_looked_at_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    server = type(workers_module._server)()
    monkeypatch.setattr(workers_module, "_server", server)
    with Workers(own_id, count=1) as workers:
        workers.map([b""])
    assert server._process is not None
    server._process.kill()
    server._process.wait()
    monkeypatch.setattr(server._process, "poll", lambda: None)
    with Workers(own_id, count=1) as workers:
        assert isinstance(workers.map([b""])[0], int)
    server.close()


def test_a_worker_that_cannot_start_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2v.data.workers._server", type(workers_module._server)())  # type: ignore[attr-defined]
    monkeypatch.setattr("d2v.data.workers.SERVER", "raise SystemExit(3) # {}")
    with pytest.raises(DataError, match="in a process of their own"), Workers(own_id, count=1) as workers:
        workers.map([b""])


@pytest.mark.parametrize("item", [b"", b"hang"])
def test_workers_end_with_their_parent(item: bytes) -> None:
    """Also one that is deep in a decoder, and where another child of the parent holds all of its descriptors."""
    source = (
        "import os, sys, threading, time\n"
        "from functools import partial\n"
        "from d2v.data.workers import Workers\n"
        "from tests.data.test_workers import own_id, shouted\n"
        "workers = Workers(own_id, count=2)\n"
        "ids = [workers.map([b''])[0] for _ in range(2)]\n"
        f"hanging = Workers(partial(shouted, 0), count=1)\n"
        f"threading.Thread(target=hanging.map, args=[[{item!r}]], daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "if not os.fork():\n"
        "    time.sleep(60)\n"
        "children = open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()\n"
        "server, holder = int(children[0]), int(children[1])\n"
        "more = open(f'/proc/{server}/task/{server}/children').read().split()\n"
        "print(*ids, server, *more, holder, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    *ids, holder = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    try:
        assert len(set(ids)) == 4
        for pid in set(ids):
            wait_until_gone(pid)
    finally:
        os.kill(holder, signal.SIGKILL)


def wait_until_gone(pid: int) -> None:
    for _ in range(200):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX":
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"process {pid} is still there")


def counted(last: int, failure: Exception | None = None) -> Iterator[int]:
    yield from range(last)
    if failure:
        raise failure


def one(_: object) -> int:
    return 1


def test_streams_give_what_their_iterator_gives() -> None:
    assert list(streamed(partial(counted, 1000), one, 2**28)) == list(range(1000))
    stream = streamed(partial(counted, 3, ValueError("three")), one, 2**28)
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(stream)


def dying() -> Iterator[int]:
    yield 1
    os._exit(3)


def large() -> Iterator[int]:
    yield np.zeros(2**27, np.uint8).nbytes


def test_a_stream_that_ends_its_process_or_asks_for_too_much_memory() -> None:
    with pytest.raises(WorkerDied, match="exit code 3"):
        list(streamed(dying, one, 2**28))
    with pytest.raises(MemoryError):
        list(streamed(large, one, 2**24))


def read(test: int, data: bytes | np.ndarray) -> Record:
    if isinstance(data, np.ndarray):
        return Record(b"here" if os.getpid() == test else b"there", {})
    if data == b"bad":
        raise Rejected("it is bad")
    if data == b"same":
        return Record(data, {"length": 4}, "as it is", {"text": "t"}, {"format": "F"})
    return Record(shouted(test, data), {"length": len(data)})


def test_ingest_goes_on_where_an_item_ends_its_decoder(tmp_path: Path) -> None:
    items = [Item(f"k{n}", b"item %d" % n) for n in range(300)]
    items[40], items[41] = Item("bad", b"bad"), Item("link", None, refused="a link")
    items[42] = Item("same", b"same")
    items[100], items[299] = Item("exits", b"exit"), Item("crashes", b"kill")
    reader = partial(read, os.getpid())
    report = ingest(source_of(items), reader, ("length",), tmp_path / "c", {}, 400, 0.25, ("text",), in_workers=True)
    assert (report.total, report.kept, report.quarantined) == (300, 296, 4)
    assert (report.notes, report.origins) == ({"as it is": 1}, {"format": {"F": 1}})
    reasons = {row["key"]: row["reason"] for row in rows(tmp_path / "c" / "quarantine.csv")}
    assert reasons == {
        "bad": "it is bad",
        "link": "a link",
        "exits": "its decoder failed twice: it ended its process with exit code 7",
        "crashes": "its decoder failed twice: it ended its process with SIGSEGV",
    }
    shards = ShardReader(tmp_path / "c" / "shards")
    assert [shards.binary("data", row) for row in (0, 40, 41)] == [b"ITEM 0", b"same", b"ITEM 43"]


def test_arrays_are_read_in_this_process(tmp_path: Path) -> None:
    items = [Item("a", np.zeros(3)), Item("b", np.ones(2))]
    ingest(source_of(items), partial(read, os.getpid()), (), tmp_path / "c", {}, 400, 0.25, in_workers=True)
    shards = ShardReader(tmp_path / "c" / "shards")
    assert shards.binary("data", 0) == b"here"
