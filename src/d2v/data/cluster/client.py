"""A dask cluster, seen from the driver: tasks in, their names as they end."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from typing import Any
from uuid import uuid4

from d2v.config import ClusterConfig
from d2v.errors import ConfigError, LaunchError
from d2v.progress import log

INSTALL = "pip install 'd2v[cluster]'"
ADDRESS = "DASK_SCHEDULER_ADDRESS"
TASKS_PER_THREAD = 3
"""Tasks that wait for each thread of a worker, so that none is idle and the scheduler holds few."""
CONNECT_S = 30
NO_PAGES: dict[str, object] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
}
"""With no address for its pages, dask takes port 8787 for them; without routes there are none. Samples of what a worker
does, a hundred a second, are for these pages alone."""
LOOK_S = 0.2
"""How often it sees that the scheduler is there, while it waits."""
TELL_S, COUNT_S = 30.0, 1.0
"""How often it says that there are no workers, and counts them."""


class WorkerLost(Exception):
    """A task ended several workers one after the other."""


class Cluster:
    """A cluster for one step: that of an address, or one of this machine.

    Args:
        config: the cluster.
        step: for messages.
        one_a_gpu: where this machine has GPUs, its cluster has a process for each of them.

    Raises:
        ConfigError: dask is not installed.
        LaunchError: there is no scheduler at the address.
    """

    def __init__(self, config: ClusterConfig, step: str, one_a_gpu: bool = False) -> None:
        self.config, self.step, self.one_a_gpu = config, step, one_a_gpu
        self.address = config.scheduler or os.environ.get(ADDRESS)
        self._run = uuid4().hex[:8]
        self._tasks: dict[Any, Any] = {}  # future -> the caller's name of the task
        self._told_s = time.monotonic()
        self._threads, self._counted_s = 0, -COUNT_S

    def __enter__(self) -> Cluster:
        try:
            import dask
            import distributed
        except ImportError as error:
            raise ConfigError(f"the engine dask needs the package distributed: {INSTALL}") from error
        self._dask, self._library = dask, distributed
        with ExitStack() as stack:
            for name in list(logging.root.manager.loggerDict):
                if name.split(".")[0] == "distributed":  # what it would say, this says in one line
                    logger = logging.getLogger(name)
                    stack.callback(logger.setLevel, logger.level)
                    logger.setLevel(logging.CRITICAL)
            stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": CONNECT_S}))
            if not self.config.dashboard:
                stack.enter_context(dask.config.set(NO_PAGES))
            self.client = stack.enter_context(self._connected(stack))
            self._done = distributed.as_completed([], loop=self.client.loop)
            self._stack = stack.pop_all()
        return self

    def _connected(self, stack: ExitStack) -> Any:
        if self.address is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="d2v-dask-", ignore_cleanup_errors=True))
            with _without_ctrl_c():
                found = stack.enter_context(
                    self._library.LocalCluster(
                        n_workers=self.config.workers or (self.one_a_gpu and _count_gpus()) or os.cpu_count() or 1,
                        threads_per_worker=1,
                        host="127.0.0.1",
                        dashboard_address="127.0.0.1:8787" if self.config.dashboard else "127.0.0.1:0",
                        scheduler_kwargs={"dashboard": self.config.dashboard},
                        memory_limit=0,
                        local_directory=folder,
                        silence_logs=logging.CRITICAL,
                    )
                )
            if self.config.dashboard:
                log(f"{self.step}: dask's pages are at {found.dashboard_link}")
            return self._library.Client(found, set_as_default=False)
        try:
            return self._library.Client(self.address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise LaunchError(
                f"There is no dask scheduler at {self.address} ({error}): start one with `dask scheduler`, or mend the "
                f"key cluster.scheduler or the variable {ADDRESS}"
            ) from error

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):
            self.client.cancel(list(self._tasks), force=True)
        self._tasks.clear()
        self._stack.close()

    # ------------------------------------------------------------------------------------------ tasks

    def has_room(self) -> bool:
        """Whether the workers have too little to do."""
        return len(self._tasks) < TASKS_PER_THREAD * max(self._count_threads(), 1)

    @property
    def waiting(self) -> int:
        """Tasks that are not done."""
        return len(self._tasks)

    def submit(self, name: object, function: Callable[..., Any], *args: Any, urgent: bool = False) -> None:
        """Have a worker call a function of an installed module. It leaves what it found in a file: fetching a result
        would cost a third of a task."""
        key = f"d2v-{self.step}-{self._run}-{'-'.join(map(str, name if isinstance(name, tuple) else (name,)))}"
        future = self.client.submit(function, *args, key=key, pure=False, priority=1 if urgent else 0)
        self._tasks[future] = name
        self._done.add(future)

    def next_done(self) -> tuple[Any, WorkerLost | None]:
        """The name of the next task that ends; and the error if it ended its workers.

        Raises:
            LaunchError: the scheduler is gone.
            Exception: what the task raised.
        """
        arrived = self._done.thread_condition
        while not self._done.has_ready():
            self._look()
            with arrived:
                if not self._done.has_ready():
                    arrived.wait(LOOK_S)
        future = next(self._done)
        name = self._tasks.pop(future)
        if future.status in ("finished", "pending", "lost"):  # a worker died with a result, which lies in a file
            return name, None
        if future.status != "error":
            raise self._gone()
        error = future.exception()
        if isinstance(error, self._library.KilledWorker):
            return name, WorkerLost(f"it ended {error.allowed_failures + 1} workers")
        raise error

    def _look(self) -> None:
        """See that the scheduler is there, and say now and then that there are no workers."""
        if self.client.status not in ("running", "newly-created"):
            raise self._gone()
        if time.monotonic() - self._told_s > TELL_S:
            self._told_s = time.monotonic()
            if not self._count_threads():
                log(f"{self.step}: the scheduler at {self.address or 'this machine'} has no workers; waiting for some")

    def _count_threads(self) -> int:
        """Of all workers, as of a second ago: they come and go."""
        if time.monotonic() - self._counted_s > COUNT_S:
            try:
                self._threads = sum(self.client.nthreads().values())
            except (OSError, TimeoutError) as error:
                raise self._gone() from error
            self._counted_s = time.monotonic()
        return self._threads

    def _gone(self) -> LaunchError:
        return LaunchError(
            f"The dask scheduler at {self.address or 'this machine'} is gone. What was done is kept: start the "
            "scheduler and its workers, then the same command goes on"
        )


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block, or later by its threads, do not see Ctrl-C, which is for the command: it
    ends them. One that comes meanwhile is kept until the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else its start lets the signal through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
