"""Classes of unequal size: weights, balanced sampling, results class by class.

Shapes: N items, C classes.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score

from d2v.config import ClassificationTask, MultilabelTask, parse
from d2v.errors import ConfigError
from d2v.finetuning.classes import class_results, class_table, majority_share
from d2v.finetuning.data import as_often
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.modalities.vision.config import VisionFinetuneConfig
from tests.finetuning.test_vision_tuning import TASK

LABELS = np.array([0] * 6 + [1] * 3 + [2])
NAMES = ("cat", "dog", "owl", "yak")


def split_of(**values: Any) -> Any:
    return SimpleNamespace(labels=LABELS, texts=[None] * len(LABELS), **values)


def test_class_weights_make_every_class_count_alike_and_keep_the_scale() -> None:
    task = Classification(ClassificationTask(name="classification"), NAMES)
    rows = np.arange(len(LABELS))
    task.weigh(split_of(), rows)
    weights_C = task.weights_C
    assert weights_C is not None
    assert weights_C[LABELS].mean() == pytest.approx(1.0)
    shares = [float(weights_C[LABELS][label == LABELS].sum()) for label in range(3)]
    assert shares == pytest.approx([len(LABELS) / 3] * 3)
    outputs = torch.zeros(len(LABELS), len(NAMES))
    loss = task.loss(outputs, task.targets(split_of(), rows), None)
    assert float(loss) == pytest.approx(len(LABELS) * np.log(len(NAMES)), rel=1e-6)


def test_positive_items_of_several_labels_weigh_as_much_as_the_others() -> None:
    task = Multilabel(MultilabelTask(name="multilabel"), ("a", "b"))
    task.weigh(SimpleNamespace(texts=["a", "a, b", "a", "x"]), np.arange(4))  # type: ignore[arg-type]
    assert task.positive_weights_C is not None
    assert task.positive_weights_C.tolist() == pytest.approx([1 / 3, 3.0])


def test_balanced_sampling_draws_every_class_as_often() -> None:
    rows = np.array([10, 11, 12, 13, 14, 15, 20, 21, 22, 30])
    drawn, before = as_often(rows, LABELS)
    assert np.bincount(drawn // 10).tolist() == [0, 6, 6, 6]
    assert set(drawn) == set(rows)
    pairs = list(zip(drawn.tolist(), before.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)  # a row that is drawn again is augmented in another way
    assert before[drawn == 30].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("balance", "task"), [("sampling", "multilabel"), ("weights", "regression")])
def test_balance_needs_classes(balance: str, task: str) -> None:
    with pytest.raises(ConfigError, match="set balance=null"):
        parse(VisionFinetuneConfig, TASK | {"task": {"name": task}, "balance": balance})


def test_classes_are_told_as_scikit_learn_does() -> None:
    random = np.random.default_rng(0)
    references = random.choice(4, 300, p=[0.7, 0.2, 0.1, 0.0])
    predictions = np.where(random.random(300) < 0.7, references, random.integers(0, 2, 300))
    results = class_results(NAMES, np.array([70, 20, 10, 3]), predictions, references, 200)
    for measure, name in ((precision_score, "precision"), (recall_score, "recall"), (f1_score, "f1")):
        expected = measure(references, predictions, labels=[0, 1, 2], average=None)
        assert [getattr(one, name) for one in results[:3]] == pytest.approx(expected.tolist())
    assert all(one.recall_low <= one.recall <= one.recall_high for one in results[:3])
    assert np.isnan(results[3].recall)
    assert [one.train_items for one in results] == [70, 20, 10, 3]
    assert class_table(results).rows[3] == ("yak", "3", "0", "0", "", "", "")
    assert majority_share(np.array([70, 20, 10, 3]), references) == pytest.approx((references == 0).mean())


def test_of_many_classes_the_worst_are_shown() -> None:
    references = np.repeat(np.arange(100), 2)
    predictions = np.where(references % 2 == 0, references, 0)
    results = class_results([f"c{n}" for n in range(100)], np.ones(100, int), predictions, references, 50)
    table = class_table(results)
    assert len(table.rows) == 60
    assert table.rows[0][0] == "c1"
    assert "60 classes of the lowest recall, of 100" in table.title
