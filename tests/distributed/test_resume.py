"""A stopped training goes on from its last update, on as many ranks and in whatever stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.distributed.trainings import Training, furthest, run_all, start_two_ranks

TrainingOf = Callable[[str, str], Training]
STOP = 3
OFFLOADED = {"zero_stage": 3, "offload_optimizer": True}
WHOLE = {"3": {"zero_stage": 3}, "2": {"zero_stage": 2}, "1": {"zero_stage": 1}, "offloaded": OFFLOADED, "alone": None}
MOVES = {
    "3-to-3": ({"zero_stage": 3}, {"zero_stage": 3}),
    "1-to-1": ({"zero_stage": 1}, {"zero_stage": 1}),
    "2-to-2": ({"zero_stage": 2}, {"zero_stage": 2}),
    "offloaded-to-offloaded": (OFFLOADED, OFFLOADED),
    "3-to-alone": ({"zero_stage": 3}, None),
    "alone-to-3": (None, {"zero_stage": 3}),
    "alone-to-2": (None, {"zero_stage": 2}),
    "1-to-offloaded-3": ({"zero_stage": 1}, OFFLOADED),
}


def part(base: Training, way: dict[str, int] | None, out: Path) -> Training:
    return base.alone(out) if way is None else base.on_two_ranks(out, **way)


def run_in_turn(trainings: list[Training], logs: Path) -> None:
    """Those of one rank here, those of two there."""
    run_all([training for training in trainings if not training.distributed])
    start_two_ranks([training for training in trainings if training.distributed], logs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, training_of: TrainingOf) -> Path:
    """Every move in `<move>`, and uninterrupted trainings in `whole-<way>`."""
    base, folder = training_of("speech", "data2vec2"), tmp_path_factory.mktemp("moves")
    stopped = [replace(part(base, begin, folder / move), stop_after=STOP) for move, (begin, _) in MOVES.items()]
    whole = [part(base, way, folder / f"whole-{name}") for name, way in WHOLE.items()]
    run_in_turn([*stopped, *whole], folder)
    for training in stopped:
        assert not (training.out / "result.json").exists()
        updates = [path.name for path in sorted((training.out / "checkpoints").iterdir())]
        assert updates[-1] in ("update-00000003", "update-00000004"), updates  # two ranks agree one update later
    run_in_turn([part(base, end, folder / move) for move, (_, end) in MOVES.items()], folder)
    return folder


def test_the_same_ranks_and_stage_end_in_the_same_bits(folder: Path, training_of: TrainingOf) -> None:
    base = training_of("speech", "data2vec2")
    for way in ("1", "2", "3", "offloaded"):
        resumed, whole = (base.on_two_ranks(folder / name) for name in (f"{way}-to-{way}", f"whole-{way}"))
        assert resumed.figures() == whole.figures()
        ours, theirs = resumed.result(), whole.result()
        assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


@pytest.mark.parametrize("move", [move for move, (begin, end) in MOVES.items() if begin != end])
def test_other_ranks_and_stages_go_on_with_the_same_samples(move: str, folder: Path, training_of: TrainingOf) -> None:
    base = training_of("speech", "data2vec2")
    resumed, whole = base.alone(folder / move), base.alone(folder / "whole-alone")
    losses, expected = ([row["train/loss"] for row in training.figures()] for training in (resumed, whole))
    assert losses == pytest.approx(expected, rel=1e-5)
    difference, where = furthest(whole.result(), resumed.result())
    assert difference <= 1e-5, where
