"""Parity is shown in float32, as models run, and in float64, where a difference in meaning cannot hide in rounding.

A module of parity tests names its golden in `GOLDEN`; its model is in `<GOLDEN>.fairseq.pt` beside it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from d2v.objectives.base import Objective
from tests.interchange.parity import DOUBLE, SINGLE, Golden, Precision, load


@pytest.fixture(scope="module", params=[SINGLE, DOUBLE], ids=["float32", "float64"])
def precision(request: pytest.FixtureRequest) -> Precision:
    return request.param


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest, shared_goldens: Path, precision: Precision) -> Golden:
    return Golden(shared_goldens, request.module.GOLDEN, precision)


@pytest.fixture(scope="module")
def objective(request: pytest.FixtureRequest, shared_goldens: Path, precision: Precision) -> Objective:
    return load(shared_goldens, request.module.GOLDEN, precision)


@pytest.fixture(scope="module")
def local(golden: Golden, objective: Objective) -> Tensor:
    """The student's local features."""
    return objective.student.stem(golden.inputs()).detach()


@pytest.fixture(scope="module")
def checkpoint(request: pytest.FixtureRequest, shared_goldens: Path) -> Path:
    """The reference's file with the golden's model."""
    return shared_goldens / f"{request.module.GOLDEN}.fairseq.pt"


@pytest.fixture(scope="module")
def padded(
    request: pytest.FixtureRequest, shared_goldens: Path, golden: Golden, precision: Precision
) -> tuple[Objective, Tensor, Tensor]:
    """Speech: (model that treats padding as the reference, local features, frames of each recording); the second of the
    two recordings ends in padding."""
    objective = load(shared_goldens, request.module.GOLDEN, precision, padding="reference")
    frames = objective.student.token_lengths(golden.tokens("pad_padding_mask"))
    assert torch.equal(frames, golden.tokens("pad_feat_padding_mask"))
    return objective, objective.student.stem(golden.inputs()).detach(), frames
