"""What the baselines have in common: no teacher, bfloat16, recipes that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from d2v.config import MaeConfig, MlmConfig, Wav2Vec2Config, parse
from d2v.data.batch import Batch
from d2v.errors import ConfigError
from d2v.objectives.base import Objective
from d2v.objectives.masked_prediction import MaskedPrediction
from tests.objectives import test_beit, test_hubert, test_mae, test_maskfeat, test_mlm, test_wav2vec2

Make = tuple[Callable[[], Objective], Callable[[], Batch]]
ALL: dict[str, Make] = {
    "mae": (test_mae.build, test_mae.batch),
    "maskfeat": (test_maskfeat.build, test_maskfeat.batch),
    "beit": (test_beit.build, test_beit.batch),
    "wav2vec2": (test_wav2vec2.build, test_wav2vec2.batch),
    "hubert": (test_hubert.build, test_hubert.batch),
    "mlm": (test_mlm.build, test_mlm.batch),
}


@pytest.mark.parametrize(("build", "batch"), ALL.values(), ids=ALL)
def test_there_is_no_teacher(build: Callable[[], Objective], batch: Callable[[], Batch]) -> None:
    objective = build()
    assert objective.teacher is None
    assert objective.teacher_decay(1) is None
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    objective.update_teacher(0.5)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    targets = objective.target_flops(16) if isinstance(objective, MaskedPrediction) else 0.0
    assert objective.flops_per_sample(16)["teacher"] == targets


@pytest.mark.parametrize(("build", "batch"), ALL.values(), ids=ALL)
def test_bfloat16_is_near_float32(build: Callable[[], Objective], batch: Callable[[], Batch]) -> None:
    objective, whole = build().eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    expected = objective(whole, masks)
    with torch.autocast("cpu", torch.bfloat16):
        output = objective(whole, masks)
    assert output.loss_sum.dtype == torch.float32
    torch.testing.assert_close(output.loss_sum, expected.loss_sum, rtol=0.02, atol=0)
    output.loss_sum.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("block", "values", "fix"),
    [
        (MaeConfig, {"name": "mae", "decoder": {"heads": 5}}, "change decoder.heads"),
        (MaeConfig, {"name": "mae", "decoder": {"width": 30, "heads": 5}}, "not a multiple of 4"),
        (Wav2Vec2Config, {"name": "wav2vec2", "quantizer": {"groups": 3}}, "change quantizer.width"),
        (MlmConfig, {"name": "mlm", "random_share": 0.3}, "lower objective.random_share"),
        (MlmConfig, {"name": "mlm", "ema": {}}, "unknown key"),
    ],
)
def test_what_does_not_fit_is_refused(block: Any, values: dict[str, Any], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        parse(block, values)
