"""Which rank this process is: read from the environment that torchrun, srun or `d2v.distributed.supervisor` set.

Nothing here imports torch before a device is asked for, so a command can ask for its rank at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from d2v.errors import ConfigError

if TYPE_CHECKING:
    import torch

LOGS = "logs"
"""Folder, inside a run's, of what ranks other than 0 say."""

STORE = "D2V_STORE"
"""Holds HOST:PORT of the supervisor's store in the ranks that it started."""


@dataclass(frozen=True)
class DistEnv:
    """One process among all that train together.

    Attributes:
        rank: from 0 over all machines.
        world_size: processes over all machines.
        local_rank: from 0 on this machine.
        local_world_size: processes on this machine; None where nothing tells.
        device_type: "cpu", "cuda", or "auto" for a GPU where there is one.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int | None = None
    device_type: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and speaks to people."""
        return self.rank == 0

    @cached_property
    def device(self) -> torch.device:
        """Where this rank computes. A machine with GPUs gives each rank one; srun may show a rank no GPU but its own,
        which is then number 0."""
        import torch

        gpus = torch.cuda.device_count() if self.device_type != "cpu" else 0
        if self.device_type == "cuda" or gpus:
            return torch.device("cuda", self.local_rank % max(gpus, 1))
        return torch.device("cpu")


def own_device() -> torch.device:
    """Where this process computes what it does alone: on its own GPU if there is one."""
    return read_dist_env().device


def read_dist_env(environment: Mapping[str, str] = os.environ) -> DistEnv:
    """This process as torchrun, srun or the supervisor started it; the only one where the environment names none.

    A process that srun started has SLURM_STEP_NUM_TASKS; the batch script around it has not, and is alone.

    Raises:
        ConfigError: the variables contradict one another.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    elif "SLURM_PROCID" in environment and "SLURM_STEP_NUM_TASKS" in environment:
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "")
    else:
        return DistEnv()
    rank, world_size, local_rank, local_world_size = (_number(environment, name) for name in names)
    if rank is None or world_size is None or rank >= world_size:
        raise ConfigError(
            f"the environment says {names[0]}={rank} and {names[1]}={world_size}, but ranks count from 0 to "
            f"{names[1]} - 1: unset both to train alone, or let torchrun or srun set them."
        )
    return DistEnv(rank, world_size, local_rank or 0, local_world_size)


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value is None:
        return None
    if not value.isdigit():
        raise ConfigError(f"the environment says {name}={value!r}, which is not a number: unset it, or use torchrun.")
    return int(value)


def master_address(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
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
