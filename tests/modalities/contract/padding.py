"""Nothing of an item depends on the padding beside it.

Shape legend: B samples, M masks per sample, R = B*M rows, T tokens, V visible, D width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from d2v.data.batch import Inputs
from d2v.models.masking import is_padding
from d2v.objectives.data2vec2 import Data2Vec2
from d2v.objectives.self_distillation import SelfDistillation
from tests.modalities.contract.subject import Subject, select


def features_do_not_depend_on_padding(subject: Subject) -> None:
    """Features of an item alone are those in a padded batch, whatever the padding holds."""
    objective, inputs = subject.build().eval(), subject.items()
    encoder = objective.student
    with torch.no_grad():
        together = encoder.features(inputs.values, inputs.lengths)
        for row in range(len(inputs)):
            alone = inputs.select(torch.tensor([row]))
            for lengths in (alone.lengths, None):
                _assert_near(encoder.features(alone.values, lengths)[0], together[row])
        if inputs.lengths is not None:
            _assert_near(encoder.features(_with_other_padding(inputs), inputs.lengths), together)


def targets_do_not_depend_on_padding(subject: Subject) -> None:
    objective, inputs = subject.build().eval(), subject.items()
    if inputs.lengths is None or not isinstance(objective, SelfDistillation) or subject.has_batch_norm:
        return

    def targets(part: Inputs) -> Tensor:
        local_BTD = objective.student.stem(part.values)
        lengths = objective.student.token_lengths(part.lengths)
        return objective.targets(objective.teacher_local(part.values, local_BTD), lengths)

    together, tokens = targets(inputs), objective.student.token_lengths(inputs.lengths)
    for row in range(len(inputs)):
        alone = targets(inputs.select(torch.tensor([row])))[0]
        _assert_near(together[row, : tokens[row]], alone, atol=1e-3)  # statistics over few tokens enlarge rounding


def masked_rows_do_not_depend_on_padding(subject: Subject) -> None:
    """data2vec 2.0: what the student makes of an item's visible tokens is the same alone and in a padded batch."""
    objective, batch = subject.build().eval(), subject.items_batch()
    if batch.lengths is None or not isinstance(objective, Data2Vec2):
        return
    encoder, clones = objective.student, objective.config.masks_per_sample
    with torch.no_grad():
        masks = objective.draw_masks(batch, 0, "cpu")
        lengths = encoder.token_lengths(batch.lengths)
        together_RVD = encoder.encode(encoder.stem(batch.inputs), lengths, masks).tokens
        for row in range(len(batch.sample_ids)):
            alone = select(batch, slice(row, row + 1))
            alone = replace(alone, inputs=alone.inputs[:, : int(alone.lengths)], lengths=None)
            its_masks = objective.draw_masks(alone, 0, "cpu")
            expected_MVD = encoder.encode(encoder.stem(alone.inputs), None, its_masks).tokens
            mine = slice(row * clones, (row + 1) * clones)
            assert masks.visible_lengths[mine].tolist() == [expected_MVD.shape[1]] * clones
            _assert_near(together_RVD[mine, : expected_MVD.shape[1]], expected_MVD)


def _with_other_padding(inputs: Inputs) -> Tensor:
    """The values with something else in the places of padding."""
    padding = is_padding(inputs.lengths, inputs.values.shape[1])
    padding = padding.view(*padding.shape, *[1] * (inputs.values.ndim - 2))
    return inputs.values.masked_fill(padding, 3.0 if inputs.values.is_floating_point() else 0)


def _assert_near(actual: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=atol)


CHECKS = (
    features_do_not_depend_on_padding,
    targets_do_not_depend_on_padding,
    masked_rows_do_not_depend_on_padding,
)
