"""A benchmark from nothing, and what of it is run again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from d2v.comparison import pretraining
from d2v.comparison.compare import benchmark, combine
from d2v.comparison.comparison import Comparison, Pretraining
from d2v.comparison.outcome import Outcome, read_outcome, write_outcome
from d2v.comparison.pretraining import Curve, read_curve, run_pretraining
from d2v.comparison.probing import PLAIN, RANDOM
from d2v.comparison.report import write_benchmark_report
from d2v.config import BenchmarkConfig, parse
from d2v.data.batch import Inputs
from d2v.errors import CollapseError, ConfigError, DataError
from d2v.modalities.probes import Choice, CountModel
from d2v.modalities.vision.modality import Vision
from d2v.training.history import History
from tests.comparison.conftest import BENCHMARK, Tree
from tests.evaluation.test_codebook import COUNTED


def written(comparison: Comparison) -> dict[str, int]:
    """When each training of a benchmark was finished."""
    return {
        f"{result.parent.parent.name}/{result.parent.name}": result.stat().st_mtime_ns
        for kind in ("pretrainings", "runs")
        for result in comparison.out.glob(f"{kind}/*/result.json")
    }


def rerun(comparison: Comparison) -> set[str]:
    """The trainings that another call does again."""
    before = written(comparison)
    benchmark(comparison)
    return {key for key, when in written(comparison).items() if before.get(key) != when}


@pytest.fixture
def copy(comparison: Comparison, whole: tuple[Outcome, Tree], tmp_path: Path) -> Comparison:
    """The finished benchmark, to spoil."""
    shutil.copytree(comparison.out, tmp_path / "out")
    return dataclasses.replace(comparison, out=tmp_path / "out")


def test_the_report_has_every_objective_at_every_amount(comparison: Comparison, whole: tuple[Outcome, Tree]) -> None:
    outcome, _ = whole
    cells = {(one.key, one.amount) for one in outcome.findings.measured}
    assert cells == {(key, f"share-{amount}") for key in ("data2vec2", "mae", "scratch") for amount in ("0.1", "1")}
    text = (comparison.out / "report.md").read_text()
    for name in ("data2vec2, all trained", "mae, all trained", "random weights, all trained"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert row.count(" ± ") == 2
    assert "Beware: the linear probe of mae is not above random weights" in text
    assert "Published results are not comparable: data prepared, published imagenet" in text
    assert (comparison.out / "report.html").read_text().count("data:image/png;base64") == 2
    assert {(cost.objective, cost.seed) for cost in outcome.costs} == {
        (name, seed) for name in ("data2vec2", "mae") for seed in (0, 1)
    }
    assert all(cost.updates == 4 and cost.samples == 32 and cost.flops > 0 for cost in outcome.costs)
    assert all(cost.seconds > 0 and cost.peak_memory_mb > 50 for cost in outcome.costs)
    assert all(len(curve.accuracy) == len(curve.seconds) == 2 for curve in outcome.curves)


def test_frozen_features_are_compared_on_the_same_items(whole: tuple[Outcome, Tree]) -> None:
    outcome, _ = whole
    features = ["data2vec2", "mae", "random", "plain"]
    assert [(one.features, one.probe) for one in outcome.probed] == [
        (name, probe) for probe in ("linear", "knn") for name in features
    ]
    of = {(one.features, one.probe): one for one in outcome.probed}
    for probe in ("linear", "knn"):
        ours, gain = of["data2vec2", probe].interval.value, of["mae", probe].gain
        assert of["data2vec2", probe].gain is None
        assert gain is not None
        assert gain.value == pytest.approx(ours - of["mae", probe].interval.value)


def test_every_training_is_a_run_below(whole: tuple[Outcome, Tree]) -> None:
    outcome, tracker = whole
    assert len(tracker.children) == 4 + 12
    child = tracker.children["vision-mae-seed-1"]
    assert child.tags == {"modality": "vision", "stage": "pretraining", "objective": "mae", "seed": "1"}
    assert {"cost/seconds", "cost/flops", "cost/samples", "cost/peak_memory_mb"} <= child.metrics.keys()
    assert {"probe/linear", "probe/knn", "train/loss"} <= child.metrics.keys()
    task = tracker.children["vision-scratch-share-0.1-seed-1"]
    assert (task.tags["way"], task.tags["labels"], task.tags["objective"]) == ("scratch", "share-0.1", "none")
    assert {"eval/accuracy", "eval/accuracy_low", "cost/seconds"} <= task.metrics.keys()
    assert tracker.metrics == outcome.metrics()
    assert {"benchmark/report.html", "benchmark/labels.png", "benchmark/time_to_accuracy.png"} <= set(tracker.files)


def test_only_what_is_lost_is_trained_again(copy: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy.out / "runs/mae-share-1-seed-1")
    assert rerun(copy) == {"runs/mae-share-1-seed-1"}
    said = capsys.readouterr().err
    assert "benchmark vision: 16 runs (4 of pretraining and 12 of task), 15 of them done already" in said
    assert "benchmark vision: 16 of 16: mae-share-1-seed-1 in" in said


def test_a_changed_recipe_reruns_what_it_changes(copy: Comparison) -> None:
    wider = {**BENCHMARK["objectives"]["mae"], "optimizer": {"lr": 3e-3}}
    config = parse(BenchmarkConfig, BENCHMARK | {"objectives": {"data2vec2": {}, "mae": wider}})
    again = rerun(dataclasses.replace(copy, config=config))
    assert again == {f"pretrainings/mae-seed-{seed}" for seed in (0, 1)} | {
        f"runs/mae-share-{share}-seed-{seed}" for share in ("0.1", "1") for seed in (0, 1)
    }


def test_pretrainings_start_from_the_folder_that_the_block_names(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path | None] = []
    monkeypatch.setattr(pretraining, "pretrain", lambda start, **_: given.append(start))
    recipe = comparison.train.model_copy(update={"start": "elsewhere"})
    for changes in ({}, {"start": "books/encoder"}):
        config = parse(BenchmarkConfig, BENCHMARK | {"pretraining": changes})
        one = dataclasses.replace(comparison, train=recipe, config=config, out=tmp_path)
        pretraining.run_pretraining(one, one.pretrainings[0])
    assert given == [None, Path("books/encoder")]


def test_a_pretraining_from_given_weights_is_known_when_it_is_done(
    comparison: Comparison, whole: tuple[Outcome, Tree], tmp_path: Path
) -> None:
    begin = {"start": str(comparison.pretrainings[0].encoder)}
    config = parse(BenchmarkConfig, BENCHMARK | {"pretraining": begin})
    again = dataclasses.replace(comparison, config=config, out=tmp_path)
    one = again.pretrainings[0]
    assert not pretraining.is_pretrained(again, one)
    pretraining.run_pretraining(again, one)
    assert pretraining.is_pretrained(again, one)


def test_one_report_of_several(comparison: Comparison, whole: tuple[Outcome, Tree], tmp_path: Path) -> None:
    tracker = Tree()
    assert read_outcome(comparison.out) == whole[0]
    combine([comparison.out, comparison.out], tmp_path / "both", tracker)
    assert (tmp_path / "both/report.md").read_text().count("## vision: the task") == 2
    assert "benchmark/labels.png" in tracker.files
    with pytest.raises(DataError, match="kedro run --pipeline=benchmark_"):
        combine([tmp_path], tmp_path / "both")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": {"data2vec2": {}, "mae": {"objective": {"name": "mai"}}}}, "objectives.mae.*mai"),
        ({"objectives": {"wav2vec2": {"objective": {"name": "wav2vec2"}}}}, "does not fit vision|wav2vec2"),
        ({"pretraining": {"max_update": 3}}, r"benchmark\.pretraining\.max_update: unknown key"),
        ({"finetuning": {"optimizer": 3}}, r"benchmark\.finetuning\.optimizer is a block"),
    ],
)
def test_changes_that_do_not_fit_stop_before_any_run(
    comparison: Comparison, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = parse(BenchmarkConfig, BENCHMARK | changes)
    with pytest.raises(ConfigError, match=message):
        benchmark(dataclasses.replace(comparison, config=config, out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_it_starts_its_own_ranks(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="without torchrun or srun"):
        benchmark(comparison)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objectives": {}}, "objectives is empty"),
        ({"objectives": {"scratch": {}}}, "'scratch' would name"),
        ({"objectives": {"MAE 2": {}}}, "small letters"),
        ({"objectives": {"mae": {}}, "pretraining_seeds": 4}, "raise efficiency.seeds"),
    ],
)
def test_benchmarks_of_nothing_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(BenchmarkConfig, values)


def test_trials_without_a_probe_choose_nothing(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of text without labels whose objective has no loss of single tokens."""
    block = {"trials": {"changes": {"mae": [{}]}, "share": 0.5}, "pretraining_seeds": 1}
    ours = dataclasses.replace(comparison, config=parse(BenchmarkConfig, BENCHMARK | block), out=tmp_path)
    monkeypatch.setattr("d2v.evaluation.online.why_not_probed", lambda _: "the data has no labels")
    with pytest.raises(DataError, match=r"mae-0 has no online probe to choose by.*: remove benchmark\.trials"):
        benchmark(ours)


def test_trials_choose_the_settings_that_are_compared(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"mae": [{}, {"optimizer": {"lr": 1e-5}}], "data2vec2": [{"mask": {"ratio": 0.5}}, {}]}
    trials, efficiency = {"changes": changes, "share": 0.5}, {"shares": [1.0], "inits": ["pretrained"]}
    block = {"trials": trials, "pretraining_seeds": 1, "efficiency": efficiency}
    config = parse(BenchmarkConfig, BENCHMARK | block)
    ours, best = dataclasses.replace(comparison, config=config, out=tmp_path), ("mae-1", "data2vec2-0")
    monkeypatch.setattr(
        "d2v.comparison.trials.read_curve",
        lambda one, probe: Curve(one.objective, one.seed, [1.0], [1.0], [float(one.folder.name in best)]),
    )
    outcome = benchmark(ours)
    assert [(one.objective, one.settings, one.updates, one.chosen) for one in outcome.trials] == [
        ("mae", "as in the recipe", 2, False),
        ("mae", "optimizer: {lr: 1e-05}", 2, True),
        ("data2vec2", "mask: {ratio: 0.5}", 2, True),
        ("data2vec2", "as in the recipe", 2, False),
    ]
    recipes = {
        name: json.loads((tmp_path / "pretrainings" / f"{name}-seed-0" / "result.json").read_text())["recipe"]
        for name in ("mae", "data2vec2")
    }
    assert recipes["mae"]["optimizer"]["lr"] == 1e-5
    assert recipes["data2vec2"]["mask"]["ratio"] == 0.5
    assert {one.recipe.seed for one in ours.trials} == {ours.train.seed + 1000}
    text = (tmp_path / "report.md").read_text()
    assert "| mae | optimizer: {lr: 1e-05} | 2 | 1.000 | yes |" in text
    assert rerun(ours) == set()


def test_a_trial_that_collapses_is_out_and_not_run_again(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wild = {"optimizer": {"lr": 3.0}}
    trials, efficiency = (
        {"changes": {"data2vec2": [wild, {}]}, "share": 0.5},
        {"shares": [1.0], "inits": ["pretrained"]},
    )
    config = parse(BenchmarkConfig, BENCHMARK | {"trials": trials, "pretraining_seeds": 1, "efficiency": efficiency})
    ran, real = [], run_pretraining

    def run(comparison: Comparison, one: Pretraining) -> None:
        ran.append(one.folder.name)
        if one.recipe.optimizer.lr == 3.0:
            raise CollapseError("The representations collapsed by update 2")
        real(comparison, one)

    monkeypatch.setattr("d2v.comparison.trials.run_pretraining", run)
    ours = dataclasses.replace(comparison, config=config, out=tmp_path)
    outcome = benchmark(ours)
    assert [(one.accuracy is None, one.chosen) for one in outcome.trials] == [(True, False), (False, True)]
    assert read_outcome(tmp_path).trials == outcome.trials
    assert "| collapsed |" in (tmp_path / "report.md").read_text()
    assert rerun(ours) == set()
    assert ran == ["data2vec2-0", "data2vec2-1"]
    only = parse(BenchmarkConfig, BENCHMARK | {"trials": trials | {"changes": {"data2vec2": [wild]}}})
    with pytest.raises(CollapseError, match=r"All trials of data2vec2 collapsed: name others under benchmark\.trials"):
        benchmark(dataclasses.replace(ours, config=only, out=tmp_path / "only"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"mae": [{}], "data2vec2": [{}, {}]}, "as many trials"),
        ({"mae": []}, "as many trials"),
        ({"beit": [{}]}, "is no objective"),
    ],
)
def test_trials_are_as_many_for_every_objective(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        parse(BenchmarkConfig, BENCHMARK | {"trials": {"changes": changes}})


def test_a_codebook_that_an_objective_learns_is_in_the_report(whole: tuple[Outcome, Tree], tmp_path: Path) -> None:
    assert whole[0].codes is None
    write_outcome(dataclasses.replace(whole[0], codes=COUNTED), tmp_path)
    outcome = read_outcome(tmp_path)
    assert outcome.metrics()["codebook/purity"] == pytest.approx(0.9)
    write_benchmark_report(tmp_path, [outcome])
    assert "vision: codebook" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "codebook_vision.png").is_file()
    write_benchmark_report(tmp_path, whole[:1])
    assert not (tmp_path / "codebook_vision.png").exists()


def test_the_curves_of_a_benchmark_have_intervals_over_kept_items(whole: tuple[Outcome, Tree]) -> None:
    outcome, _ = whole
    assert outcome.timed is not None
    assert {(one.objective, one.baseline, one.axis) for one in outcome.timed} == {
        (one, other, axis)
        for one, other in (("data2vec2", "mae"), ("mae", "data2vec2"))
        for axis in ("seconds", "flops", "samples")
    }
    assert all(one.interval is not None for one in outcome.timed)


def test_runs_that_kept_no_items_have_no_intervals(copy: Comparison) -> None:
    for folder in (copy.out / "pretrainings").glob("mae-*/probed"):
        shutil.rmtree(folder)
    outcome = benchmark(copy)
    assert outcome.timed is not None
    assert {one.interval for one in outcome.timed} == {None}


def choosing(copy: Comparison, shares: list[float]) -> None:
    """Gives its pretrainings a choice of ten pairs, right in these shares at the two probes."""
    for one in copy.pretrainings:
        file = one.folder / "history.csv"
        rows = History.read(file).rows
        for row, share in zip([row for row in rows if "online/linear" in row], shares, strict=True):
            row["online/choice"] = share
            np.save(one.folder / "probed" / f"{row['update']:.0f}.npy", np.arange(10) < 10 * share)
        History(rows).write(file)


def test_where_all_have_chosen_the_choice_is_their_curve(copy: Comparison) -> None:
    choosing(copy, [0.5, 0.8])
    outcome = benchmark(copy)
    assert {tuple(curve.accuracy) for curve in outcome.curves} == {(0.5, 0.8)}
    assert outcome.timed is not None
    assert all(one.interval is not None for one in outcome.timed)


class WithPairs(Vision):
    """Pictures beside the same with their halves exchanged, and counts that are right of every second one."""

    def choice(self, data: object, recipe: object, pairs: range, counted: bool = False) -> Choice:
        values = data.probe_set(recipe).test_inputs.values[pairs.start : pairs.stop]  # type: ignore[attr-defined]
        counts = CountModel("counts", np.arange(len(values)) % 2 == 0) if counted else None
        return Choice("halves", "halves", Inputs(values), Inputs(values.roll(values.shape[-1] // 2, dims=3)), counts)


def test_the_choice_of_finished_objectives_stands_beside_the_probes(copy: Comparison) -> None:
    outcome = benchmark(dataclasses.replace(copy, modality=WithPairs()))
    found = {one.features: one for one in outcome.probed if one.probe == "halves"}
    assert list(found) == ["data2vec2", "mae", RANDOM, PLAIN]
    assert found[PLAIN].interval.value == pytest.approx(0.5, abs=0.1)
    assert [len(found[name].by_seed) for name in ("data2vec2", "mae", RANDOM)] == [2, 2, 2]
    assert found["data2vec2"].gain is None
    assert found["mae"].gain is not None
    assert "probe/halves_mae" in outcome.metrics()
    said = (copy.out / "report.md").read_text()
    assert "| halves | data2vec2 ahead" in said
    assert "parts exchanged" in said
    assert "Beware: the halves probe of" in said


def test_where_some_have_not_the_linear_probe_is(copy: Comparison) -> None:
    """And items of the choice are not taken for its."""
    choosing(dataclasses.replace(copy, config=one_seed(copy)), [0.5, 0.8])
    before = [read_curve(one).accuracy for one in copy.pretrainings]
    outcome = benchmark(copy)
    assert [curve.accuracy for curve in outcome.curves] == before
    assert outcome.timed is not None
    assert {one.interval for one in outcome.timed} == {None}


def one_seed(copy: Comparison) -> BenchmarkConfig:
    return copy.config.model_copy(update={"pretraining_seeds": 1})


def test_sizes_that_a_run_of_before_did_not_write_are_not_asked(copy: Comparison) -> None:
    for one in copy.pretrainings:
        (one.folder / "probed" / "sizes.json").write_text('{"online_train_items": 1000, "online_test_items": 500}')
    before = written(copy)
    benchmark(copy)
    assert written(copy) == before


def test_curves_on_other_items_are_refused_before_anything_is_trained(copy: Comparison) -> None:
    evaluate = copy.evaluate.model_copy(update={"online_test_items": 7})
    before = written(copy)
    with pytest.raises(ConfigError, match=r"was probed on other items .*'online_test_items': 500"):
        benchmark(dataclasses.replace(copy, evaluate=evaluate))
    assert written(copy) == before


def test_trials_without_labels_are_refused_before_the_first(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse(BenchmarkConfig, BENCHMARK | {"trials": {"changes": {"mae": [{}]}}})
    monkeypatch.setattr("d2v.comparison.trials.why_not_probed", lambda _: "the data has no labels")
    ours = dataclasses.replace(comparison, config=config, out=tmp_path)
    with pytest.raises(DataError, match=r"the data has no labels: remove benchmark\.trials$"):
        benchmark(ours)
    monkeypatch.setattr(type(comparison.modality), "has_choices", True)
    few = lambda *given, **_: None if given[-1].start else object()  # noqa: E731
    monkeypatch.setattr(type(comparison.modality), "choice", few)
    with pytest.raises(DataError, match=r"or lower evaluate\.further_items \(\d+\), behind which its pairs come"):
        benchmark(ours)
    assert not (tmp_path / "trials").exists()


def test_a_benchmark_without_samples_is_still_drawn(whole: tuple[Outcome, Tree], tmp_path: Path) -> None:
    """As files of before are."""
    outcome, _ = whole
    curves = [dataclasses.replace(curve, samples=[]) for curve in outcome.curves]
    (tmp_path / "old").mkdir()
    write_outcome(dataclasses.replace(outcome, curves=curves, timed=None, trials=[]), tmp_path / "old")
    combine([tmp_path / "old"], tmp_path / "report")
    assert (tmp_path / "report" / "time_to_accuracy.png").stat().st_size > 10_000
