"""Validation: which items it takes, the best state that it keeps, early stops that resume exactly, and folds."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from d2v.config import ValidationConfig, parse
from d2v.data.batch import Inputs, SampleKeys
from d2v.errors import ConfigError, DataError, Interrupted
from d2v.finetuning.data import labelled_splits
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import Setting, finetune
from d2v.finetuning.folds import evaluate_folds, finetune_folds
from d2v.finetuning.splits import Joined, Subset, side_by_side
from d2v.modalities import registry
from d2v.tracker import NullTracker, Tracker
from d2v.training.history import History
from d2v.training.job import Selection
from tests.checkpoints import stored
from tests.distributed.trainings import StopsItself
from tests.lifecycle.retrainings import CLASSES, RECIPE, picture

VISION: Any = registry.get("vision")
SPLITS = {0: "test", 1: "val"}
"""By the fold of an item; all others are train."""


def make_prepared(folder: Path, with_val: bool = True, count: int = 120) -> Path:
    """Pictures with a table of classes, splits, folds and patients of four pictures each."""
    (folder / "source").mkdir()
    with (folder / "source" / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "split", "fold", "patient"])
        for number in range(count):
            kind, fold = CLASSES[number % 3], number // 3 % 5
            Image.fromarray(picture(kind, number)).save(folder / "source" / f"{number:03d}.png")
            split = SPLITS.get(fold, "train") if with_val or fold != 1 else "train"
            table.writerow([f"{number:03d}.png", kind, split, fold, f"p{number // 15}-{fold}"])
    ingest = {"source": str(folder / "source"), "columns": {"group": "patient"}}
    recipe = parse(VISION.recipe, RECIPE | {"ingest": ingest})
    VISION.ingest(recipe.ingest, folder / "corpus")
    VISION.prepare(recipe.prepare, folder / "corpus", folder / "prepared")
    return folder / "prepared"


@dataclass(frozen=True)
class Pictures:
    """Prepared pictures, with a val split and without."""

    with_val: Path
    without: Path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folders = tmp_path_factory.mktemp("with"), tmp_path_factory.mktemp("without")
    return Pictures(make_prepared(folders[0]), make_prepared(folders[1], with_val=False))


def recipe_of(**changes: Any) -> Any:
    values = RECIPE["finetune"] | {"max_updates": 12, "batch_size": 8, "start": "scratch", "bootstrap_resamples": 20}
    values |= {"checkpoint": {"every_updates": 5}, "log_every_updates": 100} | changes
    return parse(VISION.recipe, RECIPE | {"finetune": values})


def setting_of(prepared: Path, **changes: Any) -> Setting:
    recipe = recipe_of(**changes)
    return Setting(VISION, recipe.finetune, recipe.train, prepared, None)


def tune(prepared: Path, out: Path, tracker: Tracker | None = None, **changes: Any) -> list[dict[str, float]]:
    """Fine-tune on one thread; the rows of the history without times."""
    recipe, threads = recipe_of(**changes), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        finetune(VISION, recipe.finetune, recipe.train, prepared, None, out, tracker)
    finally:
        torch.set_num_threads(threads)
    rows = History.read(out / "history.csv").rows
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


def names(prepared: Path, where: tuple[str, np.ndarray]) -> pd.DataFrame:
    table = VISION.open(prepared).items(where[0])
    return table.iloc[where[1]]


# ------------------------------------------------------------------------------------------------ items


def test_the_val_split_is_validated_on_and_nothing_is_held_out(pictures: Pictures) -> None:
    chosen = setting_of(pictures.with_val, validation={}).chosen
    assert chosen.val is not None
    assert set(names(pictures.with_val, chosen.val.where)["split"]) == {"val"}
    assert len(chosen.val_rows) == 24  # type: ignore[arg-type]
    assert len(chosen.rows) == len(setting_of(pictures.with_val).chosen.rows) == 72


@pytest.mark.parametrize("group", [None, "fold"])
def test_without_one_whole_groups_of_train_are_held_out(pictures: Pictures, group: str | None) -> None:
    setting = setting_of(pictures.without, validation={"group": group, "share": 0.2})
    chosen = setting.chosen
    part, rows = chosen.train.where
    table = names(pictures.without, (part, rows))[group or "group"]
    held_out, kept = set(table.iloc[chosen.val_rows]), set(table.iloc[chosen.rows])
    assert held_out
    assert not held_out & kept
    assert len(chosen.rows) + len(chosen.val_rows) == 96  # type: ignore[arg-type]
    again = setting_of(pictures.without, validation={"group": group, "share": 0.2}, seed=7).chosen
    assert again.digest == chosen.digest
    other = setting_of(pictures.without, validation={"group": group, "share": 0.2, "seed": 1}).chosen
    assert other.digest != chosen.digest


def test_without_groups_every_class_gives_its_share(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2v.data.prepared.PreparedFolder.items", lambda *_: None)  # as earlier versions left it
    chosen = setting_of(pictures.without, validation={"share": 0.25}).chosen
    assert np.bincount(chosen.train.labels[chosen.val_rows]).tolist() == [8, 8, 8]
    with pytest.raises(ConfigError, match=r"have no 'speaker'"):
        _ = setting_of(pictures.without, validation={"group": "speaker"}).chosen


def test_too_few_items_are_not_parted(pictures: Pictures) -> None:
    with pytest.raises(DataError, match="give the source a val split or more items"):
        _ = setting_of(pictures.without, validation={"share": 0.99}).chosen


# -------------------------------------------------------------------------------------------- selection


def test_a_run_that_stops_early_and_is_interrupted_ends_in_the_same_bits(pictures: Pictures, tmp_path: Path) -> None:
    """Patience ends the run; the interrupt falls between the best validation and that."""
    changes: dict[str, Any] = {"validation": {"every_updates": 2, "patience": 2, "min_gain": 0.5}}
    whole = tune(pictures.with_val, tmp_path / "whole", **changes)
    with pytest.raises(Interrupted):
        tune(pictures.with_val, tmp_path / "resumed", StopsItself(4), **changes)
    resumed = tune(pictures.with_val, tmp_path / "resumed", **changes)
    assert resumed == whole
    assert [row["update"] for row in whole] == [2, 4, 6]
    states = [stored(max((tmp_path / name / "checkpoints").glob("update-*"))) for name in ("whole", "resumed")]
    assert any(name.startswith("best/") for name in states[0])
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    result = json.loads((tmp_path / "resumed" / "result.json").read_text())
    assert result["updates"] == 6
    assert result["selection"]["update"] == 2
    assert result["selection"]["stopped"]


def test_a_run_that_was_killed_after_its_early_stop_does_not_train_on(pictures: Pictures, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"validation": {"every_updates": 2, "patience": 1, "min_gain": 0.9}}
    whole = tune(pictures.with_val, tmp_path, **changes)
    model = load_file(tmp_path / "model" / "head.safetensors")
    (tmp_path / "result.json").unlink()
    assert tune(pictures.with_val, tmp_path, **changes) == whole
    again = load_file(tmp_path / "model" / "head.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in model.items())


def test_the_model_is_that_of_the_best_validation(pictures: Pictures, tmp_path: Path) -> None:
    """After the best state its learning rate ruins it."""
    changes: dict[str, Any] = {"schedule": {"warmup_updates": 0}, "validation": {"every_updates": 1, "metric": "loss"}}
    rows = tune(pictures.with_val, tmp_path / "best", optimizer={"lr": 0.3}, **changes)
    best = min(rows, key=lambda row: row["val/loss"])
    result = json.loads((tmp_path / "best" / "result.json").read_text())
    assert (result["selection"]["update"], result["selection"]["value"]) == (best["update"], best["val/loss"])
    assert best["update"] < 12
    last = stored(max((tmp_path / "best" / "checkpoints").glob("update-*")))
    head = load_file(tmp_path / "best" / "model" / "head.safetensors")
    name = "classify.weight"
    assert torch.equal(head[name], last[f"best/head.{name}"])
    assert not torch.equal(head[name], last[f"trained/head.{name}"])


def test_validation_leaves_the_training_as_it_is(pictures: Pictures, tmp_path: Path) -> None:
    plain = tune(pictures.with_val, tmp_path / "plain", log_every_updates=3)
    measured = tune(pictures.with_val, tmp_path / "validated", log_every_updates=3, validation={"every_updates": 3})
    losses = [[row["train/loss"] for row in rows] for rows in (plain, measured)]
    assert losses[0] == losses[1]
    ours, theirs = (stored(max((tmp_path / name / "checkpoints").glob("update-*"))) for name in ("plain", "validated"))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.slow
def test_two_ranks_with_shards_validate_as_one(pictures: Pictures, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"validation": {"every_updates": 3, "metric": "loss"}}
    alone = tune(pictures.with_val, tmp_path / "alone", **changes)
    two = tune(pictures.with_val, tmp_path / "two", distributed={"ranks": 2, "zero_stage": 3}, **changes)
    for ours, theirs in zip(two, alone, strict=True):
        assert ours["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-4)
    heads = [load_file(tmp_path / name / "model" / "head.safetensors") for name in ("alone", "two")]
    for name, value in heads[0].items():
        assert torch.allclose(value, heads[1][name], atol=1e-4), name


def test_a_gain_counts_from_the_least_gain_on() -> None:
    def selection(higher: bool) -> Selection:
        return Selection(lambda *_: {}, "val/x", higher, 1, min_gain=0.1)

    assert selection(True).is_better(0.7, 0.5)
    assert not selection(True).is_better(0.55, 0.5)
    assert selection(False).is_better(0.3, 0.5)
    assert not selection(False).is_better(float("nan"), 0.5)


def test_an_unknown_metric_is_refused_before_training(pictures: Pictures) -> None:
    with pytest.raises(ConfigError, match="There is no metric 'f2'"):
        setting_of(pictures.with_val, validation={"metric": "f2"}).job()


def test_recipes_of_before_are_the_same_runs(pictures: Pictures, tmp_path: Path) -> None:
    """A stored recipe without the new keys is that of today's defaults, and other keys are another run."""
    from d2v.training.resume import differences, shaping

    config = recipe_of().finetune
    assert not {"validation", "folds", "balance"} & shaping(config).keys()
    assert differences("", type(config), (shaping(config), "f"), (shaping(config), "f")) == []
    other = shaping(recipe_of(validation=ValidationConfig().model_dump()).finetune)
    assert differences("", type(config), (shaping(config), "f"), (other, "f"))


# ------------------------------------------------------------------------------------------------ folds


def test_every_fold_is_tested_once_by_a_model_of_the_others(pictures: Pictures, tmp_path: Path) -> None:
    recipe = recipe_of(folds="fold", max_updates=2)
    arguments = (VISION, recipe.finetune, recipe.train, pictures.with_val, None, tmp_path)
    assert finetune_folds(*arguments) == ["0", "1", "2", "3", "4"]
    finetune(*arguments)
    report = tmp_path / "report"
    means = evaluate_folds(VISION, recipe.finetune, pictures.with_val, tmp_path, report, NullTracker())
    assert means["folds/count"] == 5
    folders = [report / "folds" / str(number) for number in range(5)]
    measured = [json.loads((folder / "metrics.json").read_text())["eval/accuracy"] for folder in folders]
    assert means["folds/accuracy_mean"] == pytest.approx(np.mean(measured))
    assert means["folds/accuracy_std"] == pytest.approx(np.std(measured, ddof=1))
    assert [len(pd.read_parquet(folder / "predictions.parquet")) for folder in folders] == [24] * 5
    whole = evaluate_finetuned(VISION, recipe.finetune, pictures.with_val, tmp_path, report, NullTracker(), folds=means)
    assert whole["folds/accuracy_mean"] == means["folds/accuracy_mean"]
    assert "5 folds" in (report / "report.md").read_text()


def test_a_fold_holds_its_own_items_alone(pictures: Pictures) -> None:
    from d2v.finetuning.splits import column_of

    setting = setting_of(pictures.with_val, folds="fold")
    fold = Setting(setting.modality, setting.config, setting.pretraining, setting.prepared, None, fold="3")
    data = VISION.open(pictures.with_val)
    assert set(column_of(fold.parts["test"], "fold", data) or []) == {"3"}
    assert set(column_of(fold.parts["train"], "fold", data) or []) == {"0", "1", "2", "4"}
    assert len({*column_of(fold.parts["train"], "key", data), *column_of(fold.parts["test"], "key", data)}) == 120  # type: ignore[misc]
    with pytest.raises(ConfigError, match=r"have no 'speaker'"):
        _ = setting_of(pictures.with_val, folds="speaker").folds


def test_joined_splits_read_what_their_parts_read(pictures: Pictures) -> None:
    recipe = recipe_of()
    splits = labelled_splits(VISION, VISION.open(pictures.with_val), recipe.finetune, recipe.train, {})
    parts = splits["train"], splits["test"]
    whole, first = Joined(parts), len(parts[0].labels)
    rows = np.array([first + 3, 5, first, 0])
    expected = torch.cat([parts[1].inputs(np.array([3])).values, parts[0].inputs(np.array([5])).values])
    assert torch.equal(whole.inputs(rows).values[:2], expected)
    some = Subset(whole, rows)
    assert some.labels.tolist() == [parts[1].labels[3], parts[0].labels[5], parts[1].labels[0], parts[0].labels[0]]
    keys = SampleKeys(0, np.array([1, 2]), np.array([4, 6]))
    ours = some.augmented(keys).values
    assert torch.equal(ours[:1], parts[0].augmented(SampleKeys(0, np.array([5]), np.array([4]))).values)
    assert torch.equal(ours[1:], parts[1].augmented(SampleKeys(0, np.array([0]), np.array([6]))).values)


def test_inputs_of_different_lengths_are_padded() -> None:
    short, long = torch.ones(2, 3), torch.full((1, 5), 2.0)
    joined = side_by_side([Inputs(short, torch.tensor([3, 2])), Inputs(long)], np.array([2, 0, 1]))
    assert joined.lengths is not None
    assert joined.lengths.tolist() == [5, 3, 2]
    assert joined.values[1].tolist() == [1, 1, 1, 0, 0]
