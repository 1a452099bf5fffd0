"""One repetition of a case, for a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

import torch

from benchmarks.input.job import Job
from benchmarks.input.peers import PEERS, tokenisers
from d2v.data.batch_sampler import open_batch_sampler
from d2v.distributed.environment import DistEnv
from d2v.progress import mute
from d2v.training.data_loader import BatchLoader
from d2v.training.performance import peak_memory_bytes

OURS = "d2v"
WARM_UP_BATCHES = 12  # more than workers make ahead, so that none of those is counted
SMALL_SHARD_BYTES = 2**20
STEPS = ("ingest", "prepare", "load")
"""From files to batches, each after the one before."""


@dataclass(frozen=True)
class What:
    """A quantity that is measured.

    Attributes:
        step: ingest, prepare, tokenise or load.
        by: who does it, "d2v" or a peer.
        workers: processes that load; None where it does not matter.
    """

    step: str
    by: str = OURS
    workers: int | None = None

    def __str__(self) -> str:
        workers = [] if self.workers is None else [f"{self.workers} workers"]
        return "/".join([self.step, self.by, *workers])


@dataclass(frozen=True)
class Taken:
    """The cost of a piece of work.

    Attributes:
        items: done.
        bytes: of the files read; 0 where items are read again and again.
        wall_s: seconds.
        cpu_s: of all threads of this process.
    """

    items: int
    bytes: int
    wall_s: float
    cpu_s: float


def alone(work: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call `work` in a process that is there for it: silent, and with one thread for what torch computes."""
    mute()
    torch.set_num_threads(1)
    return work(**arguments)


def run_jobs(jobs: Sequence[Job], workers: Sequence[int], seconds: float) -> dict[What, Taken]:
    """Everything once: files to corpus, corpus to store, batches by us and by the peer.

    Args:
        jobs: on fresh folders. The last is measured; those before it warm up.
        workers: numbers of processes to load batches with.
        seconds: how long batches are loaded each time.
    """
    for job in jobs:
        taken = {What("ingest"): _timed(job, _ingest), What("prepare"): _timed(job, _prepare)}
        if job.case.tokenizer:
            taken |= {What("tokenise", name): _timed(job, work) for name, work in tokenisers().items()}
    peer = PEERS[job.case.modality]
    for count in workers:
        taken[What("load", OURS, count)] = _rate(our_batches(job, count), seconds)
        taken[What("load", peer.name, count)] = _rate(peer.batches(job, count), seconds)
    return taken


def run_step(jobs: Sequence[Job], step: str, seconds: float) -> tuple[Taken, int]:
    """One step on what those before it left, and the most memory that this process has held then.

    Shards are small here: a writer holds one of them, and with large ones only gigabytes of data would tell whether
    memory grows.

    Args:
        jobs: the last is measured. Those before it warm up, or the first items would look dear; they have no more
            items, so the peak is not theirs.
        step: one of STEPS.
        seconds: how long batches are loaded.
    """
    works: dict[str, Callable[[Job], None]] = {
        "ingest": partial(_ingest, shard_bytes=SMALL_SHARD_BYTES),
        "prepare": _prepare,
    }
    if step in works:
        own = f"d2v.modalities.{jobs[-1].case.modality}.preparation.SHARD_BYTES"  # not of all modalities
        with (
            mock.patch("d2v.data.prepared.SHARD_BYTES", SMALL_SHARD_BYTES),
            mock.patch(own, SMALL_SHARD_BYTES, create=True),
        ):
            taken = [_timed(job, works[step]) for job in jobs][-1]
    else:
        taken = _rate(our_batches(jobs[-1], 0), seconds)
    return taken, peak_memory_bytes(torch.device("cpu"))


def _ingest(job: Job, **changes: Any) -> None:
    job.modality.ingest(job.ingest_block(**changes), job.corpus)


def _prepare(job: Job) -> None:
    job.modality.prepare(job.prepare_block(), job.corpus, job.prepared)


def _timed(job: Job, work: Callable[[Job], Any]) -> Taken:
    files, size = len(job.files), sum(file.stat().st_size for file in job.files)
    began, cpu_began = time.perf_counter(), time.process_time()
    work(job)
    return Taken(files, size, time.perf_counter() - began, time.process_time() - cpu_began)


def our_batches(job: Job, workers: int) -> Iterator[Sized]:
    """Inputs of batches as training gets them, without end; smaller ones where the data are fewer than a batch."""
    data, recipe = job.modality.open(job.prepared), job.train_block(workers)
    recipe = recipe.model_copy(update={"batch_size": min(recipe.batch_unit, data.num_train) or 1})
    sampler = open_batch_sampler(recipe, data.num_train, data.train_lengths(recipe))
    loader = BatchLoader(data, sampler, recipe, DistEnv(0, 1, device_type="cpu"))
    return (batch.inputs for micro_batches in loader.updates() for batch in micro_batches)


def _rate(batches: Iterator[Sized], seconds: float) -> Taken:
    """Items of batches for about so many seconds, after the first ones."""
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    taken = Taken(0, 0, 0.0, 0.0)
    began, cpu_began = time.perf_counter(), time.process_time()
    while taken.wall_s < seconds:
        items = taken.items + len(next(batches))
        taken = replace(taken, items=items, wall_s=time.perf_counter() - began)
    return replace(taken, cpu_s=time.process_time() - cpu_began)
