"""What the ranks of one training do together: meet, sum, agree, wait."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launch import Place, rendezvous
from d2v.errors import Interrupted, LaunchError

_ARRIVAL = timedelta(hours=24)  # rank 0 may have to ingest and prepare before it comes
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_BEYOND_WATCHDOG_S = 120  # torch's own timeouts name no rank, so they are to come after the watchdog's

Value = TypeVar("Value")

_meetings = itertools.count()


class Ranks:
    """One rank's connection to the others; made by `meet`. Alone, every method is the identity.

    Args:
        place: this rank.
        store: where the ranks met.
        control: a group on the CPU, for what must not wait for a GPU.
    """

    def __init__(self, place: Place, store: dist.Store, control: dist.ProcessGroup | None) -> None:
        self.place, self.store = place, store
        self._control = control
        self._asked: tuple[dist.Work, Tensor] | None = None

    def sum(self, figures: Tensor) -> Tensor:
        """The element-wise sum over all ranks, in place."""
        if self.place.ranks > 1:
            dist.all_reduce(figures)
        return figures

    def mean(self, figures: Tensor) -> Tensor:
        """The element-wise mean over all ranks, in place."""
        return self.sum(figures).div_(self.place.ranks) if self.place.ranks > 1 else figures

    def from_lead(self, value: Value) -> Value:
        """Rank 0's value, which must be picklable."""
        if self._control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def of_all(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks."""
        if self._control is None:
            return [value]
        values: list[Value] = [value] * self.place.ranks
        dist.all_gather_object(values, value, group=self._control)
        return values

    def wait(self) -> None:
        """Go on when all ranks are here."""
        if self._control is not None:
            dist.barrier(group=self._control)

    def agreed(self, number: int) -> int:
        """The largest number that a rank gave in the call before this one (0 at first).

        All ranks get the same answer after the same update, and none waits for it: the sum of this call travels
        while the next update is computed.
        """
        if self._control is None:
            return number
        answer = 0
        if self._asked is not None:
            work, largest = self._asked
            work.wait()
            answer = int(largest)
        largest = torch.tensor(number)
        self._asked = (dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._control, async_op=True), largest)
        return answer


@contextmanager
def meet(place: Place, timeout_s: int, interrupts: Interrupts | None = None) -> Iterator[Ranks]:
    """Join the other ranks, and leave the process as it was: without a group, LOCAL_RANK and torch's exception hook
    (which marks every later error with "[rank0]").

    One rank meets itself in memory, without an address: DeepSpeed insists on a group.

    Args:
        place: this rank.
        timeout_s: when a rank counts as hung.
        interrupts: end the waiting for other ranks.

    Raises:
        LaunchError: a rank did not come.
        Interrupted: Ctrl-C or SIGTERM while waiting.
    """
    hook, local_rank = sys.excepthook, os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = str(place.local_rank)
    backend = "gloo"
    if place.device.type == "cuda":
        backend = "nccl"
        torch.cuda.set_device(place.device)
    store = rendezvous(place, _ARRIVAL)
    timeout = timedelta(seconds=timeout_s + _BEYOND_WATCHDOG_S)
    dist.init_process_group(
        backend, store=_arrive(place, store, interrupts), rank=place.rank, world_size=place.ranks, timeout=timeout
    )
    try:
        control = dist.new_group(backend="gloo", timeout=timeout) if place.ranks > 1 else None
        yield Ranks(place, store, control)
    finally:
        if dist.is_initialized():  # DeepSpeed may have ended it
            dist.destroy_process_group()
        sys.excepthook = hook
        if local_rank is None:
            os.environ.pop("LOCAL_RANK", None)
        else:
            os.environ["LOCAL_RANK"] = local_rank


def _arrive(place: Place, store: dist.Store, interrupts: Interrupts | None) -> dist.Store:
    """A part of the store for this meeting alone, once all ranks are there: a process may train more than once."""
    part = dist.PrefixStore(f"meeting{next(_meetings)}", store)
    part.set(f"here/{place.rank}", "")
    here = [f"here/{rank}" for rank in range(place.ranks)]
    end_s, pause_s = time.monotonic() + _ARRIVAL.total_seconds(), _FIRST_PAUSE_S
    while not part.check(here):  # torch's own waiting does not end on Ctrl-C
        if interrupts is not None and interrupts.requested:
            by = interrupts.requested
            raise Interrupted(f"Stopped by {by} while waiting for the other ranks; nothing was trained yet.", by=by)
        if time.monotonic() > end_s:
            raise LaunchError(f"not all {place.ranks} ranks came within {_ARRIVAL}: see the others' output")
        time.sleep(pause_s)
        pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
    return part
