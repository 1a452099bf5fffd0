"""From the order of samples to micro-batches that are ready when the step wants them."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from d2v.config import RunConfig
from d2v.data.batch import Batch, SampleKeys
from d2v.data.batch_sampler import BatchSampler
from d2v.distributed.environment import DistEnv
from d2v.errors import loader_ended
from d2v.processes import die_with_parent
from d2v.training.job import TrainingData

_AHEAD = 2  # micro-batches made ahead by the thread, and by each worker process


class _Loading(Dataset[Batch]):
    """Loads the micro-batch of a key; module level, so that worker processes can have it."""

    def __init__(self, data: TrainingData, recipe: RunConfig) -> None:
        self._data, self._recipe = data, recipe

    def __getitem__(self, keys: SampleKeys) -> Batch:
        return self._data.batch(keys, self._recipe)


def _as_is(batch: Any) -> Any:
    return batch


def _end_with_parent_alone(_: int) -> None:
    """Ctrl-C reaches the whole process group, and a stopping service or job all its processes; the parent still needs
    its batches to finish the update. PyTorch's own look after the parent takes five seconds."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@dataclass
class BatchLoader:
    """Micro-batches of one rank, update by update.

    The result does not depend on `recipe.data_workers`: 0 loads in this process (in a thread when `env` is on a
    GPU, so that loading overlaps with computing), more load in that many processes.

    Args:
        data: the prepared store.
        sampler: which samples at which update.
        recipe: its accumulation steps, workers and number of updates.
        env: this rank.
        start_update: updates already done.

    Example:
        for micro_batches in BatchLoader(data, sampler, recipe, env).updates(): ...
    """

    data: TrainingData
    sampler: BatchSampler
    recipe: RunConfig
    env: DistEnv
    start_update: int = 0

    def updates(self) -> Generator[tuple[Batch, ...]]:
        """One tuple of `accumulation_steps` batches for each update that is left."""
        batches = self._micro_batches()
        for _ in range(self.start_update, self.recipe.max_updates):
            yield tuple(next(batches) for _ in range(self.recipe.accumulation_steps))

    def _keys(self) -> Iterator[SampleKeys]:
        steps = self.recipe.accumulation_steps
        for update in range(self.start_update, self.recipe.max_updates):
            keys = self.sampler.at(update)
            for step in range(steps):
                yield self.sampler.micro_batch(keys, self.env.rank, self.env.world_size, step, steps)

    def _micro_batches(self) -> Iterator[Batch]:
        loading = _Loading(self.data, self.recipe)
        batches = self._from_processes(loading) if self.recipe.data_workers else map(loading.__getitem__, self._keys())
        return _ahead(batches) if self.env.device.type == "cuda" else batches

    def _from_processes(self, loading: _Loading) -> Iterator[Batch]:
        loader = DataLoader(
            loading,
            batch_size=None,
            sampler=self._keys(),
            num_workers=self.recipe.data_workers,
            multiprocessing_context="spawn",  # a fork of a process with threads can hang on a lock one of them held
            collate_fn=_as_is,
            prefetch_factor=_AHEAD,
            worker_init_fn=_end_with_parent_alone,
            generator=torch.Generator(),  # else the loader draws from the global one
        )
        try:
            yield from loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise loader_ended(error) from error


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches, fetched by a thread and in pinned memory, so that copies to the GPU wait for nothing."""
    with ThreadPoolExecutor(1, thread_name_prefix="d2v-loader") as executor:
        waiting = deque(executor.submit(_next_pinned, batches) for _ in range(_AHEAD))
        while (batch := waiting.popleft().result()) is not None:
            waiting.append(executor.submit(_next_pinned, batches))
            yield batch


def _next_pinned(batches: Iterator[Batch]) -> Batch | None:
    batch = next(batches, None)
    if batch is None or not torch.cuda.is_available():
        return batch
    pinned = {name: tensor.pin_memory() for name, tensor in batch.tensors().items()}
    return Batch(update=batch.update, **pinned)
