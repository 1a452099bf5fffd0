"""A stopped training goes on from its last update, on as many ranks and in whatever stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
USUAL = ("3-to-3", "2-to-2", "3-to-alone", "alone-to-3", "1-to-offloaded-3")
"""Those of the default suite: out of and into whole, partly and fully sharded states."""


def part(base: Training, way: dict[str, int] | None, out: Path) -> Training:
    return base.alone(out) if way is None else base.on_two_ranks(out, **way)


def run_in_turn(trainings: list[Training], logs: Path) -> None:
    """Those of one rank here, those of two there."""
    run_all([training for training in trainings if not training.distributed])
    start_two_ranks([training for training in trainings if training.distributed], logs)


@dataclass(frozen=True)
class Moved:
    """Every move in `<folder>/<move>`, and uninterrupted trainings in `<folder>/whole-<way>`."""

    moves: tuple[str, ...]
    folder: Path

    def between(self, same: bool) -> list[str]:
        """Moves that end as they began, or those that do not."""
        return [move for move in self.moves if (MOVES[move][0] == MOVES[move][1]) == same]


@pytest.fixture(
    scope="module", params=[USUAL, pytest.param(tuple(MOVES), marks=pytest.mark.slow)], ids=["usual", "all"]
)
def moved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, training_of: TrainingOf) -> Moved:
    moves = {move: MOVES[move] for move in request.param}
    base, folder = training_of("speech", "data2vec2"), tmp_path_factory.mktemp("moves")
    stopped = [replace(part(base, begin, folder / move), stop_after=STOP) for move, (begin, _) in moves.items()]
    compared = {"alone", *(move.partition("-to-")[0] for move, (begin, end) in moves.items() if begin == end)}
    whole = [part(base, WHOLE[name], folder / f"whole-{name}") for name in sorted(compared)]
    run_in_turn([*stopped, *whole], folder)
    for training in stopped:
        assert not (training.out / "result.json").exists()
        updates = [path.name for path in sorted((training.out / "checkpoints").iterdir())]
        assert updates[-1] in ("update-00000003", "update-00000004"), updates  # two ranks agree one update later
    run_in_turn([part(base, end, folder / move) for move, (_, end) in moves.items()], folder)
    return Moved(request.param, folder)


def test_the_same_ranks_and_stage_end_in_the_same_bits(moved: Moved, training_of: TrainingOf) -> None:
    base, moves = training_of("speech", "data2vec2"), moved.between(same=True)
    assert len(moves) >= 2
    for move in moves:
        way = move.partition("-to-")[0]
        resumed, whole = (base.on_two_ranks(moved.folder / name) for name in (move, f"whole-{way}"))
        assert resumed.figures() == whole.figures()
        ours, theirs = resumed.result(), whole.result()
        assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


def test_other_ranks_and_stages_go_on_with_the_same_samples(moved: Moved, training_of: TrainingOf) -> None:
    base, moves = training_of("speech", "data2vec2"), moved.between(same=False)
    assert len(moves) >= 3
    for move in moves:
        resumed, whole = base.alone(moved.folder / move), base.alone(moved.folder / "whole-alone")
        losses, expected = ([row["train/loss"] for row in training.figures()] for training in (resumed, whole))
        assert losses == pytest.approx(expected, rel=1e-5), move
        difference, where = furthest(whole.result(), resumed.result())
        assert difference <= 1e-5, (move, where)
