"""What a report says of single answers and of a model's worth: calibration, confusions, worst errors, flags.

Shapes: N items, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from d2v.config import ClassificationTask, MultilabelTask, RegressionTask, TranscriptionTask
from d2v.evaluation.flags import Flag, blocking, encoder_flags, loss_falling, read_flags, tags_of, write_flags
from d2v.finetuning.classes import class_results
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.diagnosis import (
    badness,
    calibration,
    calibration_of,
    confusion,
    confusion_table,
    drawn_classes,
    worst_errors,
)
from d2v.finetuning.predictions import Answers
from d2v.finetuning.splits import Chosen
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.regression import Regression
from d2v.finetuning.tasks.transcription import Transcription
from d2v.finetuning.usefulness import below_majority, blind_answers, few_classes

NAMES = ("cat", "dog", "owl")
CLASSES = Classification(ClassificationTask(name="classification"), NAMES)


def test_who_is_as_sure_as_right_has_no_calibration_error() -> None:
    random = np.random.default_rng(0)
    sure_N = random.uniform(0.3, 1.0, 20_000)
    assert calibration(sure_N, random.random(20_000) < sure_N).error < 0.02
    boasting = calibration(np.full(100, 0.95), np.arange(100) < 60)
    assert boasting.error == pytest.approx(0.35)
    assert boasting.bins == ((pytest.approx(0.95), pytest.approx(0.6), 100),)
    scores_NC = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2]])
    assert calibration_of(CLASSES, scores_NC, np.array([0, 0])).error == pytest.approx(0.2)


def test_confusions_are_counted_by_true_and_named_class() -> None:
    references, predictions = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 1, 1, 0, 2])
    counts_CC = confusion(predictions, references, 3)
    assert counts_CC.tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]
    assert confusion_table(counts_CC, NAMES).rows == (("cat", "dog", "2", "66.7%"), ("owl", "cat", "1", "50.0%"))
    many_CC = np.diag(np.full(50, 9))
    many_CC[40, 7] = 3
    assert {7, 40} <= set(drawn_classes(many_CC).tolist())
    assert len(drawn_classes(many_CC)) == 30


def test_the_worst_errors_are_those_that_the_model_was_sure_of() -> None:
    scores_NC = np.array([[0.9, 0.1, 0.0], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]])
    answers, references = Answers(scores_NC.argmax(axis=1), scores_NC), np.array([1, 1, 1])
    bad_N = badness(CLASSES, answers, references)
    table = pd.DataFrame({"row": [4, 5, 6], "file": ["a", "b", "c"], "true_class": "dog", "predicted_class": "cat"})
    errors, worst = worst_errors(table, bad_N, CLASSES)
    assert worst.tolist() == [0, 1]
    assert errors is not None
    assert errors.rows[0] == ("a", "dog", "cat", "0.900")
    assert worst_errors(table, np.zeros(3), CLASSES)[0] is None


@pytest.mark.parametrize(
    ("task", "predictions", "references", "expected"),
    [
        (Regression(RegressionTask(name="regression")), np.array([1.0, 4.0]), np.array([3.0, 4.5]), [2.0, 0.5]),
        (
            Transcription(TranscriptionTask(name="transcription"), CtcVocabulary.fairseq()),
            ["A B", "C"],
            ["A B C D", "C"],
            [0.5, 0.0],
        ),
    ],
)
def test_other_answers_are_bad_by_their_distance(task: Task, predictions: Any, references: Any, expected: Any) -> None:
    assert badness(task, Answers(predictions), references).tolist() == pytest.approx(expected)


def test_several_labels_are_bad_by_their_mean_distance() -> None:
    task = Multilabel(MultilabelTask(name="multilabel"), ("a", "b"))
    logits_NC = np.array([[9.0, -9.0], [9.0, 9.0]])
    assert badness(task, Answers(logits_NC, logits_NC), np.array([[1, 0], [1, 0]])) == pytest.approx(
        [0.0, 0.5], abs=1e-3
    )


# ------------------------------------------------------------------------------------------------ flags


class Train:
    """A training split of class ids."""

    labels = np.array([0] * 9 + [1] * 3)


def chosen() -> Chosen:
    return Chosen(Train(), np.arange(12))  # type: ignore[arg-type]


def test_the_metric_that_decides_says_whether_a_model_beats_the_largest_class() -> None:
    """A model that finds the rare class at the price of the common one: not better by accuracy, but in balance."""
    references = np.array([0] * 90 + [1] * 10)
    predictions = np.array([0] * 78 + [1] * 12 + [1] * 9 + [0])
    for metrics, flagged in ((("accuracy",), True), (("balanced_accuracy",), False), (("matthews",), False)):
        task = Classification(ClassificationTask(name="classification", metrics=metrics), NAMES)
        flag, gain = below_majority(task, chosen(), Answers(predictions), references, 500)
        assert (flag is not None) == flagged
        assert gain.above_zero != flagged
    blind, said = blind_answers(CLASSES, chosen(), 2)
    assert blind.predictions.tolist() == [0, 0]
    assert said == "always naming the largest class, cat"


def test_classes_that_are_never_named_count_where_they_have_items() -> None:
    references = np.array([0] * 50 + [1] * 20 + [2] * 3)
    results = class_results(NAMES, np.ones(3, int), np.zeros(73, int), references, 20)
    flag = few_classes(results)
    assert flag is not None
    assert flag.words == "it predicts 1 of 2 classes, never dog"
    assert few_classes(class_results(NAMES, np.ones(3, int), np.minimum(references, 1), references, 20)) is None


def losses(last: float, rows: int = 40, noise: float = 0.0) -> pd.DataFrame:
    """Falls to 1 over three fifths of the run, then on to `last`."""
    level = np.concatenate([np.linspace(3.0, 1.0, rows - 2 * (rows // 5)), np.linspace(1.0, last, 2 * (rows // 5))])
    return pd.DataFrame({"update": np.arange(rows), "train/task_loss": level + noise * (-1.0) ** np.arange(rows)})


def test_a_loss_that_still_falls_is_remarked_on() -> None:
    names = ("val/loss", "train/task_loss")
    flag = loss_falling(losses(0.4), names)
    assert flag is not None
    assert not flag.blocks
    assert flag.words.startswith("train/task_loss was still falling at the end")
    assert loss_falling(losses(1.0), names) is None
    assert loss_falling(losses(0.9, noise=2.0), names) is None
    assert loss_falling(losses(0.4, rows=10), names) is None
    steady = losses(0.4).assign(**{"val/loss": 1.0})
    assert loss_falling(steady, names) is None  # what is validated counts more


def test_an_encoder_is_flagged_if_no_probe_tells_it_apart_from_random_weights() -> None:
    def metrics(linear: float, knn: float) -> dict[str, float]:
        return {"probe/linear_gain_over_random_low": linear, "probe/knn_gain_over_random_low": knn}

    (flag,) = encoder_flags(metrics(-0.01, 0.0))
    assert flag.blocks
    assert encoder_flags(metrics(0.01, -0.1)) == encoder_flags(metrics(-0.1, 0.01)) == encoder_flags({}) == []


def test_flags_are_kept_and_told_as_tags(tmp_path: Any) -> None:
    flags = [Flag("few_classes", "it predicts 1 of 2"), Flag("loss_falling", "falls", blocks=False)]
    write_flags(flags, tmp_path)
    assert read_flags(tmp_path) == flags
    assert read_flags(tmp_path / "elsewhere") == []
    assert blocking(flags) == "it predicts 1 of 2"
    assert tags_of(flags)["flags"] == "it predicts 1 of 2"
    assert tags_of(flags)["flag.loss_falling"] == "falls"
    assert tags_of(flags[1:])["flags"] == "none"
