"""What tests let several ranks do: sum a number over the ranks, update after update, without a model."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from d2v.config import DistributedConfig
from d2v.distributed.environment import read_dist_env
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launch import launch, rendezvous
from d2v.distributed.watchdog import Watchdog
from d2v.errors import CollapseError, Interrupted


class OddError(CollapseError):
    """Cannot be rebuilt from its pickle."""

    def __init__(self, number: int, unit: str) -> None:
        super().__init__(f"{number} {unit}")


def sums(
    folder: Path, updates: int, act: str = "", at: int = 3, timeout_s: float = 60, pause_s: float = 0.0
) -> tuple[int, float]:
    """(ranks, the last sum); rank 1 does `act` before the sum of update `at`."""
    env = read_dist_env()
    print(f"rank {env.rank} speaks", file=sys.stderr)
    (folder / f"pid-{env.rank}").write_text(str(os.getpid()))
    store = rendezvous(env, timedelta(seconds=60))
    with Interrupts() as interrupts, Watchdog(env, store, timeout_s, interrupts) as watchdog:
        dist.init_process_group(
            "gloo", store=dist.PrefixStore("group", store), rank=env.rank, world_size=env.world_size
        )
        for update in range(updates):
            watchdog.heartbeat(update, "data")
            if env.rank == 1 and update == at:
                do(act)
            time.sleep(pause_s)
            watchdog.heartbeat(update, "step")
            figures = torch.tensor([float(env.rank + update), float(interrupts.requested is not None)])
            dist.all_reduce(figures)
            (folder / f"update-{env.rank}").write_text(str(update))
            if figures[1] > 0:
                raise Interrupted(f"stopped after update {update}", by=interrupts.requested or "SIGINT")
        dist.destroy_process_group()
    return env.world_size, float(figures[0])


def do(act: str) -> None:
    """Fail in a way."""
    if act == "raise":
        raise ValueError("no such row")
    if act == "collapse":
        raise CollapseError("representations collapsed: lower the rate")
    if act == "odd":
        raise OddError(7, "units")
    if act == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "sleep":
        time.sleep(600)
    if act == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    if act == "leave":
        os._exit(0)


def sum_in_parts(folder: Path) -> None:
    """Two trainings one after the other, as one process of many does them; rank 0 comes later and stays longer."""
    env = read_dist_env()
    if env.is_main:
        time.sleep(1)
    ranks = DistributedConfig(ranks=env.world_size)
    found = [launch(ranks, folder, sums, folder=folder, updates=updates) for updates in (2, 3)]
    if env.is_main:
        time.sleep(1.5)  # longer than a tick of the others' watchdogs
        (folder / "sums").write_text(str(found))


def supervise(folder: Path) -> None:
    """Start two ranks that go on and on."""
    launch(DistributedConfig(ranks=2), folder, sums, folder=folder, updates=2000, pause_s=0.1)
