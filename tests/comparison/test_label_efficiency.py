"""A study of label efficiency: what is run, what is not run again, and its metrics."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from d2v.comparison import label_efficiency as module
from d2v.comparison.label_efficiency import Contender, Point, Study, TaskRun, contenders, label_efficiency
from d2v.comparison.label_efficiency_report import Findings, Measured, amount_name, draw_efficiency, verdict
from d2v.config import parse
from d2v.config.efficiency import EfficiencyConfig
from d2v.errors import ConfigError, Interrupted
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionFinetuneConfig
from d2v.statistics import Interval
from d2v.tracker import NullTracker
from tests.distributed.trainings import Training
from tests.modalities.contract.case import find_case, make_prepared

VISION = registry.get("vision")
VALUES = {
    "task": {"name": "classification"},
    "optimizer": {"lr": 3e-3, "clip_norm": None},
    "batch_size": 8,
    "max_updates": 2,
    "precision": "fp32",
    "layer_decay": 0.7,
    "bootstrap_resamples": 200,
}


class Keeps(NullTracker):
    """What it was given."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.files: list[str] = []

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        self.metrics = metrics

    def log_artifact(self, path: Path, folder: str) -> None:
        self.files.append(f"{folder}/{path.name}")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two amounts of labels, two inits, two seeds, on a tiny encoder."""
    case, folder = find_case("vision"), tmp_path_factory.mktemp("efficiency")
    assert case is not None
    pretraining = Training(make_prepared(VISION, case, folder).path, folder / "pretraining", "vision")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dataclasses.replace(pretraining, changes={"max_updates": 2}).run()
    torch.set_num_threads(threads)
    efficiency = EfficiencyConfig(shares=(0.1, 0.5), seeds=2, inits=("pretrained", "scratch"))
    return Study(
        modality=VISION,
        config=parse(VisionFinetuneConfig, VALUES),
        efficiency=efficiency,
        pretraining=pretraining.recipe(),
        prepared=pretraining.prepared,
        contenders=contenders(efficiency.inits, {"data2vec2": [pretraining.out / "encoder"]}),
        out=folder / "study",
    )


def run_of(study: Study, init: Any, amount: float, seed: int) -> TaskRun:
    (contender,) = (one for one in study.contenders if one.init == init)
    return TaskRun(contender, Point(amount, in_minutes=False), seed)


@pytest.fixture(scope="module")
def metrics(study: Study) -> dict[str, float]:
    return label_efficiency(study)


def predictions(study: Study, init: Any, amount: float, seed: int) -> pd.DataFrame:
    folder = study.folder_of(run_of(study, init, amount, seed))
    return pd.read_parquet(folder / "report/predictions.parquet")


def test_a_metric_is_the_mean_over_seeds(study: Study, metrics: dict[str, float]) -> None:
    for init, key in (("pretrained", "data2vec2"), ("scratch", "scratch")):
        by_seed = []
        for seed in range(2):
            table = predictions(study, init, 0.1, seed)
            by_seed.append(float((table["predicted"] == table["right"]).mean()))
        name = f"efficiency/accuracy_{key}_share-0.1"
        assert metrics[name] == pytest.approx(np.mean(by_seed))
        assert metrics[f"{name}_seed_std"] == pytest.approx(np.std(by_seed, ddof=1))
        assert metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"]
    gain = metrics["efficiency/accuracy_data2vec2_share-0.1"] - metrics["efficiency/accuracy_scratch_share-0.1"]
    assert metrics["efficiency/accuracy_gain_over_scratch_share-0.1"] == pytest.approx(gain)
    assert (metrics["efficiency/items_share-0.1"], metrics["efficiency/items_share-0.5"]) == (8, 40)


def test_it_leaves_a_report_and_no_checkpoints(study: Study, metrics: dict[str, float]) -> None:
    assert json.loads((study.out / "metrics.json").read_text()) == pytest.approx(metrics)
    text = (study.out / "report.md").read_text()
    assert "| encoder | 10% (8 items) | 50% (40 items) |" in text
    assert "data2vec2, all trained" in text
    assert "over: random weights, all trained" in text
    assert "data:image/png;base64" in (study.out / "report.html").read_text()
    with Image.open(study.out / "efficiency.png") as picture:
        assert picture.width == 1200
    assert not list((study.out / "runs").glob("*/checkpoints"))
    assert len(list((study.out / "runs").glob("*/model/head.safetensors"))) == 8


def test_what_is_finished_is_not_trained_again(study: Study, metrics: dict[str, float]) -> None:
    """Only the run whose folder is gone comes again, and the metrics stay."""
    runs = {
        folder: (folder / "result.json").stat().st_mtime_ns
        for folder in (study.out / "runs").iterdir()
        if folder.is_dir()
    }
    lost = study.folder_of(run_of(study, "scratch", 0.5, 1))
    assert len(study.finished_runs([study.contenders[0].encoders[0]])) == 8
    (lost / "result.json").unlink()
    assert {study.folder_of(run) for run in study.finished_runs([])} == {
        study.folder_of(run) for run in study.runs() if run.contender.init == "scratch"
    } - {lost}
    tracker = Keeps()
    again = label_efficiency(study, tracker)
    after = {folder: (folder / "result.json").stat().st_mtime_ns for folder in runs}
    assert {folder for folder in runs if after[folder] != runs[folder]} == {lost}
    assert again == pytest.approx(metrics)
    assert tracker.metrics == again
    assert {"efficiency/report.html", "efficiency/metrics.json", "efficiency/efficiency.png"} <= set(tracker.files)


def test_an_interrupted_study_goes_on(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = (study.contenders[0], Contender("random_frozen"))
    small = dataclasses.replace(
        study, out=tmp_path, efficiency=EfficiencyConfig(shares=(0.5,), seeds=1), contenders=few
    )
    real, calls = module.finetune, []

    def stops(*arguments: Any) -> Any:
        calls.append(arguments[-1].name)
        if len(calls) == 2:
            raise Interrupted("stopped")
        return real(*arguments)

    monkeypatch.setattr(module, "finetune", stops)
    with pytest.raises(Interrupted):
        label_efficiency(small)
    assert not (tmp_path / "metrics.json").exists()
    assert "efficiency/accuracy_random_frozen_share-0.5" in label_efficiency(small)
    assert calls == [f"{key}-share-0.5-seed-0" for key in ("data2vec2", "random_frozen") * 2]


def test_inits_differ_in_their_changes(study: Study) -> None:
    point, minutes = Point(0.1, in_minutes=False), Point(10.0, in_minutes=True)
    frozen = study.config_of(TaskRun(Contender("random_frozen"), point, 2))
    scratch = study.config_of(TaskRun(Contender("scratch"), point, 2))
    assert (scratch.start, scratch.trained, scratch.layer_decay) == ("scratch", "all", 1.0)
    assert (frozen.start, frozen.trained, frozen.layer_decay) == ("scratch", "head", 0.7)
    assert (scratch.labels.share, scratch.labels.seed, scratch.seed) == (0.1, 2, 2)
    of_minutes = study.config_of(TaskRun(study.contenders[0], minutes, 0))
    assert (of_minutes.labels.minutes, of_minutes.labels.share) == (10.0, 1.0)


def test_contenders_are_ways_times_objectives() -> None:
    encoders = {"data2vec2": [Path("a"), Path("b")], "mae": [Path("c"), Path("d")]}
    found = contenders(("pretrained", "frozen", "scratch", "random_frozen"), encoders)
    assert [one.key for one in found] == [
        "data2vec2",
        "mae",
        "data2vec2_frozen",
        "mae_frozen",
        "scratch",
        "random_frozen",
    ]
    assert [found[1].start(seed) for seed in range(3)] == [Path("c"), Path("d"), Path("c")]
    assert found[4].start(0) is None


def test_an_unfinished_run_of_another_recipe_moves_aside(study: Study, tmp_path: Path) -> None:
    """In a study it is a leftover; a single training would refuse to go on."""
    small = dataclasses.replace(study, out=tmp_path, efficiency=EfficiencyConfig(shares=(0.5,), seeds=1))
    run = run_of(small, "scratch", 0.5, 0)
    module.run_task(small, run)
    folder = small.folder_of(run)
    other = dataclasses.replace(small, config=small.config.model_copy(update={"batch_size": 4}))
    module.finetune(VISION, other.config_of(run), other.pretraining, other.prepared, None, folder)
    (folder / "result.json").unlink()
    module.run_task(small, run)
    assert json.loads((folder / "result.json").read_text())["recipe"]["batch_size"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": {"lrr": 1.0}}, r"efficiency\.changes\.scratch\.optimizer\.lrr.*lr"),
        ({"optimizer": 3}, "give its entries"),
    ],
)
def test_changes_that_do_not_fit_are_named_before_any_run(
    study: Study, tmp_path: Path, change: Any, message: str
) -> None:
    wrong = dataclasses.replace(study, out=tmp_path, efficiency=EfficiencyConfig(changes={"scratch": change}))
    with pytest.raises(ConfigError, match=message):
        label_efficiency(wrong)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shares": [0.5, 0.1]}, "do not ascend"),
        ({"shares": []}, "do not ascend"),
        ({"inits": ["scratch"]}, "name pretrained"),
        ({"inits": ["pretrained", "pretrained"]}, "each of them once"),
    ],
)
def test_studies_that_compare_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(EfficiencyConfig, values)


def test_error_rates_gain_by_falling() -> None:
    right = ["a b c d", "e f"]
    better, worse = (module.metric("wer").score(said, right) for said in (right, ["a b c", "e"]))
    gain = module._gain("wer", [better, better], [worse, worse], 200)
    assert gain.value == pytest.approx(1 / 3)
    assert gain.low > 0.0


def test_the_curve_has_all_amounts(tmp_path: Path) -> None:
    items = {"minutes-10": 120, "minutes-60": 700}
    measured = [
        Measured(init, objective, key, amount, Interval(0.5, 0.4, 0.6), [0.4, 0.6])
        for init, objective, key in (("pretrained", "mae", "mae"), ("scratch", "", "scratch"))
        for amount in items
    ]
    findings = Findings("wer", True, items, measured, [])
    assert draw_efficiency(tmp_path / "a.png", {"speech": findings}).stat().st_size > 10_000
    assert amount_name("minutes-10", 1200) == "10 min (1,200 items)"
    assert amount_name("share-0.01", 500) == "1% (500 items)"


@pytest.mark.parametrize(
    "predictions", [np.arange(3), np.array([0.5, 1.5, 2.5]), np.arange(6.0).reshape(3, 2), ["a b", "", "c"]]
)
def test_predictions_of_every_kind_come_back(tmp_path: Path, predictions: Any) -> None:
    pd.DataFrame({"predicted": list(predictions)}).to_parquet(tmp_path / "a.parquet")
    read = module._values(pd.read_parquet(tmp_path / "a.parquet")["predicted"])
    assert type(read) is type(predictions)
    np.testing.assert_array_equal(read, predictions)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.2, "not told apart")]
)
def test_a_difference_counts_only_without_zero(low: float, high: float, said: str) -> None:
    assert verdict(Interval(0.05, low, high)) == said
