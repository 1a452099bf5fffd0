"""Classes of recordings, one each or several, on the same tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from d2v.config import MultilabelTask
from d2v.finetuning import metrics
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.tasks.classification import Multilabel, pooled_logits
from d2v.tracker import NullTracker
from tests.finetuning.spelling import SPEECH, Tuning, prepare_spelling
from tests.finetuning.test_transcription import Texts
from tests.modalities.contract.case import make_prepared
from tests.modalities.speech.contract_case import CASE

FAST = {
    "optimizer": {"lr": 5e-3, "weight_decay": 0.0, "clip_norm": 1.0},
    "schedule": {"warmup_updates": 10},
    "batch_size": 16,
    "max_updates": 60,
    "log_every_updates": 20,
    "checkpoint": {"every_updates": 1000},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_spelling(tmp_path_factory.mktemp("labels"))


def test_a_class_is_pooled_by_its_own_weight_and_not_over_padding() -> None:
    logits_BTC = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 2])
    for row, length in enumerate(lengths.tolist()):
        p_TC = torch.sigmoid(logits_BTC[row, :length])
        pooled_C = (p_TC**2).sum(0) / p_TC.sum(0)
        torch.testing.assert_close(torch.sigmoid(pooled_logits(logits_BTC, lengths)[row]), pooled_C)
    assert torch.isfinite(pooled_logits(torch.full((1, 4, 2), 80.0), None)).all()
    assert torch.isfinite(pooled_logits(torch.full((1, 4, 2), -80.0), None)).all()


def test_names_of_classes_are_targets_and_the_loss_is_per_right_class() -> None:
    task = Multilabel(MultilabelTask(name="multilabel"), ["dog", "siren", "speech"])
    split = Texts(["siren, dog", "speech", None, "cat"], [9] * 4)
    assert task.usable(split).tolist() == [0, 1, 3]
    targets = task.targets(split, np.array([0, 1, 3]))
    assert targets.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert task.units(targets).item() == 3
    assert task.units(targets[2:]).item() == 1
    outputs = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1))
    p_BC = torch.sigmoid(pooled_logits(outputs, None))
    by_hand = -(targets * p_BC.log() + (1 - targets) * (1 - p_BC).log()).sum()
    torch.testing.assert_close(task.loss(outputs, targets, None), by_hand)


def test_it_hears_which_tones_there_are(prepared: Path, tmp_path: Path) -> None:
    tuning = Tuning(prepared, tmp_path / "run", {**FAST, "task": {"name": "multilabel"}, "text": "speaker"}).run()
    measured = evaluate_finetuned(SPEECH, tuning.recipe(), prepared, tuning.out, tmp_path / "report", NullTracker())
    table = pd.read_parquet(tmp_path / "report" / "predictions.parquet")
    scores, right = np.stack(table["predicted"].tolist()), np.stack(table["right"].tolist())
    assert scores.shape == right.shape == (40, 3)
    assert measured["eval/mean_average_precision"] == metrics.mean_average_precision(scores, right)
    chance = float(right.mean(axis=0).mean())
    assert measured["eval/mean_average_precision"] > chance + 0.5 * (1.0 - chance)


def test_it_tells_low_tones_from_high_ones_by_crops(tmp_path: Path) -> None:
    prepared = make_prepared(SPEECH, CASE, tmp_path).path
    block = {**FAST, "batch_size": 8, "task": {"name": "classification"}, "augment": {"crop_seconds": 0.2}}
    tuning = Tuning(prepared, tmp_path / "run", block).run()
    measured = evaluate_finetuned(SPEECH, tuning.recipe(), prepared, tuning.out, tmp_path / "report", NullTracker())
    table = pd.read_parquet(tmp_path / "report" / "predictions.parquet")
    assert measured["eval/accuracy"] == metrics.accuracy(table["predicted"], table["right"])
    assert measured["eval/accuracy"] > 0.9
    assert set(table["right"]) == {0, 1}
