"""A rank that dies ends the training in one clear error, leaves no process behind, and costs no bit."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from d2v.errors import LaunchError
from tests.distributed.trainings import Training, start_two_ranks

TrainingOf = Callable[[str, str], Training]
STARTING_S = 6.0


def workers() -> list[psutil.Process]:
    """The ranks that live, in the order of their start, without what they started."""
    children = psutil.Process().children()
    return [child for child in children if "d2v.distributed.worker" in child.cmdline()]


class Killer(threading.Thread):
    """SIGKILL to a random rank, so long after the ranks were started or after so many rows of a history."""

    def __init__(self, history: Path, seconds: float = 0.0, rows: int = 0) -> None:
        super().__init__(daemon=True)
        self._history, self._seconds, self._rows = history, seconds, rows
        self._over = threading.Event()
        self.killed: int | None = None

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.is_set() and (len(workers()) < 2 or self._count() < self._rows):
            time.sleep(0.02)
        self._over.wait(self._seconds)
        alive = workers()
        if len(alive) == 2 and not self._over.is_set():
            self.killed = random.randrange(2)
            alive[self.killed].kill()

    def _count(self) -> int:
        return len(self._history.read_text().splitlines()) - 1 if self._history.exists() else 0


def train_until_killed(training: Training, logs: Path, killer: Killer) -> bool:
    """Whether the killer came before the end."""
    failure = None
    with killer:
        try:
            start_two_ranks([training], logs)
        except LaunchError as error:
            failure = str(error)
    assert workers() == []
    if killer.killed is None:
        assert failure is None
        return False
    assert failure is not None
    assert f"rank {killer.killed} was killed by SIGKILL" in failure
    assert "same command" in failure
    return True


def assert_same_bits(one: Training, two: Training) -> None:
    assert one.figures() == two.figures()
    ours, theirs = one.result(), two.result()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


def test_a_killed_rank_costs_no_bit(training_of: TrainingOf, tmp_path: Path) -> None:
    base = replace(training_of("vision", "data2vec2"), changes={"max_updates": 12})
    whole, hit = (base.on_two_ranks(tmp_path / name, zero_stage=3) for name in ("whole", "hit"))
    rows = random.randint(3, 9)
    assert train_until_killed(hit, tmp_path, Killer(hit.out / "history.csv", rows=rows)), rows
    start_two_ranks([hit, whole], tmp_path)
    assert_same_bits(hit, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 3])
def test_many_kills_at_random_times_cost_no_bit(stage: int, training_of: TrainingOf, tmp_path: Path) -> None:
    base = replace(training_of("speech", "data2vec2"), changes={"max_updates": 60})
    whole, hit = (base.on_two_ranks(tmp_path / name, zero_stage=stage) for name in ("whole", "hit"))
    start_two_ranks([whole], tmp_path)
    kills = 0
    for _ in range(10):
        seconds = random.uniform(0.0, 2.0 * STARTING_S)
        kills += train_until_killed(hit, tmp_path, Killer(hit.out / "history.csv", seconds=seconds))
    start_two_ranks([hit], tmp_path)
    assert kills >= 5
    assert_same_bits(hit, whole)
