"""Time to accuracy, published results, costs over sessions, and MLflow's children."""

from __future__ import annotations

import itertools
import json
import signal
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient
from pydantic import TypeAdapter

from d2v.comparison.label_efficiency_report import Measured
from d2v.comparison.pretraining import Curve
from d2v.comparison.published import Facts, amount_of, comparable, published, why_not_comparable
from d2v.comparison.time_to_accuracy import speeds
from d2v.config import MlmConfig, TrainConfig, changed
from d2v.errors import Interrupted
from d2v.tracking.mlflow_tracker import MlflowTracker
from d2v.training.history import History
from d2v.training.performance import TRAINED_S
from tests.tracking.conftest import client, empty_store  # noqa: F401
from tests.training.fakes import Recorder, make_recipe, train_fake


def curve(objective: str, seed: int, accuracy: list[float], step_s: float = 10.0) -> Curve:
    steps = range(1, len(accuracy) + 1)
    return Curve(objective, seed, [step_s * i for i in steps], [2e9 * i for i in steps], accuracy)


def sentence(*curves: Curve) -> str:
    return speeds(curves, "data2vec2")[0].sentence()


def test_time_to_accuracy_has_the_range_of_the_seeds() -> None:
    ours = [curve("data2vec2", 0, [0.3, 0.6, 0.7]), curve("data2vec2", 1, [0.5, 0.6, 0.7])]
    theirs = [curve("mae", seed, [0.1, 0.4, 0.5, 0.4]) for seed in (0, 1)]
    said = sentence(*ours, *theirs)
    assert said == (
        "data2vec2 reaches the best online probe of mae (0.500) after 0.50 of its time "
        "(0.33 to 0.67 over 4 pairs of seeds)."
    )
    by_axis = {(one.objective, one.axis): one for one in speeds([*ours, *theirs], "data2vec2")}
    assert "floating point operations" in by_axis["data2vec2", "flops"].sentence()
    assert by_axis["mae", "seconds"].shares == []


def test_an_interval_is_over_seeds_and_items() -> None:
    """Ours is as good as theirs ever gets after half of their time, in each of 400 items and each seed."""
    items = np.random.default_rng(0).permutation(400)

    def kept(objective: str, accuracy: list[float]) -> dict[tuple[str, int], np.ndarray]:
        right_KN = np.stack([items < 400 * share for share in accuracy])
        return {(objective, seed): right_KN for seed in range(3)}

    ours, theirs = [0.2, 0.5, 0.6, 0.6], [0.1, 0.2, 0.3, 0.4]
    curves = [curve(name, seed, of) for name, of in (("data2vec2", ours), ("mae", theirs)) for seed in range(3)]
    forth, back = speeds(curves, "data2vec2", kept("data2vec2", ours) | kept("mae", theirs))[:2]
    assert forth.interval == (0.5, 0.5)
    assert forth.verdict == "sooner"
    assert "after 0.50 of its time (0.50 over 9 pairs of seeds; 95% over seeds and items: 0.50 to 0.50, sooner)" in (
        forth.sentence()
    )
    assert (back.objective, back.interval, back.verdict) == ("mae", (None, None), "later")
    slow = [curve("data2vec2", seed, ours if seed else theirs[::-1], step_s=20) for seed in range(3)]
    mixed = kept("data2vec2", ours) | {("data2vec2", 0): kept("", theirs[::-1])["", 0]} | kept("mae", theirs)
    seeds_differ = speeds(slow + curves[3:], "data2vec2", mixed)[0]
    assert seeds_differ.interval == (0.5, 1.0)
    assert seeds_differ.verdict == "not told apart"


def test_what_is_not_reached_is_said() -> None:
    theirs = [curve("mae", 0, [0.1, 0.8])]
    assert "does not reach" in sentence(curve("data2vec2", 0, [0.3, 0.7]), *theirs)
    both = [curve("data2vec2", 0, [0.3, 0.7]), curve("data2vec2", 1, [0.3, 0.9])]
    assert "in 1 of 2 pairs of seeds, there after 1.00 of its time, and not" in sentence(*both, *theirs)
    assert "so no interval" in sentence(curve("data2vec2", 0, [0.9, 0.9]), *theirs)
    assert speeds([curve("data2vec2", 0, []), curve("mae", 0, [])], "data2vec2") == []


COLA = Facts("text", "cola", "matthews", ["10%", "all"], 124_000_000)


def test_published_figures_need_the_same_data_metric_size_and_labels() -> None:
    found = {one.model: one.value for one in comparable(COLA)}
    assert found["data2vec"] == pytest.approx(0.622)
    assert found["data2vec 2.0"] == pytest.approx(0.591)
    assert len(found) == 5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": "pydocs"}, "data pydocs, published cola, mnli"),
        ({"metric": "accuracy"}, "metric accuracy, published matthews"),
        ({"parameters": 800_000}, "an encoder of 0.8 million parameters, published 110 to 125"),
        ({"labels": ["10%"]}, "labels 10%, published all"),
        ({"modality": "series"}, "there are no published results for series"),
    ],
)
def test_what_differs_is_named(change: dict[str, object], why: str) -> None:
    facts = Facts(**{**vars(COLA), **change})
    assert comparable(facts) == []
    assert why in why_not_comparable(facts)


def test_published_figures_are_shares_of_known_modalities() -> None:
    assert all(0.0 < one.value < 1.0 and one.parameters > 1e7 for one in published())
    assert {one.modality for one in published()} == {"vision", "speech", "text"}
    assert amount_of("minutes-60") == "60 min"


def test_costs_are_those_of_all_sessions(tmp_path: Path) -> None:
    recipe = make_recipe(log_every_updates=1)
    with pytest.raises(Interrupted):
        train_fake(tmp_path, recipe, tracker=Recorder(signal_at=7, number=signal.SIGTERM))
    first = History.read(tmp_path / "history.csv").rows
    train_fake(tmp_path, recipe)
    rows = History.read(tmp_path / "history.csv").rows
    seconds = [row[TRAINED_S] for row in rows]
    assert seconds[:7] == [row[TRAINED_S] for row in first]
    assert all(one < two for one, two in itertools.pairwise(seconds))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["seconds"] == round(seconds[-1], 3)
    assert result["peak_memory_mb"] > 50


def test_changes_merge_unless_they_change_the_type() -> None:
    recipe = make_recipe()
    merged: TrainConfig = changed(recipe, {"objective": {"masks_per_sample": 3}}, at="x")
    assert (merged.objective.name, merged.objective.masks_per_sample) == ("data2vec2", 3)  # type: ignore[union-attr]
    other = changed(recipe, {"objective": {"name": "mlm"}}, at="x").objective
    assert other.model_dump().keys() == MlmConfig.model_fields.keys()


def test_children_are_made_once(client: MlflowClient) -> None:  # noqa: F811
    parent = mlflow.start_run().info.run_id
    tracker = MlflowTracker(parent)
    for value in (1.0, 2.0):
        with tracker.child("vision-mae-seed-0", {"objective": "mae"}) as child:
            child.log_metrics({"cost/seconds": value}, 1)
    with pytest.raises(ValueError, match="broken"), tracker.child("other", {}):
        raise ValueError("broken")
    experiment = client.get_run(parent).info.experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")}
    assert {name: run.info.status for name, run in runs.items()} == {"vision-mae-seed-0": "FINISHED", "other": "FAILED"}
    found = runs["vision-mae-seed-0"]
    assert (found.data.tags["objective"], found.data.metrics["cost/seconds"]) == ("mae", 2.0)
    assert client.get_run(parent).info.status == "RUNNING"


def test_an_outcome_of_before_is_read() -> None:
    """It called the initial weights of a contender `way`."""
    values = {"objective": "", "key": "scratch", "amount": "share-1", "by_seed": [0.5]}
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    found = TypeAdapter(Measured).validate_python({"way": "scratch", **values, "interval": interval})
    assert (found.init, found.name) == ("scratch", "random weights, all trained")
