"""Trackers beside MLflow: TensorBoard's, and classes that a project brings."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import pytest
from PIL import Image

from d2v.errors import ConfigError
from d2v.tracker import SeveralTrackers
from d2v.tracking.further import open_tracker
from d2v.tracking.mlflow_tracker import MlflowTracker
from pipelines import tracking
from pipelines.tracking import active_tracker


class Recorder:
    """Keeps all that it is told."""

    run_id: str | None = None

    def __init__(self, run: str, folder: str = "") -> None:
        self.run, self.folder = run, folder
        self.told: list[tuple[str, Any]] = []

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        self.told.append(("metrics", (metrics, update)))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.told.append(("artifact", (path, folder)))

    def log_params(self, values: Mapping[str, Any]) -> None:
        self.told.append(("params", values))

    def set_tags(self, tags: dict[str, str]) -> None:
        self.told.append(("tags", tags))

    @contextmanager
    def child(self, name: str, tags: dict[str, str]) -> Iterator[Recorder]:
        self.told.append(("child", (name, tags)))
        yield self


def tell(tracker: Any, tmp_path: Path) -> None:
    """Everything that a training and an evaluation tell."""
    tracker.log_metrics({"train/loss": 1.5, "train/lr": float("nan")}, 10)
    tracker.log_params({"train": {"optimizer": {"lr": 0.1}}})
    tracker.set_tags({"modality": "vision"})
    Image.new("RGB", (4, 4)).save(tmp_path / "curves.png")
    (tmp_path / "report.md").write_text("# fine\n")
    (tmp_path / "metrics.json").write_text("{}")
    for name in ("curves.png", "report.md", "metrics.json"):
        tracker.log_artifact(tmp_path / name, "report")
    with tracker.child("pretraining", {"stage": "pretraining"}) as child:
        child.log_metrics({"train/loss": 0.5}, 20)


def test_several_trackers_are_told_the_same(tmp_path: Path) -> None:
    one, other = Recorder("a"), Recorder("b")
    one.run_id = "first"
    both = SeveralTrackers([one, other])
    tell(both, tmp_path)
    assert one.told == other.told
    assert [kind for kind, _ in one.told] == ["metrics", "params", "tags", *["artifact"] * 3, "child", "metrics"]
    assert both.run_id == "first"


def test_a_run_has_the_trackers_of_globals_beside_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "_further", {f"{__name__}:Recorder": {"folder": "here"}})
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        with mlflow.start_run(experiment_id="0", run_name="whole_vision") as run:
            monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
            tracker = active_tracker()
            mine, beside = tracker._trackers  # type: ignore[attr-defined]
            assert isinstance(mine, MlflowTracker)
            assert tracker.run_id == run.info.run_id
            assert (beside.run, beside.folder) == (f"whole_vision-{run.info.run_id[:8]}", "here")
        monkeypatch.setattr(tracking, "_further", {})
        with mlflow.start_run(experiment_id="0"):
            assert isinstance(active_tracker(), MlflowTracker)
    finally:
        mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("tensorbord", {}, "did you mean tensorboard"),
        ("nothing_of_mine:Tracker", {}, "set PYTHONPATH"),
        (f"{__name__}:Recorder", {"colour": 1}, "takes other settings"),
    ],
)
def test_a_wrong_tracker_is_named(name: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"trackers in globals.yml: .*{said}"):
        open_tracker(name, "run", settings)


def test_tensorboard_is_an_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"install d2v\[tensorboard\]"):
        open_tracker("tensorboard", "run", {"folder": str(tmp_path)})


def test_tensorboard_shows_curves_figures_and_texts(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="d2v[tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = open_tracker("tensorboard", "whole-1", {"folder": str(tmp_path / "board")})
    tell(pickle.loads(pickle.dumps(tracker)), tmp_path)
    shown = EventAccumulator(str(tmp_path / "board" / "whole-1")).Reload()
    assert shown.Tags()["scalars"] == ["train/loss"], "values that are not finite are no points"
    assert [(point.step, point.value) for point in shown.Scalars("train/loss")] == [(10, 1.5)]
    assert shown.Tags()["images"] == ["report/curves"]
    texts = {name.removesuffix("/text_summary") for name in shown.Tags()["tensors"]}
    assert texts == {"settings", "tags", "report/report"}
    below = EventAccumulator(str(tmp_path / "board" / "whole-1" / "pretraining")).Reload()
    assert [point.value for point in below.Scalars("train/loss")] == [0.5]
