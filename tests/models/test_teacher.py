import torch
from torch import nn

from d2v.models.teacher import Teacher


def small_student() -> nn.Module:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Dropout(0.5), nn.Linear(5, 2))
    student[3].bias.requires_grad_(False)
    student.register_buffer("steps", torch.zeros(1))
    return student


def move(student: nn.Module, update: int) -> None:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(update)) * 0.01)
        student.steps += 1


def test_average_follows_a_float64_reference():
    student = small_student()
    teacher = Teacher(student)
    reference = {name: p.detach().double().clone() for name, p in student.named_parameters()}
    for update in range(200):
        move(student, update)
        decay = 0.99 + 0.009 * update / 200
        teacher.update(student, decay)
        for name, p in student.named_parameters():
            reference[name] = decay * reference[name] + (1 - decay) * p.detach().double()
    for name, p in teacher.encoder.named_parameters():
        if student.get_parameter(name).requires_grad:
            torch.testing.assert_close(p.double(), reference[name], rtol=0, atol=1e-6)


def test_frozen_parameters_and_buffers_are_copied():
    student = small_student()
    teacher = Teacher(student)
    move(student, 1)
    teacher.update(student, 0.9)
    assert torch.equal(teacher.encoder[3].bias, student[3].bias)
    assert torch.equal(teacher.encoder.steps, student.steps)
    assert not torch.equal(teacher.encoder[0].weight, student[0].weight)


def test_prefixes_can_be_copied_instead_of_averaged():
    student = small_student()
    teacher = Teacher(student, copied=("0.",))
    move(student, 1)
    teacher.update(student, 0.9)
    assert torch.equal(teacher.encoder[0].weight, student[0].weight)
    assert not torch.equal(teacher.encoder[3].weight, student[3].weight)


def test_decay_one_freezes_the_teacher_bit_by_bit():
    student = small_student()
    teacher = Teacher(student)
    before = [p.clone() for p in teacher.encoder.parameters()]
    move(student, 1)
    teacher.update(student, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.encoder.parameters(), strict=True))


def test_slow_decay_moves_a_float32_teacher_and_would_not_move_a_bfloat16_one():
    """Why the average is kept in float32: at tau 0.9999 a step is below bfloat16's resolution."""
    student = nn.Linear(50, 50)
    teacher = Teacher(student)
    start = teacher.encoder.weight.clone()
    rounded = teacher.encoder.weight.bfloat16()
    with torch.no_grad():
        student.weight.add_(0.1 * student.weight)
    narrow = rounded.clone()
    for _ in range(100):
        teacher.update(student, 0.9999)
        narrow.lerp_(student.weight.bfloat16(), 1e-4)
    moved = (teacher.encoder.weight - start).norm() / (student.weight.detach() - start).norm()
    assert float(moved) > 0.009
    assert torch.equal(narrow, rounded)


def test_teacher_never_trains():
    student = small_student().train()
    teacher = Teacher(student)
    nn.Sequential(teacher).train()
    assert not teacher.encoder.training
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.randn(4, 6)
    assert torch.equal(teacher.encoder(x), teacher.encoder(x))


def test_update_follows_replaced_tensors():
    """A load that replaces parameter storage must not leave the average on the old tensors."""
    student = small_student()
    teacher = Teacher(student)
    teacher.update(student, 0.5)
    teacher.encoder[0].weight.data = torch.zeros(5, 6)
    teacher.update(student, 0.5)
    torch.testing.assert_close(teacher.encoder[0].weight, 0.5 * student[0].weight)
