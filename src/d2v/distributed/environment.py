"""This process's seat among ranks that something else started: torchrun, srun, or `d2v.distributed.supervisor`.

It reads environment variables only, so a command can ask before it imports torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from d2v.errors import ConfigError

LOGS = "logs"
"""Folder, inside a run's, of what ranks other than 0 say."""

STORE = "D2V_STORE"
"""Holds HOST:PORT of the supervisor's store in the ranks that it started."""


@dataclass(frozen=True)
class Seat:
    """One process among all that train together.

    Attributes:
        rank: from 0 over all machines.
        ranks: processes over all machines.
        local_rank: from 0 on this machine.
        local_ranks: processes on this machine; None where nothing tells.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int | None = None

    @property
    def follows(self) -> bool:
        """Whether another process leads."""
        return self.rank > 0


def find_seat(environment: Mapping[str, str] = os.environ) -> Seat:
    """The seat that the environment names; the only one where it names none.

    A process that srun started has SLURM_STEP_NUM_TASKS; the batch script around it has not, and is alone.

    Raises:
        ConfigError: the variables contradict one another.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    elif "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "")
    else:
        return Seat()
    rank, ranks, local_rank, local_ranks = (_number(environment, name) for name in names)
    if rank is None or ranks is None or rank >= ranks:
        raise ConfigError(
            f"the environment says {names[0]}={rank} and {names[1]}={ranks}, but ranks count from 0 to {names[1]} - 1: "
            f"unset both to train alone, or let torchrun or srun set them."
        )
    return Seat(rank, ranks, local_rank or 0, local_ranks)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value is None:
        return None
    if not value.isdigit():
        raise ConfigError(f"the environment says {name}={value!r}, which is no number: unset it, or use torchrun.")
    return int(value)


def meeting_point(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port at which rank 0 keeps the store: MASTER_ADDR and MASTER_PORT, else the first machine of the Slurm
    step and a port made from the job's number, which no other job on that machine has.

    Raises:
        ConfigError: nothing names them.
    """
    port = _number(environment, "MASTER_PORT")
    if "MASTER_ADDR" in environment and port is not None:
        return environment["MASTER_ADDR"], port
    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST"))
    job = _number(environment, "SLURM_JOB_ID")
    if nodes is None or job is None:
        raise ConfigError(
            "this process is one of many ranks, but MASTER_ADDR and MASTER_PORT are not set: set them to an address "
            "and a free port of rank 0's machine, or let torchrun set them."
        )
    step = _number(environment, "SLURM_STEP_ID") or 0
    return _first_host(nodes), 20_000 + (job + step) % 10_000


def _first_host(nodes: str) -> str:
    """The first machine of Slurm's list.

    Example:
        >>> _first_host("gpu[007-012,20],cpu1")
        'gpu007'
    """
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,\[]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes
