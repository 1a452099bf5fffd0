"""The teacher starts as the student, is its average, and gets no gradient; baselines have none."""

from __future__ import annotations

import torch

from d2v.training.engine import parameter_groups
from tests.modalities.contract.subject import Subject, train_step


def teacher_starts_as_the_student(subject: Subject) -> None:
    objective = subject.build()
    if objective.teacher is None:
        return
    student, teacher = objective.student.state_dict(), objective.teacher.encoder.state_dict()
    shared = subject.recipe.objective.ema.shared_local
    assert teacher.keys() == {name for name in student if not (shared and name.startswith("stem.local."))}
    assert all(torch.equal(teacher[name], student[name]) for name in teacher)
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())


def teacher_is_the_average_of_the_student(subject: Subject) -> None:
    """After some updates it equals delta <- tau delta + (1 - tau) theta in float64; copied parts equal the student."""
    objective = subject.build()
    if objective.teacher is None:
        return
    copied = subject.recipe.objective.ema.copied or ("\0",)
    expected = {name: one.detach().double() for name, one in objective.teacher.encoder.named_parameters()}
    for update, decay in enumerate((0.5, 0.9, 0.99, 0.999)):
        train_step(subject, objective, update, decay)
        for name, student in objective.student.named_parameters():
            if name in expected:
                keep = decay if student.requires_grad and not name.startswith(copied) else 0.0
                expected[name] = keep * expected[name] + (1.0 - keep) * student.detach().double()
    student = dict(objective.student.named_parameters())
    for name, teacher in objective.teacher.encoder.named_parameters():
        torch.testing.assert_close(teacher.double(), expected[name], rtol=0, atol=1e-6)
        if name.startswith(copied):
            assert torch.equal(teacher, student[name])
    moved = [not torch.equal(expected[name], student[name].double()) for name in expected]
    assert any(moved)


def all_but_the_teacher_is_trained(subject: Subject) -> None:
    objective = subject.build()
    trained = {id(one) for group in parameter_groups(objective, subject.recipe.optimizer) for one in group["params"]}
    assert trained >= {id(parameter) for parameter in objective.student.parameters() if parameter.requires_grad}
    if objective.teacher is None:
        assert objective.teacher_decay(1) is None
        return
    assert trained.isdisjoint(map(id, objective.teacher.parameters()))
    assert [objective.teacher_decay(n) for n in (1, 10**9)] == [
        subject.recipe.objective.ema.decay(n) for n in (1, 10**9)
    ]


def gradient_reaches_the_whole_student_and_no_teacher(subject: Subject) -> None:
    objective = subject.build().train()
    objective.student.layer_drop = (0.0, 0.0)
    batch = subject.batch()
    objective(batch, objective.draw_masks(batch, 0, "cpu")).loss_sum.backward()
    assert {name for name, one in objective.named_parameters() if one.requires_grad and one.grad is None} == set()
    assert all(one.grad is None for one in (objective.teacher.parameters() if objective.teacher else ()))


CHECKS = (
    teacher_starts_as_the_student,
    teacher_is_the_average_of_the_student,
    all_but_the_teacher_is_trained,
    gradient_reaches_the_whole_student_and_no_teacher,
)
