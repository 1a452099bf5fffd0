"""Masks keep their counts, depend on their keys alone, and hide what they mask.

Shape legend: B samples, R rows (one for each mask), T tokens, V visible, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from d2v.data.batch import Batch
from d2v.data.random import fold_in
from d2v.models.masking import Masks, is_padding
from d2v.objectives.base import Objective
from d2v.objectives.self_distillation import SelfDistillation
from tests.modalities.contract.subject import Subject, select

FIXED_COUNTS = ("data2vec2", "mae", "mlm")
"""Objectives whose masks mask the same number of tokens in all rows of one length."""
MASKS_LATER = ("wav2vec2", "hubert", "mlm")
"""Objectives that mask something else than the stem's local features: tests/objectives has their own tests."""


def masked_counts_are_kept_and_monotone(subject: Subject) -> None:
    """Where the objective counts on it, every mask masks as many tokens as `num_masked` says; neither they nor the
    others get fewer in a longer sequence."""
    fixed = subject.recipe.objective.name in FIXED_COUNTS
    counts, keys = subject.counts(), _keys(32)
    for tokens in (counts[0], counts[len(counts) // 2], counts[-1]):
        drawn = subject.modality.draw_masks(subject.recipe, keys, tokens, None)
        assert drawn.shape == (32, tokens)
        assert drawn.dtype == torch.bool
        assert drawn.any(dim=1).all()
        assert not drawn.all(dim=1).any()
        if fixed:
            masked = subject.modality.num_masked(subject.recipe, tokens)
            assert drawn.sum(dim=1).tolist() == [masked] * 32
    if fixed:
        _check_masked_counts(subject, counts if len(counts) == 1 else list(range(2, 1000)))


def _check_masked_counts(subject: Subject, counts: list[int]) -> None:
    masked = [subject.modality.num_masked(subject.recipe, tokens) for tokens in counts]
    assert all(0 < one < tokens for one, tokens in zip(masked, counts, strict=True))
    assert (np.diff(masked) >= 0).all()
    assert (np.diff(np.array(counts) - masked) >= 0).all()
    if len(counts) > 1:
        assert subject.modality.num_masked(subject.recipe, torch.tensor(counts)).tolist() == masked


def masks_are_functions_of_their_keys(subject: Subject) -> None:
    draw, tokens, keys = subject.modality.draw_masks, subject.counts()[-1], _keys(24)
    drawn = draw(subject.recipe, keys, tokens, None)
    for rows in (torch.arange(24), torch.arange(23, -1, -1), torch.tensor([7])):
        assert torch.equal(draw(subject.recipe, keys[rows], tokens, None), drawn[rows])
    assert len(drawn.unique(dim=0)) > 12
    assert not torch.equal(draw(subject.recipe, _keys(24, seed=1), tokens, None), drawn)


def masks_leave_padding_alone(subject: Subject) -> None:
    """A padded row gets the mask that it gets alone."""
    draw, counts, keys = subject.modality.draw_masks, subject.counts(), _keys(24)
    if len(counts) == 1:
        return
    lengths = torch.tensor(counts)[torch.arange(24) * 5 % len(counts)]
    drawn = draw(subject.recipe, keys, counts[-1], lengths)
    assert not (drawn & is_padding(lengths, counts[-1])).any()
    for row, length in enumerate(lengths.tolist()):
        alone = draw(subject.recipe, keys[row : row + 1], length, None)[0]
        assert torch.equal(drawn[row, :length], alone)


def masks_of_a_batch_are_those_of_its_parts(subject: Subject) -> None:
    objective = subject.build()
    for batch in (subject.batch(), subject.items_batch()):
        whole = objective.draw_masks(batch, 7, "cpu")
        rows = whole.is_masked.unflatten(0, (len(batch.sample_ids), -1))
        part = objective.draw_masks(select(batch, slice(1, 3)), 7, "cpu")
        assert torch.equal(part.is_masked, rows[1:3].flatten(0, 1))
        assert int(whole.count) == int(whole.is_masked.sum())
        for other in (objective.draw_masks(batch, 8, "cpu"), objective.draw_masks(replace(batch, update=9), 7, "cpu")):
            assert not torch.equal(other.is_masked, whole.is_masked)
        if whole.visible_idx is not None:
            _check_visible(whole.is_masked, whole.visible().flatten(0, 1), whole.visible_lengths)


def _check_visible(is_masked: Tensor, visible_RV: Tensor, lengths: Tensor | None) -> None:
    """The index sets name the visible tokens of each row in their order."""
    for row, masked in enumerate(is_masked):
        count = visible_RV.shape[1] if lengths is None else int(lengths[row])
        assert visible_RV[row, :count].tolist() == (~masked).nonzero().flatten()[:count].tolist()


def student_never_sees_what_is_masked(subject: Subject) -> None:
    """Whatever the local features of masked tokens are: with the targets held, the loss does not move by a bit."""
    if subject.recipe.objective.name in MASKS_LATER:
        return
    objective = subject.build(masks_per_sample=1).eval()
    for batch in (subject.batch(), subject.items_batch()):
        masks, stem = objective.draw_masks(batch, 0, "cpu"), objective.student.stem
        local_BTD = stem(batch.inputs).detach().requires_grad_()
        loss = _loss_of_local(objective, batch, masks, local_BTD)
        value = loss(local_BTD)
        (gradient_BTD,) = torch.autograd.grad(value, local_BTD)
        assert (gradient_BTD[masks.is_masked] == 0.0).all()
        assert (gradient_BTD[~masks.is_masked] != 0.0).any(), "nothing of what is visible matters either"
        others_BTD = 3.0 * local_BTD.roll(1, dims=-1) + 1.0
        assert torch.equal(loss(torch.where(masks.is_masked.unsqueeze(-1), others_BTD, local_BTD)), value)


def _loss_of_local(objective: Objective, batch: Batch, masks: Masks, local_BTD: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss as a function of the student's local features, with the targets that it has for `local_BTD`."""
    if isinstance(objective, SelfDistillation):
        lengths = objective.student.token_lengths(batch.lengths)
        held = type(objective).targets(objective, objective.teacher_local(batch.inputs, local_BTD), lengths)
        objective.targets = lambda *_: held  # type: ignore[method-assign]

    def loss(changed_BTD: Tensor) -> Tensor:
        hook = objective.student.stem.register_forward_hook(lambda *_: changed_BTD)
        try:
            return objective(batch, masks).loss_sum
        finally:
            hook.remove()

    return loss


def _keys(count: int, seed: int = 0) -> Tensor:
    return fold_in(seed, torch.arange(count))


CHECKS = (
    masked_counts_are_kept_and_monotone,
    masks_are_functions_of_their_keys,
    masks_leave_padding_alone,
    masks_of_a_batch_are_those_of_its_parts,
    student_never_sees_what_is_masked,
)
