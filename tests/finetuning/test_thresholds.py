"""Thresholds of several labels: chosen, kept in the model, used in evaluation and after loading.

Shapes: N items, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

import d2v
from d2v.errors import CheckpointError
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.model import MODEL, THRESHOLDS
from d2v.finetuning.thresholds import above, best_thresholds
from d2v.tracker import NullTracker
from tests.finetuning.spelling import SPEECH, Tuning, prepare_spelling
from tests.finetuning.test_transcription_labels import FAST


def test_thresholds_have_the_best_f1() -> None:
    random = np.random.default_rng(3)
    labels_NC = (random.random((80, 3)) < [0.3, 0.1, 0.0]).astype(int)
    scores_NC = np.round(random.standard_normal((80, 3)) + 1.5 * labels_NC - 2.0, 1)
    thresholds_C = best_thresholds(scores_NC, labels_NC)
    said_NC = above(scores_NC, thresholds_C)
    for number in (0, 1):
        tried = [f1_score(labels_NC[:, number], scores_NC[:, number] >= t) for t in np.unique(scores_NC[:, number])]
        assert f1_score(labels_NC[:, number], said_NC[:, number]) == pytest.approx(max(tried))
    assert thresholds_C[2] == 0.0


def test_the_thresholds_that_evaluation_uses_stay_in_the_model(tmp_path: Path) -> None:
    prepared, said = prepare_spelling(tmp_path), {**FAST, "max_updates": 20, "text": "speaker"}
    task = {"name": "multilabel", "thresholds": "validation"}
    tuning = Tuning(prepared, tmp_path / "run", {**said, "task": task, "validation": {"every_updates": 10}}).run()
    folder = tuning.out / MODEL
    thresholds = d2v.load(folder).thresholds
    measured = evaluate_finetuned(SPEECH, tuning.recipe(), prepared, tuning.out, tmp_path / "report", NullTracker())
    table = pd.read_parquet(tmp_path / "report" / "predictions.parquet")
    scores_NC, right_NC = np.stack(table["predicted"].tolist()), np.stack(table["right"].tolist())
    said_NC = scores_NC >= torch.tensor([*thresholds.values()], dtype=torch.float64).logit().numpy()
    assert measured["eval/macro_f1"] == pytest.approx(f1_score(right_NC, said_NC, average="macro", zero_division=0))
    assert not np.array_equal(said_NC, scores_NC >= 0)

    before = (folder / THRESHOLDS).read_bytes()
    (folder / THRESHOLDS).unlink()
    assert d2v.load(folder).thresholds == dict.fromkeys(thresholds, 0.5)
    tuning.run()  # a finished run whose thresholds are missing gets them again
    assert (folder / THRESHOLDS).read_bytes() == before
    Tuning(prepared, tuning.out, {**tuning.changes, "task": {"name": "multilabel"}}).run()  # trains nothing
    assert d2v.load(folder).thresholds == dict.fromkeys(thresholds, 0.5)
    tuning.run()
    (folder / THRESHOLDS).write_text("{}")
    with pytest.raises(CheckpointError, match=THRESHOLDS):
        d2v.load(folder)
