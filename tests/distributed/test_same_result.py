"""However the work is parted, the same model comes out.

One rank that accumulates two parts adds the same two gradients as two ranks that hold everything, so these agree bit
for bit. ZeRO takes the gradient's norm from shards, in another order of addition: its last bits differ, clipping
spreads them, and Adam divides by gradients that are almost zero. So weights agree to 1e-5 after six updates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2v.modalities import registry
from tests.distributed.trainings import Training, furthest, run_all, start_two_ranks

WEIGHTS_AGREE = 1e-5
MOST = {
    "stage-0": {},
    "stage-1": {"zero_stage": 1},
    "stage-2": {"zero_stage": 2},
    "stage-3": {"zero_stage": 3},
    "recomputed": {"activation_checkpointing": True},
    "recomputed-3": {"zero_stage": 3, "activation_checkpointing": True},
    "offloaded-2": {"zero_stage": 2, "offload_optimizer": True},
    "offloaded-3": {"zero_stage": 3, "offload_optimizer": True},
}
WAYS = {
    ("vision", "data2vec2"): ("stage-0", "stage-1", "stage-3", "recomputed", "offloaded-2"),
    ("speech", "data2vec2"): ("stage-3",),
    ("text", "data2vec1"): ("stage-2", "recomputed-3", "offloaded-3"),
}
"""Every way once, and the third stage for every modality. The slow suite goes every way with each of them."""
SHARDED = {"vision": "stage-3", "speech": "stage-3", "text": "recomputed-3"}
KINDS = {kind: {way: MOST[way] for way in ways} for kind, ways in WAYS.items()}
TrainingOf = Callable[[str, str], Training]


def weights(training: Training) -> dict[str, torch.Tensor]:
    """Student, heads and teacher."""
    return {name: t for name, t in training.result().items() if name.startswith(("trained", "teacher"))}


def train_parted(kinds: dict[tuple[str, str], Any], training_of: TrainingOf, folder: Path) -> None:
    """Train each kind alone and in each way on two ranks, and compare."""
    alone, parted = [], []
    for kind, ways in kinds.items():
        base = training_of(*kind)
        alone.append(base.alone(folder / "-".join(kind)))
        parted += [(alone[-1], way, base.on_two_ranks(folder / "-".join([*kind, way]), **ways[way])) for way in ways]
    run_all(alone)
    start_two_ranks([training for *_, training in parted], folder)
    for one, way, two in parted:
        difference, where = furthest(weights(one), weights(two))
        limit = 0.0 if way in ("stage-0", "recomputed") else WEIGHTS_AGREE
        assert difference <= limit, (two.out.name, where)
        assert_same_losses(one, two)


def assert_same_losses(one: Training, two: Training) -> None:
    """And the same norms of gradients: AdamW and clipping would hide a factor."""
    expected, found = one.figures(), two.figures()
    for name in ("train/loss", "train/grad_norm"):
        assert [row[name] for row in found] == pytest.approx([row[name] for row in expected], rel=1e-4), two.out.name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, training_of: TrainingOf) -> Path:
    """All ways of the default suite, which agree."""
    folder = tmp_path_factory.mktemp("same")
    train_parted(KINDS, training_of, folder)
    return folder


@pytest.mark.parametrize("stages", [(1, 3), pytest.param((0, 1, 2, 3), marks=pytest.mark.slow)])
def test_ranks_that_accumulate_add_up(stages: tuple[int, ...], training_of: TrainingOf, tmp_path: Path) -> None:
    """Two ranks with two parts each, against one rank with four. Dropout follows the parts, which are the same. The
    first stage adds parts up before it sends them, the third sends each."""
    base = training_of("speech", "data2vec2")
    one = replace(base, out=tmp_path / "one", changes={"accumulation_steps": 4})
    parted = [
        replace(base.on_two_ranks(tmp_path / f"stage-{stage}", zero_stage=stage), changes={"accumulation_steps": 2})
        for stage in stages
    ]
    run_all([one])
    start_two_ranks(parted, tmp_path)
    for two in parted:
        difference, where = furthest(weights(one), weights(two))
        assert difference <= WEIGHTS_AGREE, (two.out.name, where)
        assert_same_losses(one, two)


def test_the_history_is_that_of_one_rank(folder: Path, training_of: TrainingOf) -> None:
    base = training_of("vision", "data2vec2")
    one = base.alone(folder / "vision-data2vec2").figures()
    for way in ("stage-0", "stage-3"):
        two = base.on_two_ranks(folder / f"vision-data2vec2-{way}").figures()
        assert [row.keys() for row in two] == [row.keys() for row in one]
        for expected, row in zip(one, two, strict=True):
            for name in ("train/student_norm", "train/teacher_norm", "data/epoch"):
                assert row[name] == pytest.approx(expected[name], rel=1e-5), (way, name)


def test_sharded_encoders_are_exported_whole(folder: Path, training_of: TrainingOf) -> None:
    for kind in KINDS:
        way = SHARDED[kind[0]]
        training = training_of(*kind).on_two_ranks(folder / "-".join([*kind, way]), **MOST[way])
        final = training.result()
        student = load_file(training.out / "encoder/encoder.safetensors")
        teacher = load_file(training.out / "encoder/teacher.safetensors")
        whole = registry.get(kind[0]).build_encoder(training.recipe()).state_dict().keys()
        assert student.keys() == teacher.keys() == whole
        assert all(torch.equal(value, final[f"trained/student.{name}"]) for name, value in student.items())
        averaged = {name: final.get(f"teacher/teacher.encoder.{name}", student[name]) for name in teacher}
        assert all(torch.equal(value, averaged[name]) for name, value in teacher.items())


@pytest.mark.slow
def test_every_modality_and_objective_goes_every_way(training_of: TrainingOf, tmp_path: Path) -> None:
    kinds = [(name, objective) for name in ("vision", "speech", "text") for objective in ("data2vec1", "data2vec2")]
    train_parted(dict.fromkeys(kinds, MOST), training_of, tmp_path)


@pytest.mark.slow
def test_bf16_under_sharding_is_that_of_one_rank(training_of: TrainingOf, tmp_path: Path) -> None:
    """Products in bf16 round to 8 bits, so one bit of a weight moves them: the losses agree to a percent."""
    base = replace(training_of("vision", "data2vec2"), changes={"precision": "bf16"})
    one, two = base.alone(tmp_path / "one"), base.on_two_ranks(tmp_path / "two", zero_stage=3)
    run_all([one])
    start_two_ranks([two], tmp_path)
    losses = [[row["train/loss"] for row in training.figures()] for training in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert all(tensor.dtype == torch.float32 for tensor in weights(two).values())
