"""Who is to blame when a training stands still. Ranks in processes of their own are in test_launch.py."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import HashStore, PrefixStore, TCPStore

from d2v import training
from d2v.distributed.environment import DistEnv
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.mailbox import Cause, Mailbox, Outcome, Progress
from d2v.distributed.watchdog import PHASES, Watchdog, describe_hang, find_hung


def at(update: int, phase: str, tick: int, age_s: float = 99.0, waits: bool = False, left: bool = False) -> Progress:
    return Progress(update, PHASES.index(phase), phase, tick, age_s, waits, left)


def test_a_process_that_stands_still_is_blamed_first() -> None:
    before = [at(7, "data", 10), at(8, "data", 10), at(7, "step", 10)]
    now = [at(7, "data", 13), at(8, "data", 10), at(7, "step", 13)]
    assert find_hung(before, now) == [1]
    assert describe_hang([1], before, now, 600) == (
        "rank 1 hangs: no progress for 600 s at update 8, in 'data' and its process does not answer; "
        "rank 0 waits at update 7, in 'data'; rank 2 waits at update 7, in 'step'."
    )


def test_a_rank_that_never_began_is_blamed() -> None:
    assert find_hung([at(0, "data", 5), None], [at(0, "data", 8), None]) == [1]
    assert "before training began" in describe_hang([1], [at(0, "data", 5), None], [at(0, "data", 8), None], 1)


def test_else_the_rank_that_is_behind() -> None:
    before = [at(7, "step", 10), at(7, "forward and backward", 10), at(7, "step", 10)]
    now = [at(7, "step", 13), at(7, "forward and backward", 13), at(7, "step", 13)]
    assert find_hung(before, now) == [1]
    assert find_hung(before, [at(7, "data", 13), at(6, "step", 13), at(7, "step", 13)]) == [1]


@pytest.mark.parametrize("phase", ["log", "probe", "checkpoint"])
def test_rank_0_that_looks_and_saves_is_behind_those_that_wait_for_it(phase: str) -> None:
    """After an update rank 0 logs, probes and saves while the others already stand in the next one."""
    before, now = ([at(8, phase, tick), at(8, "forward and backward", tick, waits=True)] for tick in (10, 13))
    assert find_hung(before, now) == [0]


def test_a_slow_rank_that_moves_is_not_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 waits for longer than the limit; rank 0 has begun to save since."""
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    watchdog = Watchdog(DistEnv(1, 2, device_type="cpu"), store, 60, Interrupts())
    with watchdog:
        for age_s, hangs in ((30.0, False), (61.0, True)):
            before, now = (
                [at(8, "checkpoint", tick, age_s), at(8, "step", tick, 100.0, waits=True)] for tick in (1, 4)
            )
            watchdog._accuse(before, now)
            assert bool(ended) == hangs


def test_the_loop_s_phases_are_known() -> None:
    files = [(Path(training.__file__).parent / name).read_text() for name in ("loop.py", "callbacks.py", "step.py")]
    begun = {phase for text in files for phase in re.findall(r'\bbegin\("([^"]+)"\)', text)}
    assert begun == set(PHASES) - {"start", "export"}


def test_of_ranks_in_one_phase_the_one_that_does_not_wait() -> None:
    before = [at(7, "step", 10, waits=True), at(7, "step", 10)]
    assert find_hung(before, [at(7, "step", 13, waits=True), at(7, "step", 13)]) == [1]
    both = [at(7, "step", 13, waits=True), at(7, "step", 13, waits=True)]
    assert find_hung(before, both) == [0, 1]
    assert describe_hang([0, 1], before, both, 9).startswith("ranks 0, 1 hang: no progress for 9 s at update 7")


def test_ranks_that_are_done_are_not_blamed() -> None:
    gone = at(8, "start", 11, left=True)
    assert find_hung([gone, at(8, "step", 10)], [gone, at(8, "step", 13)]) == [1]


def test_alone_it_does_nothing() -> None:
    store = HashStore()
    with Interrupts() as interrupts, Watchdog(DistEnv(0, 1, device_type="cpu"), store, 1, interrupts) as watchdog:
        watchdog.heartbeat(0, "data")
    assert not store.check(["progress/0"])


def test_it_tells_where_its_rank_is_and_hears_a_stop() -> None:
    """Through a prefix, as in torchrun's store, and on a connection of its own."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    part = PrefixStore("training0", PrefixStore("attempt", store))
    mailbox = Mailbox(part)
    mailbox.ask_to_stop("SIGTERM")
    with Interrupts() as interrupts, Watchdog(DistEnv(1, 2, device_type="cpu"), part, 60, interrupts) as watchdog:
        watchdog.heartbeat(3, "data")
        watchdog.heartbeat(3, "step")
    last = mailbox.progress(1)
    assert last is not None
    assert (last.update, last.phase, last.order, last.left) == (3, "step", PHASES.index("step"), True)
    assert mailbox.where(1) == "last seen at update 3, in 'step'"
    assert mailbox.where(0) == "before training began"
    assert interrupts.requested == "SIGTERM"


def test_outcomes_keep_their_order() -> None:
    mailbox = Mailbox(HashStore())
    assert mailbox.outcome(0) is None
    mailbox.put_outcome(Outcome(1, Cause.FAILED))
    mailbox.put_outcome(Outcome(0))
    assert [mailbox.outcome(rank).order for rank in (1, 0)] == [1, 2]


def test_an_abort_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    Mailbox(store).abort()
    with Watchdog(DistEnv(1, 2, device_type="cpu"), store, 60, Interrupts()):
        pass
    assert ended == [6]
