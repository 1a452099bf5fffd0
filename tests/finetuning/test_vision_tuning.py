"""Fine-tuning on images: whole tiny trainings, and one that has to be worth its pretraining."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from d2v.config import LabelConfig, parse
from d2v.data.batch import SampleKeys
from d2v.errors import Interrupted
from d2v.finetuning.data import chosen_rows
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import MODEL, finetune
from d2v.finetuning.model import load_finetuned
from d2v.finetuning.tasks.build_task import build_task
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionFinetuneConfig, VisionRecipe
from d2v.pretraining.pretrain import pretrain
from d2v.tracker import NullTracker
from d2v.training.history import History
from pipelines.recipes import parse_all
from tests.checkpoints import stored
from tests.distributed.trainings import StopsItself, Training, furthest
from tests.modalities.contract.case import find_case, make_prepared
from tests.test_recipes import load

VISION = registry.get("vision")
TASK = {
    "task": {"name": "classification", "label_smoothing": 0.1},
    "optimizer": {"lr": 3e-3, "clip_norm": None},
    "batch_size": 8,
    "max_updates": 6,
    "precision": "fp32",
    "log_every_updates": 1,
    "checkpoint": {"every_updates": 2},
    "layer_decay": 0.7,
    "encoder": {"drop_path": 0.1},
    "mix": {"mixup": 0.7, "cutmix": 1.0, "probability": 0.9},
    "augment": {"rand_augment": {"operations": 2}, "erase": 0.25},
}


def config_of(**changes: Any) -> VisionFinetuneConfig:
    return parse(VisionFinetuneConfig, TASK | changes)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A tiny pretraining; its folder holds an encoder."""
    case, folder = find_case("vision"), tmp_path_factory.mktemp("tuning")
    assert case is not None
    training = Training(make_prepared(VISION, case, folder).path, folder / "pretraining", "vision")
    training.run()
    return training


@dataclasses.dataclass
class Tuned:
    """A finished fine-tuning."""

    out: Path

    @property
    def state(self) -> dict[str, torch.Tensor]:
        return stored(max((self.out / "checkpoints").glob("update-*")))

    @property
    def measured(self) -> list[dict[str, float]]:
        rows = History.read(self.out / "history.csv").rows
        return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def tune(base: Training, out: Path, start: bool = True, stop_after: int | None = None, **changes: Any) -> Tuned:
    """Fine-tune on one thread, which makes sums come in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = base.out / "encoder" if start else None
    try:
        finetune(VISION, config_of(**changes), base.recipe(), base.prepared, encoder, out, StopsItself(stop_after))
    except Interrupted:
        assert stop_after is not None
    finally:
        torch.set_num_threads(threads)
    return Tuned(out)


def test_a_stopped_run_ends_in_the_same_bits(base: Training, tmp_path: Path) -> None:
    whole = tune(base, tmp_path / "whole")
    tune(base, tmp_path / "resumed", stop_after=3)
    assert not (tmp_path / "resumed/result.json").exists()
    resumed = tune(base, tmp_path / "resumed")
    assert resumed.measured == whole.measured
    ours, theirs = resumed.state, whole.state
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


def test_a_frozen_encoder_does_not_move_a_bit(base: Training, tmp_path: Path) -> None:
    changes = {"trained": "head", "task": {"name": "classification", "head": {"pool": "attention", "heads": 4}}}
    tuned = tune(base, tmp_path, **changes)
    before, after = (load_file(folder / "encoder.safetensors") for folder in (base.out / "encoder", tuned.out / MODEL))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(name.startswith("exp_avg/student") for name in tuned.state)
    measured = evaluate_finetuned(
        VISION, config_of(**changes), base.prepared, tmp_path, tmp_path / "report", NullTracker()
    )
    assert 0.0 <= measured["eval/accuracy_low"] <= measured["eval/accuracy"] <= measured["eval/accuracy_high"] <= 1.0


def test_all_weights_move_and_the_model_predicts(base: Training, tmp_path: Path) -> None:
    tuned = tune(base, tmp_path)
    before, after = (load_file(folder / "encoder.safetensors") for folder in (base.out / "encoder", tuned.out / MODEL))
    assert {name for name in before if torch.equal(before[name], after[name])} == {"stem.positions"}
    split = VISION.labelled(VISION.open(base.prepared), config_of(), base.recipe())["test"]
    predictions = load_finetuned(tmp_path / MODEL).predict(split.inputs(np.arange(20)), batch_size=7)
    assert predictions.shape == (20,)
    assert set(predictions.tolist()) <= {0, 1, 2, 3}


@pytest.mark.slow
def test_two_ranks_with_shards_are_one_rank(base: Training, tmp_path: Path) -> None:
    """Each rank mixes its own part of a batch, as accumulation does."""
    alone = tune(base, tmp_path / "alone", accumulation_steps=2)
    for changes in ({}, {"trained": "head"}):
        alone = tune(base, tmp_path / f"alone-{len(changes)}", accumulation_steps=2, **changes)
        two = tune(base, tmp_path / f"two-{len(changes)}", distributed={"ranks": 2, "zero_stage": 3}, **changes)
        for ours, theirs in zip(two.measured, alone.measured, strict=True):
            assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-5)
        for name in ("encoder.safetensors", "head.safetensors"):
            difference, where = furthest(*(load_file(one.out / MODEL / name) for one in (alone, two)))
            assert difference <= 1e-5, (changes, where)


# ------------------------------------------------------------------------------------------------ labels


def test_fewer_labels_are_a_part_of_more_and_classes_take_turns(base: Training) -> None:
    data = VISION.open(base.prepared)
    split = VISION.labelled(data, config_of(), base.recipe())["train"]
    task = build_task(config_of().task, data.class_names, split)
    shares = (0.05, 0.1, 0.3, 0.6, 1.0)
    rows = {share: chosen_rows(split, task, config_of(labels=LabelConfig(share=share, seed=4))) for share in shares}
    for fewer, more in itertools.pairwise(shares):
        assert set(rows[fewer]) < set(rows[more])
    for share in shares[:-1]:
        assert len(rows[share]) == round(80 * share)
        assert (np.diff(rows[share]) > 0).all()
    counts = np.bincount(split.labels[rows[0.3]], minlength=4)
    assert counts.max() - counts.min() <= 1
    other = chosen_rows(split, task, config_of(labels=LabelConfig(share=0.3, seed=5)))
    assert set(other) != set(rows[0.3])


# ------------------------------------------------------------------------------------------------ images


def test_training_images_follow_seed_epoch_and_item_alone(base: Training) -> None:
    data = VISION.open(base.prepared)
    split = VISION.labelled(data, config_of(), base.recipe())["train"]

    def images(rows: list[int], epoch: int = 0, update: int = 0) -> torch.Tensor:
        return split.augmented(SampleKeys(update, np.array(rows), np.full(len(rows), epoch))).values

    whole = images(list(range(20)))
    assert whole.shape == (20, 3, 16, 16)
    assert torch.equal(images([7, 3], update=9), whole[[7, 3]])
    assert not torch.equal(images([7, 3], epoch=1), whole[[7, 3]])
    other = VISION.labelled(data, config_of(seed=1), base.recipe())["train"]
    assert not torch.equal(other.augmented(SampleKeys(0, np.arange(20), np.zeros(20, int))).values, whole)


def test_test_images_are_as_they_are(base: Training) -> None:
    data = VISION.open(base.prepared)
    split = VISION.labelled(data, config_of(), base.recipe())["test"]
    rows = np.arange(5)
    assert torch.equal(split.inputs(rows).values, data.whole(data.test, rows, 16))


# ---------------------------------------------------------------------------------------------- learning


@pytest.mark.slow
def test_pretraining_is_worth_labels_on_glyphs(tmp_path: Path) -> None:
    """The recipe of `base` on a tenth of its labels: from its own encoder 88%, from random weights chance (3%)."""
    recipe: Any = parse_all(load("base")["parameters"])["vision"]
    accuracy = accuracies(recipe, tmp_path)
    assert accuracy["pretrained"] > 0.75, accuracy
    assert accuracy["pretrained"] > accuracy["scratch"] + 0.3, accuracy


def accuracies(recipe: VisionRecipe, folder: Path) -> dict[str, float]:
    """Ingest, prepare and pretrain; then test accuracy after fine-tuning from that encoder and from random weights."""
    assert recipe.finetune is not None
    VISION.ingest(recipe.ingest, folder / "corpus")
    VISION.prepare(recipe.prepare, folder / "corpus", folder / "prepared")
    pretrain(VISION, recipe.train, folder / "prepared", folder / "pretraining")
    found = {}
    for name, start, decay in (("pretrained", folder / "pretraining/encoder", 0.75), ("scratch", None, 1.0)):
        config, out = recipe.finetune.model_copy(update={"layer_decay": decay}), folder / name
        finetune(VISION, config, recipe.train, folder / "prepared", start, out)
        measured = evaluate_finetuned(VISION, config, folder / "prepared", out, out / "report", NullTracker())
        found[name] = measured["eval/accuracy"]
    return found
