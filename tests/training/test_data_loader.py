import os
import signal

import pytest
import torch

from d2v.config import RunConfig
from d2v.data.batch import Batch, SampleKeys
from d2v.data.batch_sampler import EqualBatchSampler
from d2v.distributed.environment import DistEnv
from d2v.errors import DataError
from d2v.training.data_loader import BatchLoader, _ahead
from tests.training.fakes import FakeData, make_recipe


def ids(accumulation: int, workers: int, ranks: int = 1, rank: int = 0, start: int = 0) -> list[list[int]]:
    recipe = make_recipe(accumulation_steps=accumulation, data_workers=workers, max_updates=5)
    env = DistEnv(rank, ranks, device_type="cpu")
    updates = BatchLoader(FakeData(), EqualBatchSampler(40, 8, 5), recipe, env, start).updates()
    return [torch.cat([batch.sample_ids for batch in micro]).tolist() for micro in updates]


def test_accumulation_and_workers_see_the_same_samples() -> None:
    assert ids(1, 0) == ids(4, 0) == ids(1, 2) == ids(2, 2)


def test_a_resumed_feed_goes_on() -> None:
    assert ids(2, 0, start=3) == ids(2, 0)[3:]


def test_two_ranks_together_see_the_batch() -> None:
    halves = zip(ids(1, 0, ranks=2, rank=0), ids(1, 0, ranks=2, rank=1), strict=True)
    assert [first + second for first, second in halves] == ids(1, 0)


class Dying(FakeData):
    """Data that end their process, as a system without memory does."""

    def batch(self, keys: SampleKeys, recipe: RunConfig) -> Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def test_a_killed_process_that_loads_data_is_named() -> None:
    recipe = make_recipe(data_workers=1, max_updates=5)
    updates = BatchLoader(Dying(), EqualBatchSampler(40, 8, 5), recipe, DistEnv(device_type="cpu")).updates()
    with pytest.raises(DataError, match=r"process that loads data was ended .*lower train\.data_workers"):
        next(updates)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_fetching_ahead_keeps_order_and_end(count: int) -> None:
    assert list(_ahead(iter(range(1, count + 1)))) == list(range(1, count + 1))  # type: ignore[arg-type]
