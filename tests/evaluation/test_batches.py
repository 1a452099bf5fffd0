"""Batches of items of like length."""

from __future__ import annotations

import random

import torch

from d2v.evaluation.batches import CPU_TOKENS, WINDOW_BATCHES, BatchSize


def test_batches_hold_every_item_once_and_never_more_tokens_than_they_may() -> None:
    draw = random.Random(0)
    tokens = [draw.choice([0, 1, 5, 40, 99, 300]) for _ in range(200)]
    size = BatchSize(items=8, tokens=100)
    batches = size.by_length(tokens)
    assert sorted(number for batch in batches for number in batch) == list(range(200))
    for batch in batches:
        longest = max(tokens[number] for number in batch)
        assert len(batch) == 1 or (len(batch) <= 8 and len(batch) * longest <= 100)
    assert [max(tokens[number] for number in batch) for batch in batches] == sorted(
        (max(tokens[number] for number in batch) for batch in batches), reverse=True
    )


def test_items_that_are_alike_wait_for_one_batch_and_others_for_several() -> None:
    size = BatchSize(items=4, tokens=100)
    assert [len(window) for window in size.windows([25] * 10, int)] == [4, 4, 2]
    mixed = list(size.windows([25, 20] * 100, int))
    assert [len(window) for window in mixed] == [4 * WINDOW_BATCHES] * 3 + [200 - 12 * WINDOW_BATCHES]
    assert [token for window in mixed for token in window] == [25, 20] * 100


def test_a_cpu_computes_few_tokens_at_a_time_and_other_devices_whole_batches() -> None:
    cpu = BatchSize.on(torch.device("cpu"), 32)
    assert cpu.tokens == CPU_TOKENS * torch.get_num_threads()
    assert cpu.of(10**9) == 1
    assert cpu.of(1) == 32
    assert BatchSize.on(torch.device("cuda"), 32) == BatchSize(32)
    assert BatchSize(32).of(10**9) == 32
