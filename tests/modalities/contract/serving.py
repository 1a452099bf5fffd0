"""An encoder comes back from its folder, which is enough to feed it."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from d2v.errors import CheckpointError, DataError
from d2v.modalities.requests import Limits
from d2v.model_folder import TEACHER, load_encoder, read_config, save_encoder, teacher_weights
from d2v.objectives.base import Objective
from tests.modalities.contract.subject import Subject, differing, train_step


def a_saved_encoder_comes_back_bit_by_bit(subject: Subject) -> None:
    objective = subject.build()
    train_step(subject, objective, 0, decay=0.9)
    save_encoder(subject.folder / "encoder", objective, subject.modality.name, subject.recipe, _about(subject))
    student, config = load_encoder(subject.folder / "encoder")
    assert differing(student.state_dict(), objective.student.state_dict()) == set()
    assert config == read_config(subject.folder / "encoder")
    inputs = subject.items()
    before, after = (one.eval().features(inputs.values, inputs.lengths) for one in (objective.student, student))
    assert torch.equal(before, after)
    _check_the_teacher(subject, objective)


def a_modality_goes_to_other_processes(subject: Subject) -> None:
    assert pickle.loads(pickle.dumps(subject.modality)) == subject.modality, "ranks are handed it"


def _check_the_teacher(subject: Subject, objective: Objective) -> None:
    """It comes back if there is one; else there is no file of one, not even of an objective trained here before."""
    folder = subject.folder / "encoder"
    if objective.teacher is not None:
        teacher, _ = load_encoder(folder, teacher=True)
        assert differing(teacher.state_dict(), teacher_weights(objective)) == set()
        return
    (folder / TEACHER).touch()
    save_encoder(folder, objective, subject.modality.name, subject.recipe)
    assert not (folder / TEACHER).exists()
    with pytest.raises(CheckpointError, match="load the student"):
        load_encoder(folder, teacher=True)


def requests_become_inputs(subject: Subject) -> None:
    """An encoder's own config.json is enough to feed it."""
    save_encoder(subject.folder / "served", subject.build(), subject.modality.name, subject.recipe, _about(subject))
    encoder, config = load_encoder(subject.folder / "served")
    request = subject.modality.request
    cells = request.example(config)
    assert json.loads(json.dumps(cells)) == cells, "an example can be sent as it is"
    assert request.columns[0] in cells
    assert cells.keys() <= {*request.columns}
    items = [request.read(cells, Limits()) for _ in range(2)]
    inputs = subject.modality.to_inputs(items, config)
    features = encoder.features(inputs.values, inputs.lengths)
    assert features.shape == (2, encoder.width)
    assert torch.isfinite(features).all()
    with pytest.raises(DataError, match="send"):
        request.read(dict.fromkeys(request.columns), Limits())
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
    a_modality_goes_to_other_processes,
    requests_become_inputs,
)
