"""Masked language model: what is replaced by what, and what counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import parse
from d2v.data.batch import Batch
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from d2v.objectives.mlm import Mlm

TEXT = registry.get("text")
SMALL: dict[str, Any] = {
    "objective": {"name": "mlm"},
    "encoder": {
        "layout": "data2vec1",
        "vocab_size": 60,
        "max_tokens": 40,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "dropout": 0.0,
        "embedding_dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "mask": {"kind": "random", "ratio": 0.15},
    "optimizer": {"lr": 1e-3},
    "batch_size": 4,
    "max_updates": 5,
}
MASK_ID, FIRST_WORD = 59, 4


def build(layout: str = "data2vec1", ratio: float = 0.15, **changes: Any) -> Mlm:
    values = {
        **SMALL,
        "objective": SMALL["objective"] | changes,
        "encoder": SMALL["encoder"] | {"layout": layout},
        "mask": SMALL["mask"] | {"ratio": ratio},
    }
    objective = build_objective(TEXT, parse(TEXT.train_config, values))
    assert isinstance(objective, Mlm)
    return objective


def batch(samples: int = 4, update: int = 0, lengths: Tensor | None = None) -> Batch:
    ids = torch.arange(samples)
    words = torch.randint(FIRST_WORD, MASK_ID, (samples, 40), generator=torch.Generator().manual_seed(0))
    return Batch(words, ids, torch.zeros_like(ids), update, lengths)


def test_of_the_hidden_tokens_eight_in_ten_are_masks_and_one_another_word() -> None:
    objective, whole = build(ratio=0.5), batch(500)
    masks = objective.draw_masks(whole, 0, "cpu")
    assert masks.is_masked.sum(dim=1).tolist() == [20] * 500
    seen = objective.replaced(whole, masks.is_masked)
    assert torch.equal(seen[~masks.is_masked], whole.inputs[~masks.is_masked])
    before, after = whole.inputs[masks.is_masked], seen[masks.is_masked]
    is_mask, is_same = after == MASK_ID, after == before
    assert float(is_mask.float().mean()) == pytest.approx(0.8, abs=0.015)
    assert float(is_same.float().mean()) == pytest.approx(0.1 + 0.1 / 55, abs=0.01)
    words = after[~is_mask & ~is_same]
    assert int(words.min()) == FIRST_WORD
    assert int(words.max()) == MASK_ID - 1
    assert len(words.unique()) == MASK_ID - FIRST_WORD


def test_replacements_are_functions_of_update_sample_and_place() -> None:
    objective, whole = build(ratio=0.5), batch(6)
    everywhere = torch.ones_like(whole.inputs, dtype=torch.bool)
    seen = objective.replaced(whole, everywhere)
    backwards = replace(whole, inputs=whole.inputs.flip(0), sample_ids=whole.sample_ids.flip(0))
    assert torch.equal(objective.replaced(backwards, everywhere), seen.flip(0))
    assert not torch.equal(objective.replaced(replace(whole, update=1), everywhere), seen)
    shorter = replace(whole, inputs=whole.inputs[:, :25])
    assert torch.equal(objective.replaced(shorter, everywhere[:, :25]), seen[:, :25])


@pytest.mark.parametrize("layout", ["data2vec1", "data2vec2"])
def test_masked_words_are_not_seen(layout: str) -> None:
    objective, whole = build(layout, mask_share=1.0, random_share=0.0).eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    others = replace(whole, inputs=torch.where(masks.is_masked, (whole.inputs - 3) % 55 + FIRST_WORD, whole.inputs))
    assert not torch.equal(others.inputs, whole.inputs)
    assert torch.equal(objective.replaced(others, masks.is_masked), objective.replaced(whole, masks.is_masked))


def test_the_loss_is_the_cross_entropy_of_hidden_words_alone() -> None:
    objective, whole = build().eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    encoded = objective.student(objective.replaced(whole, masks.is_masked))
    logits = objective.head(encoded) @ objective.student.stem.local.words.weight.T + objective.bias
    expected = F.cross_entropy(logits[masks.is_masked], whole.inputs[masks.is_masked], reduction="sum").detach()
    output = objective(whole, masks)
    torch.testing.assert_close(output.loss_sum, expected)
    assert float(output.statistics["mlm_loss"]) == pytest.approx(float(expected / masks.count))
    right = logits[masks.is_masked].argmax(dim=-1) == whole.inputs[masks.is_masked]
    assert float(output.statistics["accuracy"]) == pytest.approx(float(right.float().mean()))


def test_words_that_are_nowhere_learn_from_being_wrong() -> None:
    """The output table is the embedding itself."""
    objective, whole = build(random_share=0.0), batch()
    whole.inputs[:] = whole.inputs.clamp(max=30)
    objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum.backward()
    assert (objective.student.stem.local.words.weight.grad[40:50].abs().sum(dim=1) > 0).all()


def test_padding_changes_no_loss() -> None:
    objective = build().eval().double()
    whole = batch(3, lengths=torch.tensor([40, 21, 33]))
    together = objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum
    alone = []
    for row, length in enumerate(whole.lengths.tolist()):
        ids = whole.sample_ids[row : row + 1]
        one = Batch(whole.inputs[row : row + 1, :length], ids, torch.zeros_like(ids), 0)
        alone.append(objective(one, objective.draw_masks(one, 0, "cpu")).loss_sum)
    torch.testing.assert_close(together, sum(alone), rtol=1e-9, atol=0)


def test_operations_are_those_that_run() -> None:
    objective, whole = build().train(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    assert counter.get_total_flops() / 4 == pytest.approx(objective.flops_per_sample(40)["total"], rel=1e-6)
