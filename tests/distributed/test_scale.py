"""The formulas of what ZeRO costs say what two ranks hold and send, and choose by it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.scale import TINY, Measured, measure, scaled
from d2v.config import DistributedConfig
from d2v.data.batch import Batch
from d2v.distributed.launch import launch
from d2v.modalities import registry
from d2v.models import blocks
from d2v.objectives.build import build_objective
from d2v.training.scale import activation_bytes, choose_stage, memory_bytes, state_parts, traffic_bytes

RANKS = 2
STAGES = range(4)
ACCUMULATION = (1, 2)
FIGURES = 64
"""Bytes at most of what is summed besides: the number of hidden tokens, norms, whether all is finite."""

Measurements = dict[tuple[int, int], Measured]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measurements:
    """(stage, accumulation steps) -> what two ranks held and sent."""
    keys = [(stage, parts) for stage in STAGES for parts in ACCUMULATION]
    recipes = [scaled(TINY, RANKS, stage, accumulation_steps=parts) for stage, parts in keys]
    logs = tmp_path_factory.mktemp("logs")
    found = launch(DistributedConfig(ranks=RANKS, timeout_s=60), logs, measure, recipes=recipes, updates=1)
    return dict(zip(keys, found, strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_ranks_hold_what_the_formula_says(stage: int, measured: Measurements) -> None:
    """To the byte, as every parameter divides by two."""
    one = measured[stage, 1]
    expected = state_parts(one.trained, one.frozen, stage, RANKS)
    del expected["gradients"]
    assert [asdict(held) for held in one.held] == [expected] * RANKS


def test_only_the_third_stage_shares_the_teacher_out(measured: Measurements) -> None:
    held = [{rank.teacher for rank in measured[stage, 1].held} for stage in STAGES]
    whole = 4 * measured[0, 1].frozen
    assert held == [{whole}, {whole}, {whole}, {whole // RANKS}]


def test_the_teachers_step_sends_nothing(measured: Measurements) -> None:
    assert {key: one.ema_calls for key, one in measured.items()} == dict.fromkeys(measured, 0)


@pytest.mark.parametrize("parts", ACCUMULATION)
@pytest.mark.parametrize("stage", STAGES)
def test_ranks_send_what_the_formula_says(stage: int, parts: int, measured: Measurements) -> None:
    one = measured[stage, parts]
    beyond = one.sent_bytes.total() - traffic_bytes(one.trained, one.frozen, stage, RANKS, parts)
    assert 0 <= beyond <= FIGURES


def stored_bytes(depth: int, samples: int) -> tuple[float, float]:
    """(what autograd keeps of a forward pass, what the formula says of it)."""
    encoder = {"image_px": 64, "patch_px": 4, "width": 64, "depth": depth, "heads": 2}
    recipe = scaled(TINY, 1, 0, encoder=encoder, mask={"kind": "block", "ratio": 0.25})
    objective = build_objective(registry.get("vision"), recipe)
    ids = torch.arange(samples)
    batch = Batch(torch.zeros(samples, 3, 64, 64), ids, torch.zeros_like(ids), 0)
    storages: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    masks = objective.draw_masks(batch, 0, "cpu")
    with torch.autocast("cpu", torch.bfloat16), saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.train().forward(batch, masks)
    for parameter in objective.parameters():
        storages.pop(parameter.untyped_storage().data_ptr(), None)
    cast: Any = objective
    return sum(storages.values()), samples * activation_bytes(cast, objective.longest)


def test_a_block_keeps_what_the_formula_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "PLAIN_ATTENTION_TOKENS", 0)  # the formula is of fused attention, as on a GPU
    shallow, deep = stored_bytes(2, samples=4), stored_bytes(6, samples=4)
    kept, expected = (more - less for less, more in zip(shallow, deep, strict=True))
    assert kept == pytest.approx(expected, rel=0.1)


def test_the_lowest_stage_that_fits_is_chosen() -> None:
    def choice(gigabytes: float, activations: tuple[float, float] = (10e9, 1e9)) -> tuple[int, bool] | None:
        found = choose_stage(1e9, 1e9, 64, activations, gigabytes * 1e9)
        if found is None:
            return None
        assert found.memory_bytes <= 0.9e9 * gigabytes
        return found.stage, found.recomputed

    needs = [memory_bytes(1e9, 1e9, stage, 64, 10e9) for stage in STAGES]
    assert needs[0] > needs[1] > needs[3]
    assert choice(80) == (0, False)
    assert choice(1.01 * needs[1] / 0.9e9) == (1, False)
    assert choice(80, activations=(70e9, 10e9)) == (0, True)
    assert choice(12) == (3, True)
    assert choice(5) is None
