"""The process group of one training: ranks join it, sum, broadcast, gather and wait."""

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

from d2v.distributed.environment import DistEnv
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launch import rendezvous
from d2v.errors import Interrupted, LaunchError

_ARRIVAL = timedelta(hours=24)  # rank 0 may have to ingest and prepare before it comes
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0
_BEYOND_WATCHDOG_S = 120  # torch's own timeouts name no rank, so they are to come after the watchdog's

Value = TypeVar("Value")

_groups = itertools.count()


class ProcessGroup:
    """One rank's connection to the others; made by `init_process_group`. Alone, every method is the identity.

    Args:
        env: this rank.
        store: where the ranks met.
        control: a group on the CPU, for what must not wait for a GPU.
    """

    def __init__(self, env: DistEnv, store: dist.Store, control: dist.ProcessGroup | None) -> None:
        self.env, self.store = env, store
        self._control = control
        self._asked: tuple[dist.Work, Tensor] | None = None

    def all_reduce(self, values: Tensor) -> Tensor:
        """The element-wise sum over all ranks, in place."""
        if self.env.world_size > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_mean(self, values: Tensor) -> Tensor:
        """The element-wise mean over all ranks, in place."""
        return self.all_reduce(values).div_(self.env.world_size) if self.env.world_size > 1 else values

    def broadcast_object(self, value: Value) -> Value:
        """Rank 0's value, which must be picklable."""
        if self._control is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._control)
        return box[0]

    def all_gather_object(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks."""
        if self._control is None:
            return [value]
        values: list[Value] = [value] * self.env.world_size
        dist.all_gather_object(values, value, group=self._control)
        return values

    def barrier(self) -> None:
        """Go on when all ranks are here."""
        if self._control is not None:
            dist.barrier(group=self._control)

    def lagged_max(self, number: int) -> int:
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
def init_process_group(env: DistEnv, timeout_s: int, interrupts: Interrupts | None = None) -> Iterator[ProcessGroup]:
    """Join the other ranks, and leave the process as it was: without a group, LOCAL_RANK and torch's exception hook
    (which marks every later error with "[rank0]").

    One rank has a group of its own in memory, without an address: DeepSpeed insists on a group.

    Args:
        env: this rank.
        timeout_s: when a rank counts as hung.
        interrupts: end the waiting for other ranks.

    Raises:
        LaunchError: a rank did not come.
        Interrupted: Ctrl-C or SIGTERM while waiting.
    """
    hook, local_rank = sys.excepthook, os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = str(env.local_rank)
    backend = "gloo"
    if env.device.type == "cuda":
        backend = "nccl"
        torch.cuda.set_device(env.device)
    store = rendezvous(env, _ARRIVAL)
    timeout = timedelta(seconds=timeout_s + _BEYOND_WATCHDOG_S)
    dist.init_process_group(
        backend, store=_arrive(env, store, interrupts), rank=env.rank, world_size=env.world_size, timeout=timeout
    )
    try:
        control = dist.new_group(backend="gloo", timeout=timeout) if env.world_size > 1 else None
        yield ProcessGroup(env, store, control)
    finally:
        if dist.is_initialized():  # DeepSpeed may have ended it
            dist.destroy_process_group()
        sys.excepthook = hook
        if local_rank is None:
            os.environ.pop("LOCAL_RANK", None)
        else:
            os.environ["LOCAL_RANK"] = local_rank


def _arrive(env: DistEnv, store: dist.Store, interrupts: Interrupts | None) -> dist.Store:
    """A prefix of the store for this group alone, once all ranks are there: a process may train more than once."""
    own = dist.PrefixStore(f"meeting{next(_groups)}", store)
    own.set(f"here/{env.rank}", "")
    here = [f"here/{rank}" for rank in range(env.world_size)]
    end_s, pause_s = time.monotonic() + _ARRIVAL.total_seconds(), _FIRST_PAUSE_S
    while not own.check(here):  # torch's own waiting does not end on Ctrl-C
        if interrupts is not None and interrupts.requested:
            by = interrupts.requested
            raise Interrupted(f"Stopped by {by} while waiting for the other ranks; nothing was trained yet.", by=by)
        if time.monotonic() > end_s:
            raise LaunchError(f"not all {env.world_size} ranks came within {_ARRIVAL}: see the others' output")
        time.sleep(pause_s)
        pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)
    return own
