"""Tuning a small text encoder to classes and scores, from files to figures."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from d2v.config import RegressionTask, parse
from d2v.data.digests import DIGESTS
from d2v.errors import ConfigError, DataError
from d2v.finetuning.data import labelled_splits
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import Setting, finetune
from d2v.finetuning.model import load_finetuned
from d2v.finetuning.tasks.regression import Regression
from d2v.modalities import registry
from d2v.modalities.text.config import TextFinetuneConfig, TextIngestConfig, TextPrepareConfig, TextTrainConfig
from d2v.tracker import NullTracker
from tests.modalities.text.test_preparation import TRAIN

TEXT = registry.get("text")
ENCODER = {"vocab_size": 320, "max_tokens": 24, "width": 32, "depth": 1, "heads": 2, "dropout": 0.0}
PRETRAINING = parse(TextTrainConfig, TRAIN | {"encoder": ENCODER, "objective": {"name": "mlm"}})
HEAD = {"pool": "first", "norm": False, "hidden": True}
VALUES = {
    "task": {"name": "classification", "head": HEAD, "metrics": ["accuracy", "matthews"]},
    "optimizer": {"lr": 3e-3, "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.1, "clip_norm": None},
    "schedule": {"name": "linear", "warmup_updates": 5},
    "batch_size": 16,
    "max_updates": 120,
    "precision": "fp32",
    "start": "scratch",
    "bootstrap_resamples": 50,
}
SHORT = VALUES | {"max_updates": 10}
SCORES = VALUES | {"task": {"name": "regression", "head": HEAD, "range": [0.0, 5.0]}}
WORDS = ("sun", "rain", "hat", "dog")


@dataclass(frozen=True)
class Tuned:
    """What a training left."""

    out: Path
    measured: dict[str, float]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.out / "model" / "encoder.safetensors")

    @property
    def predictions(self) -> pd.DataFrame:
        return pd.read_parquet(self.out / "report" / "predictions.parquet")


def rows(count: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of sentences; their first words say all that there is to learn."""
    draw = random.Random(seed)
    return [(draw.choice(WORDS), f"{draw.choice(WORDS)} {number} {seed}") for number in range(count)]


def write_task(folder: Path, header: str, value: Any, vocab_size: int) -> Path:
    """train.tsv and dev.tsv; `value` says what a row's label or score is."""
    (folder / "source").mkdir()
    for name, count, seed in (("train", 240, 1), ("dev", 60, 2)):
        lines = [
            f"{number}\t{first}\t{second}\t{value(first, second)}"
            for number, (first, second) in enumerate(rows(count, seed))
        ]
        (folder / "source" / f"{name}.tsv").write_text("\n".join([f"index\tsentence1\tsentence2\t{header}", *lines]))
    TEXT.ingest(TextIngestConfig(source=str(folder / "source")), folder / "corpus")
    TEXT.prepare(TextPrepareConfig(vocab_size=vocab_size, block_tokens=24), folder / "corpus", folder / "prepared")
    return folder / "prepared"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whether the first sentence is about rain or a dog."""
    return write_task(tmp_path_factory.mktemp("classes"), "label", lambda first, _: int(first in ("rain", "dog")), 320)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.5 to 3.5, by the first sentence."""
    return write_task(tmp_path_factory.mktemp("scores"), "score", lambda first, _: WORDS.index(first) + 0.5, 300)


def tune(prepared: Path, out: Path, values: dict[str, Any], start: Path | None = None) -> Tuned:
    config = parse(TextFinetuneConfig, values)
    finetune(TEXT, config, PRETRAINING, prepared, start, out)
    return Tuned(out, evaluate_finetuned(TEXT, config, prepared, out, out / "report", NullTracker()))


@pytest.fixture(scope="module")
def classifier(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    return tune(classes, tmp_path_factory.mktemp("tuned") / "run", VALUES)


def test_an_easy_rule_is_learned(classifier: Tuned) -> None:
    assert classifier.measured["eval/items"] == 60
    assert classifier.measured["eval/accuracy"] > 0.95
    assert classifier.measured["eval/matthews"] > 0.9
    assert classifier.measured["eval/accuracy_low"] <= classifier.measured["eval/accuracy"]


def test_classes_are_reported_beside_the_accuracy(classifier: Tuned) -> None:
    measured, classes = classifier.measured, pd.read_csv(classifier.out / "report" / "per_class.csv")
    assert {"eval/balanced_accuracy_low", "eval/macro_f1_high", "eval/auroc", "eval/average_precision"} <= set(measured)
    assert classes["test_items"].sum() == 60
    assert classes["train_items"].sum() == 240
    assert measured["eval/balanced_accuracy"] == pytest.approx(classes["recall"].mean())
    largest = classes.loc[classes["train_items"].idxmax(), "test_items"]
    assert measured["eval/majority"] == pytest.approx(largest / 60)
    scores = np.stack(classifier.predictions["scores"].tolist())
    assert scores.sum(axis=1) == pytest.approx(np.ones(60))
    assert (scores.argmax(axis=1) == classifier.predictions["predicted"]).all()
    report = (classifier.out / "report" / "report.md").read_text()
    assert f"is right for {100 * largest / 60:.1f}% of the test items" in report


def test_the_same_training_twice_is_the_same(classes: Path, tmp_path: Path) -> None:
    again, other = (tune(classes, tmp_path / str(seed), SHORT | {"seed": seed}) for seed in (0, 1))
    third = tune(classes, tmp_path / "again", SHORT)
    assert all(torch.equal(value, again.weights[name]) for name, value in third.weights.items())
    assert again.measured == third.measured
    assert not torch.equal(other.weights["stem.local.words.weight"], again.weights["stem.local.words.weight"])


def test_a_user_gets_predictions_for_sentences(classifier: Tuned) -> None:
    model = load_finetuned(classifier.out / "model")
    pairs = [["rain", "sun 3 2"], ["hat", "rain 3 2"], ["dog", "hat 12 2"]]
    assert model.predict(TEXT.to_inputs(pairs, dict(model.about)), batch_size=2).tolist() == [1, 0, 1]


def test_a_tuned_encoder_can_be_tuned_again(classifier: Tuned, classes: Path, tmp_path: Path) -> None:
    longer = tune(classes, tmp_path / "run", SHORT, start=classifier.out / "model")
    assert longer.measured["eval/accuracy"] > 0.2
    settings = json.loads((tmp_path / "run" / "model" / "config.json").read_text())["recipe"]["encoder"]
    assert settings["width"] == 32


def test_other_ids_than_the_encoders_are_refused(
    classifier: Tuned, classes: Path, scores: Path, tmp_path: Path
) -> None:
    """Both when tuning begins and when a tuned model is measured."""
    with pytest.raises(ConfigError, match="prepared with another tokenizer"):
        tune(scores, tmp_path / "run", SCORES, start=classifier.out / "model")
    with pytest.raises(ConfigError, match="prepared with another tokenizer"):
        evaluate_finetuned(
            TEXT, parse(TextFinetuneConfig, VALUES), scores, classifier.out, tmp_path / "report", NullTracker()
        )


# ------------------------------------------------------------------------------------------ regression


def test_scores_are_learned_and_predicted_on_their_own_scale(scores: Path, tmp_path: Path) -> None:
    tuned = tune(scores, tmp_path / "run", SCORES)
    assert tuned.measured["eval/pearson_and_spearman"] > 0.9
    table = tuned.predictions
    assert set(table["right"]) == {0.5, 1.5, 2.5, 3.5}
    assert (table["predicted"] - table["right"]).abs().mean() < 0.5


def test_regression_is_on_a_scale_from_0_to_1(scores: Path) -> None:
    config = parse(TextFinetuneConfig, SCORES)
    split = labelled_splits(TEXT, TEXT.open(scores), config, PRETRAINING, {})["train"]
    task = Regression(parse(RegressionTask, {"name": "regression", "range": [0.5, 3.5]}))
    some = np.arange(30)
    targets = task.targets(split, some)
    assert (float(targets.min()), float(targets.max())) == (0.0, 1.0)
    assert task.predict(targets[:, None], None) == pytest.approx(split.scores[some], abs=1e-6)
    assert float(task.loss(targets[:, None] + 0.5, targets, None)) == pytest.approx(30 * 0.25, rel=1e-4)


def test_classes_have_no_scores(classes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No training item has what the task regression needs"):
        tune(classes, tmp_path / "run", SCORES)


def test_tuning_and_measuring_say_what_ingest_left_out(
    classifier: Tuned, classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = json.loads((classes / "ingested.json").read_text()) | {"quarantined": 7}
    shutil.copytree(classes, tmp_path / "prepared")
    (tmp_path / "prepared" / "ingested.json").write_text(json.dumps(counted))
    (tmp_path / "prepared" / DIGESTS).unlink()
    config = parse(TextFinetuneConfig, VALUES)
    Setting(TEXT, config, PRETRAINING, tmp_path / "prepared", None).open_data()
    evaluate_finetuned(TEXT, config, tmp_path / "prepared", classifier.out, tmp_path / "report", NullTracker())
    said = [line for line in capsys.readouterr().err.splitlines() if "7 quarantined" in line]
    assert [line.partition(":")[0] for line in said] == ["finetune", "evaluate"]
