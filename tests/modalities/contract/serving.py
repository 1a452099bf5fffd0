"""An encoder comes back from its folder, which is enough to feed it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from d2v.errors import DataError
from d2v.interchange.folder import load_encoder, read_config, save_encoder
from tests.modalities.contract.subject import Subject, differing, train_step


def a_saved_encoder_comes_back_bit_by_bit(subject: Subject) -> None:
    objective = subject.build()
    train_step(subject, objective, 0, decay=0.9)
    save_encoder(subject.folder / "encoder", objective, subject.modality.name, subject.recipe, _about(subject))
    student, config = load_encoder(subject.folder / "encoder")
    teacher, _ = load_encoder(subject.folder / "encoder", teacher=True)
    assert differing(student.state_dict(), objective.student.state_dict()) == set()
    assert differing(teacher.state_dict(), objective.teacher.whole_state(objective.student)) == set()
    assert config == read_config(subject.folder / "encoder")
    inputs = subject.items()
    before, after = (one.eval().features(inputs.values, inputs.lengths) for one in (objective.student, student))
    assert torch.equal(before, after)


def requests_become_inputs(subject: Subject) -> None:
    """An encoder's own config.json is enough to feed it."""
    save_encoder(subject.folder / "served", subject.build(), subject.modality.name, subject.recipe, _about(subject))
    encoder, config = load_encoder(subject.folder / "served")
    request = np.asarray(subject.modality.example_request(config))
    inputs = subject.modality.to_inputs(request, config)
    features = encoder.features(inputs.values, inputs.lengths)
    assert features.shape == (len(request), encoder.width)
    assert torch.isfinite(features).all()
    with pytest.raises(DataError):
        subject.modality.to_inputs(np.zeros((1,) * 6, dtype=complex), config)


def _about(subject: Subject) -> dict[str, Any]:
    about = subject.modality.describe(subject.data)
    assert json.loads(json.dumps(about)) == about, "describe gives plain values"
    assert about["data_fingerprint"] == subject.data.fingerprint
    assert tuple(about["class_names"]) == subject.data.class_names
    return about


CHECKS = (
    a_saved_encoder_comes_back_bit_by_bit,
    requests_become_inputs,
)
