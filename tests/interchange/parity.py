"""What the parity tests share: reading goldens and comparing with them, in float32 and in float64."""

import copy
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from d2v.data.batch import Batch
from d2v.interchange.fairseq import load_reference
from d2v.modalities import registry
from d2v.model_folder import load_state
from d2v.models.masking import Masks
from d2v.objectives.base import LossOutput, Objective
from d2v.objectives.build import build_objective

RELATIVE = 1e-5


@dataclass(frozen=True)
class Precision:
    """A dtype to compute in, and how close to the reference's float64 evaluation that must come.

    Attributes:
        gradient_floor: share of the global norm below which a gradient (a K bias's) is rounding alone.
    """

    dtype: torch.dtype
    tolerance: float
    gradient_floor: float


SINGLE, DOUBLE = Precision(torch.float32, RELATIVE, 1e-7), Precision(torch.float64, 1e-9, 1e-13)
ROUNDED = 1e-7
"""Precision of what a golden stores in float32: full gradients, and parameters after a step."""


class Golden:
    """Arrays of one golden."""

    def __init__(self, folder: Path, name: str, precision: Precision = SINGLE) -> None:
        self.arrays = np.load(folder / f"{name}.npz")
        self.precision = precision

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.arrays.files if name.startswith(prefix)]

    def inputs(self, name: str = "source") -> Tensor:
        """Model inputs; waveforms and images in the precision's dtype, token ids as they are."""
        values = self[name]
        return values.to(self.precision.dtype) if values.is_floating_point() else values

    def batch(self, name: str = "source", lengths: Tensor | None = None) -> Batch:
        inputs = self.inputs(name)
        ids = torch.arange(len(inputs))
        return Batch(inputs, ids, torch.zeros_like(ids), update=0, lengths=lengths)

    def tokens(self, name: str) -> Tensor:
        """(B,) lengths from a padding mask."""
        return (~self[name].bool()).sum(dim=1)

    def close(self, ours: Tensor, name: str) -> None:
        """Compare with the float64 evaluation of an array."""
        assert_close(ours, self[f"{name}_f64"], self.precision.tolerance)

    def masks(self, masks_per_sample: int, prefix: str = "") -> Masks:
        """data2vec 2.0's masks, which hide as many tokens in every row."""
        is_masked = self[f"{prefix}mask"].bool()
        return Masks.with_equal_counts(is_masked, len(is_masked) // masks_per_sample, int(is_masked[0].sum()))

    def noise(self, prefix: str = "") -> Tensor:
        """Full-length decoder noise (R, T, D), put where the reference's unstable sort put it."""
        drawn = self[f"{prefix}mask_token_noise"].to(self.precision.dtype)
        kept = self[f"{prefix}ids_keep"].shape[1]
        full = torch.cat((drawn.new_zeros(len(drawn), kept, drawn.shape[-1]), drawn), dim=1)
        return torch.gather(full, 1, self[f"{prefix}ids_restore"].unsqueeze(-1).expand_as(full))

    def ascending(self, name: str, prefix: str = "") -> Tensor:
        """(R, V, ...) per visible token, in the order of the tokens; the reference's order is not stable."""
        order = self[f"{prefix}ids_keep"].argsort(dim=1)
        rows = torch.arange(len(order))[:, None]
        return self[f"{prefix}{name}"][rows, order]


def load(folder: Path, name: str, precision: Precision, **encoder: Any) -> Objective:
    """A golden's model in training mode, with some settings of the encoder changed. All its dropout rates are 0."""
    _, converted = load_reference(folder / f"{name}.fairseq.pt")
    changed = converted.recipe.encoder.model_copy(update=encoder)
    recipe = converted.recipe.model_copy(update={"encoder": changed})
    objective = build_objective(registry.get(converted.modality), recipe)
    load_state(objective, converted.state, name)
    return objective.to(precision.dtype).train()


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference over the reference's largest magnitude."""
    assert ours.shape == reference.shape
    return float((ours.double() - reference.double()).abs().max() / reference.double().abs().max())


def assert_close(ours: Tensor, reference: Tensor, tolerance: float = RELATIVE) -> None:
    error = relative_error(ours.detach(), reference)
    assert error < tolerance, f"relative error {error:.2e}"


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def part_of(tensors: dict[str, Tensor], name: str) -> Tensor:
    """The tensor of this name, or the rows of `.attn.q.`, `.attn.k.` or `.attn.v.` in the fused one."""
    part = re.search(r"\.attn\.([qkv])\.", name)
    if part is None:
        return tensors[name]
    return tensors[name.replace(part.group(), ".attn.qkv.")].chunk(3)["qkv".index(part.group(1))]


def backward(objective: Objective, batch: Batch, masks: Masks, *noise: Tensor) -> dict[str, Tensor]:
    """Gradients of the mean loss."""
    objective.zero_grad()
    (objective(batch, masks, *noise).loss_sum / masks.count).backward()
    return gradients(objective)


def check_gradients(golden: Golden, ours: dict[str, Tensor], rename: Callable[[str], str | None]) -> None:
    """The reference has a gradient for all that ours has, and for nothing else; every norm, and every gradient that
    the golden stores in full, are the reference's."""
    tolerance, floor = golden.precision.tolerance, golden.precision.gradient_floor * float(golden["grad_global_norm"])
    names = {str(name): rename(str(name)) for name in golden.arrays["grad_names"]}
    assert {re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", str(name)) for name in names.values()} == set(ours)
    norms = torch.stack([part_of(ours, name).double().norm() for name in names.values()])
    np.testing.assert_allclose(norms, golden["grad_norms_f64"], rtol=tolerance, atol=floor)
    stored = golden.names("grad:")
    assert stored
    for name in stored:
        reference = golden[name]
        error = (part_of(ours, rename(name.removeprefix("grad:"))).reshape(reference.shape) - reference).abs().max()
        assert float(error) <= max(tolerance, ROUNDED) * float(reference.abs().max()) + floor, name


def check_statistics(golden: Golden, output: LossOutput) -> None:
    """The deviations of targets and predictions."""
    for ours, reference in (("target_std", "target_var"), ("pred_std", "pred_var")):
        assert float(output.statistics[ours]) == pytest.approx(float(golden[reference]), rel=1e-5)


def check_full_encoding(golden: Golden, objective: Objective, local: Tensor) -> None:
    """data2vec 2.0: local features, and the student's output and layers without a mask."""
    encoded = objective.student.encode(local, activation="ffn")
    golden.close(local, "local_features")
    golden.close(encoded.tokens, "feat_x")
    golden.close(torch.stack(encoded.activations), "feat_layer_results")


def check_decoding(golden: Golden, objective: Objective, local: Tensor, masks: Masks) -> None:
    """data2vec 2.0: visible tokens through the student, among noise, and through the decoder."""
    visible = objective.student.encode(local, None, masks).tokens
    assert_close(visible, golden.ascending("student_encoder_out_f64"), golden.precision.tolerance)
    filled = objective.decoder_input(visible, masks, golden.noise())
    golden.close(filled, "decoder_in")
    golden.close(objective.decoder(filled), "decoder_out")


def check_loss(golden: Golden, objective: Objective, masks: Masks, name: str) -> None:
    """data2vec 2.0: the sum over hidden tokens, which the golden calls `name`, the mean, and the deviations."""
    output = objective(golden.batch(), masks, golden.noise())
    assert int(masks.count) == int(golden["sample_size"])
    golden.close(output.loss_sum, name)
    golden.close(output.loss_sum / masks.count, "loss_total")
    check_statistics(golden, output)


def check_teacher_is_student(objective: Objective) -> None:
    """All that the teacher has is the student's, bit by bit."""
    teacher, student = objective.teacher.encoder.state_dict(), objective.student.state_dict()
    assert all(torch.equal(value, student[name]) for name, value in teacher.items())


def check_teacher_step(
    golden: Golden, objective: Objective, rename: Callable[[str], str | None], rename_teacher: Callable[[str], str]
) -> None:
    """The reference's student after one Adam step, absorbed by our teacher, gives the reference's teacher."""
    objective = copy.deepcopy(objective)
    student, teacher = dict(objective.named_parameters()), dict(objective.teacher.encoder.named_parameters())
    with torch.no_grad():
        for name in golden.names("after:"):
            ours = part_of(student, rename(name.removeprefix("after:")))
            ours.copy_(golden[name].reshape(ours.shape))
    objective.update_teacher(float(golden["after_ema_decay"]))
    expected = golden.names("after_ema:")
    assert expected
    for name in expected:
        ours = part_of(teacher, rename_teacher(name.removeprefix("after_ema:")))
        assert_close(ours.reshape(golden[name].shape), golden[name], 1e-6)
