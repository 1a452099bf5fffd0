"""Calls a function on every rank of a training, and gives the ranks the store through which they find one another.

A single rank without a hostfile runs in the calling process. Else all ranks, rank 0 too, are processes of their own.
`d2v.distributed.supervisor` starts them on this machine or on those of a hostfile; or torchrun or srun started them,
and this process is one of them.
"""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch.distributed import HashStore, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous as torch_rendezvous

from d2v.config import DistributedConfig
from d2v.distributed.environment import STORE, DistEnv, master_address, read_dist_env
from d2v.distributed.hosts import check_hosts
from d2v.distributed.mailbox import connect
from d2v.distributed.supervisor import Supervisor
from d2v.errors import ConfigError, LaunchError

Result = TypeVar("Result")
Value = TypeVar("Value")

_RETRY_S = 1.0
_trainings = itertools.count()


def check_distributed(config: DistributedConfig) -> None:
    """Refuse ranks that cannot be started here.

    Raises:
        ConfigError: the ranks are not as many as torchrun or srun started, as the hostfile's slots or as the GPUs.
    """
    env = read_dist_env()
    if env.world_size > 1:
        _check_started(config, env)
    elif config.hostfile is not None:
        check_hosts(Path(config.hostfile), config.ranks)
    else:
        _check_gpus(config.ranks)


def _check_started(config: DistributedConfig, env: DistEnv) -> None:
    if config.ranks != env.world_size:
        raise ConfigError(
            f"train.distributed.ranks {config.ranks}: {env.world_size} ranks were started around this command; set "
            f"train.distributed.ranks={env.world_size}."
        )
    if env.local_world_size is not None:
        _check_gpus(env.local_world_size)


def _check_gpus(local_ranks: int) -> None:
    gpus = torch.cuda.device_count()
    if gpus and local_ranks > gpus:
        raise ConfigError(
            f"train.distributed.ranks {local_ranks}: this machine shows {gpus} GPU(s), and each rank needs its own; "
            f"set train.distributed.ranks={gpus}, or CUDA_VISIBLE_DEVICES= (nothing) to train on the CPU. "
            "train.accumulation_steps splits a batch that does not fit the memory."
        )


class ForMain(Generic[Value]):
    """An argument of `launch` that only rank 0 unpacks, as that is slow: MLflow takes seconds and 200 MB to import.

    Args:
        value: picklable if there is more than one rank.
    """

    def __init__(self, value: Value) -> None:
        self._open: Callable[[], Value] = lambda: value

    def open(self) -> Value:
        """The value."""
        return self._open()

    def __getstate__(self) -> bytes:
        return pickle.dumps(self._open())

    def __setstate__(self, packed: bytes) -> None:
        self._open = partial(pickle.loads, packed)


def launch(config: DistributedConfig, folder: Path, target: Callable[..., Result], /, **arguments: Any) -> Result:
    """Call `target(**arguments)` on every rank and return what rank 0 returned.

    Alone, or as one rank of torchrun or srun, that is a plain call. Otherwise `config.ranks` processes are started;
    each imports `target` and makes the call, and none outlives this call.

    Args:
        config: how many ranks, and where.
        folder: gets `logs/rank-0001.log` and so on; rank 0 speaks through this process's stdout and stderr.
        target: a function at the top of an importable module.
        arguments: picklable; so is the result, which must be small (below 8 MB).

    Raises:
        ConfigError: see `check_distributed`, or target or arguments cannot be sent.
        LaunchError: a rank died, hangs, or could not be started.
        D2vError: what a rank raised.
    """
    check_distributed(config)
    if runs_here(config):
        return target(**arguments)
    result: Result = Supervisor(config, folder).run(target, arguments)
    return result


def runs_here(config: DistributedConfig) -> bool:
    """Whether this process is itself the rank: alone, or one that torchrun or srun started."""
    return read_dist_env().world_size > 1 or (config.ranks == 1 and config.hostfile is None)


def rendezvous(env: DistEnv, timeout: timedelta) -> Store:
    """The store through which the ranks of one training find one another.

    Alone it is in memory. Under the supervisor it is the supervisor's. Under torchrun or srun, rank 0 keeps it (or
    torchrun does) for as long as its process lives, as others may still look at it when rank 0 goes on alone; there
    each call opens a fresh part of it, so all ranks must call equally often.

    Args:
        env: this rank.
        timeout: how long to wait for rank 0, which may have data to prepare first.

    Raises:
        LaunchError: rank 0 did not come.
    """
    if env.world_size == 1:
        return HashStore()
    if STORE in os.environ:
        return connect(os.environ[STORE], timeout)
    return PrefixStore(f"training{next(_trainings)}", _environment_store(env.rank, env.world_size, timeout))


@cache
def _environment_store(rank: int, ranks: int, timeout: timedelta) -> Store:
    """One for the life of the process: rank 0's port can be opened only once."""
    host, port = master_address()
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = host, str(port)
    if rank > 0:
        _wait_for_main(host, port, timeout)
    store, _, _ = next(torch_rendezvous("env://", rank, ranks, timeout=timeout))
    return store


def _wait_for_main(host: str, port: int, timeout: timedelta) -> None:
    """Try until rank 0's store answers. torch's own waiting would neither end on Ctrl-C nor keep quiet."""
    end_s = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < end_s:
        try:
            socket.create_connection((host, port), timeout=_RETRY_S).close()
            return
        except OSError:
            time.sleep(_RETRY_S)
    raise LaunchError(
        f"rank 0 did not answer at {host}:{port} within {timeout}: see its output for why. If it runs, let "
        "MASTER_ADDR name an address of its machine that this one can reach."
    )
