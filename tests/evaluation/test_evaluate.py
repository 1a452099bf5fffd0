"""A whole evaluation of a real (small) vision encoder: metrics, files, what is skipped and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from d2v.config import TrainConfig
from d2v.errors import CheckpointError, CollapseError, DataError
from d2v.evaluation import evaluate as run
from d2v.modalities import registry
from d2v.modalities.vision.modality import Vision
from d2v.model_folder import save_encoder
from d2v.objectives.build import build_objective
from d2v.training.history import History
from tests.evaluation.fakes import CONFIG, FakeData, Recorder, make_run, modality
from tests.evaluation.test_codebook import COUNTED

FILES = {
    "curves.png",
    "masks.png",
    "metrics.json",
    "model_card.md",
    "neighbours.png",
    "pca.png",
    "report.html",
    "report.md",
}


def evaluate(folder: Path, data: FakeData, recipe: TrainConfig, **changes: object) -> tuple[dict[str, float], Recorder]:
    tracker = Recorder()
    config = CONFIG.model_copy(update=changes)
    return run.evaluate(modality(data), recipe, config, folder, folder / "run", folder / "out", tracker), tracker


@dataclass
class Evaluated:
    """A folder with `run` and `out`, and what evaluate returned, logged and printed."""

    folder: Path
    recipe: TrainConfig
    metrics: dict[str, float]
    tracker: Recorder
    console: str


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Evaluated once for all tests that only look."""
    folder, data, console = tmp_path_factory.mktemp("evaluated"), FakeData(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(console):
        patch.setattr(registry, "get", lambda name: modality(data))
        recipe = make_run(folder / "run", data)
        metrics, tracker = evaluate(folder, data, recipe)
    return Evaluated(folder, recipe, metrics, tracker, console.getvalue())


@pytest.fixture
def evaluated(once: Evaluated, tmp_path: Path) -> Evaluated:
    """A copy that a test may change, in tmp_path."""
    shutil.copytree(once.folder, tmp_path, dirs_exist_ok=True)
    return once


def test_metrics_hold_three_rows_with_intervals(evaluated: Evaluated) -> None:
    metrics = evaluated.metrics
    for probe in ("linear", "knn"):
        for suffix in ("", "_random", "_baseline"):
            name = f"probe/{probe}{suffix}"
            assert 0.0 <= metrics[f"{name}_low"] <= metrics[name] <= metrics[f"{name}_high"] <= 1.0
        for suffix in ("_random", "_baseline"):
            gain = metrics[f"probe/{probe}_gain_over{suffix}"]
            assert gain == pytest.approx(metrics[f"probe/{probe}"] - metrics[f"probe/{probe}{suffix}"])
    assert metrics["probe/rank"] > 1.0
    assert metrics["probe/rank_random"] > 1.0
    others = [metrics[f"probe/{probe}{suffix}"] for probe in ("linear", "knn") for suffix in ("_random", "_baseline")]
    ours = max(metrics["probe/linear"], metrics["probe/knn"])
    assert metrics["probe/gain_over_best"] == pytest.approx(ours - max(*others, metrics["probe/majority"]))


def test_curves_and_their_table_are_of_the_same_items(evaluated: Evaluated, tmp_path: Path) -> None:
    report = (tmp_path / "out" / "report.md").read_text()
    table = report.split("On the items of the curves")[1]
    last = History.read(tmp_path / "run" / "history.csv").last()
    assert f"| pretrained | {100 * last['online/linear']:.1f} | {100 * last['online/knn']:.1f} |" in table


def test_everything_is_written_and_logged(evaluated: Evaluated, tmp_path: Path) -> None:
    tracker = evaluated.tracker
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert set(tracker.files) == {f"report/{name}" for name in FILES}
    assert tracker.rows == [(evaluated.recipe.max_updates, evaluated.metrics)]
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {name: value for name, value in stored.items() if name != "belongs_to"} == evaluated.metrics


def test_the_console_shows_tables_and_a_verdict(evaluated: Evaluated) -> None:
    console = evaluated.console
    for word in ("pretrained", "random weights", "raw pixels", "linear %", "kNN %", "rank", "test items right"):
        assert word in console
    assert f"{100 * evaluated.metrics['probe/linear']:.1f} (" in console
    assert "…" not in console


def test_the_html_needs_no_other_file(evaluated: Evaluated, tmp_path: Path) -> None:
    html = (tmp_path / "out" / "report.html").read_text()
    assert len(re.findall(r'src="data:image/png;base64,', html)) == 4
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


def test_the_model_card_says_source_cost_licence_and_limits(evaluated: Evaluated, tmp_path: Path) -> None:
    card = (tmp_path / "out" / "model_card.md").read_text()
    for text in ("abc", "unknown: whoever", "optimizer.lr | 0.001", "| samples | 20 |", "| 12 |", "## Limits", "FLOPs"):
        assert text in card, text


def test_facts_of_prepare_reach_the_model_card(tmp_path: Path, data: FakeData) -> None:
    recipe = make_run(tmp_path / "run", data)
    (tmp_path / "prepared.json").write_text(json.dumps({"source": "my photos", "licence": "CC0", "mean": [0.5]}))
    evaluate(tmp_path, data, recipe)
    card = (tmp_path / "out" / "model_card.md").read_text()
    assert "| source | my photos |" in card
    assert "| licence | CC0 |" in card


def test_the_same_encoder_is_not_measured_twice(evaluated: Evaluated, tmp_path: Path, data: FakeData) -> None:
    data.calls.clear()
    metrics, tracker = evaluate(tmp_path, data, evaluated.recipe)
    assert data.calls == []
    assert metrics == evaluated.metrics
    assert set(tracker.files) == {f"report/{name}" for name in FILES}


@pytest.mark.parametrize("change", ["settings", "weights", "data", "damage", "pictures"])
def test_a_change_is_measured_anew(change: str, evaluated: Evaluated, tmp_path: Path, data: FakeData) -> None:
    data.calls.clear()
    if change == "weights":
        make_run(tmp_path / "run", data, noise=0.05)
    if change == "data":
        data.fingerprint = "other"
    if change == "damage":
        (tmp_path / "out" / "metrics.json").write_text("{")
    if change == "pictures":
        (tmp_path / "out" / "pca.png").unlink()
    evaluate(tmp_path, data, evaluated.recipe, **({"knn_k": 3} if change == "settings" else {}))
    assert data.calls


def test_two_evaluations_agree(evaluated: Evaluated, tmp_path: Path, data: FakeData) -> None:
    (tmp_path / "out" / "metrics.json").unlink()
    metrics, _ = evaluate(tmp_path, data, evaluated.recipe)
    assert metrics == evaluated.metrics


@pytest.mark.parametrize("labelled", ["none", "one"])
def test_without_classes_there_are_ranks_and_pictures(
    labelled: str, tmp_path: Path, data: FakeData, capsys: pytest.CaptureFixture[str]
) -> None:
    data.labelled = labelled
    metrics, _ = evaluate(tmp_path, data, make_run(tmp_path / "run", data))
    assert set(metrics) == {"probe/rank", "probe/rank_random"}
    assert "no accuracy can be measured" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert "No accuracies" in (tmp_path / "out" / "report.md").read_text()


def test_a_set_without_test_items_lends_some_from_train(tmp_path: Path, data: FakeData) -> None:
    data.test_items = 0
    metrics, _ = evaluate(tmp_path, data, make_run(tmp_path / "run", data))
    assert "probe/linear" in metrics


def test_an_empty_probe_set_is_refused(tmp_path: Path, data: FakeData) -> None:
    data.train_items = data.test_items = 0
    recipe = make_run(tmp_path / "run", data)
    with pytest.raises(DataError, match="raise their numbers"):
        evaluate(tmp_path, data, recipe)


def test_an_unfinished_run_is_refused(tmp_path: Path, data: FakeData) -> None:
    recipe = make_run(tmp_path / "run", data)
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(CheckpointError, match="train_vision"):
        evaluate(tmp_path, data, recipe)


def test_another_recipe_is_refused_by_key(tmp_path: Path, data: FakeData) -> None:
    recipe = make_run(tmp_path / "run", data)
    with pytest.raises(CheckpointError, match=r"train\.seed: 0 -> 3"):
        evaluate(tmp_path, data, recipe.model_copy(update={"seed": 3}))


def test_missing_weights_are_named(tmp_path: Path, data: FakeData) -> None:
    recipe = make_run(tmp_path / "run", data)
    (tmp_path / "run" / "encoder" / "encoder.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors"):
        evaluate(tmp_path, data, recipe)


def test_broken_features_leave_no_metrics(tmp_path: Path, data: FakeData) -> None:
    recipe = make_run(tmp_path / "run", data)
    objective = build_objective(modality(data), recipe)
    with torch.no_grad():
        objective.student.stem.local.proj.weight.fill_(float("nan"))
    save_encoder(tmp_path / "run" / "encoder", objective, "vision", recipe)
    with pytest.raises(CollapseError, match="NaN"):
        evaluate(tmp_path, data, recipe)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_labels_may_be_partial(tmp_path: Path, data: FakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data.probe_set(None)  # type: ignore[arg-type]
    labels = whole.train_labels.clone()
    labels[::2] = -1
    monkeypatch.setattr(FakeData, "probe_set", lambda self, recipe: replace(whole, train_labels=labels))
    metrics, _ = evaluate(tmp_path, data, make_run(tmp_path / "run", data))
    assert "probe/linear" in metrics


def test_a_codebook_has_a_section_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = FakeData()
    monkeypatch.setattr(registry, "get", lambda name: modality(data))
    recipe = make_run(tmp_path / "run", data)
    monkeypatch.setattr(Vision, "code_counts", lambda self, data, items: COUNTED)
    metrics, tracker = evaluate(tmp_path, data, recipe)
    assert metrics["codebook/purity"] == pytest.approx(0.9)
    assert "## Codebook" in (tmp_path / "out" / "report.md").read_text()
    assert "report/codebook.png" in tracker.files
    monkeypatch.setattr(Vision, "code_counts", lambda self, data, items: None)
    metrics, _ = evaluate(tmp_path, data, recipe, knn_k=3)
    assert "codebook/purity" not in metrics
    assert "Codebook" not in (tmp_path / "out" / "report.md").read_text()
    assert not (tmp_path / "out" / "codebook.png").exists()
