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
from d2v.data.random import fold_in
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.objectives.build import build_objective
from d2v.objectives.mlm import Mlm
from d2v.objectives.selection import bert_selection, roberta_selection

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


# ------------------------------------------------------------------------------------- BERT and RoBERTa


def keys(rows: int) -> Tensor:
    return fold_in(3, torch.arange(rows))


def test_replacements_are_eighty_ten_ten() -> None:
    """Over 10^5 draws; a word that is drawn for itself counts as kept."""
    objective, ids = build(), torch.arange(2500)
    whole = Batch(torch.full((2500, 40), 30), ids, torch.zeros_like(ids), 0)
    seen = objective.replaced(whole, torch.ones_like(whole.inputs, dtype=torch.bool))
    shares = [float((seen == value).float().mean()) for value in (MASK_ID, 30)]
    assert shares == pytest.approx([0.8, 0.1 + 0.1 / 55], abs=0.005)
    assert int(seen.min()) == FIRST_WORD
    specials = build(random_specials=True).replaced(whole, torch.ones_like(whole.inputs, dtype=torch.bool))
    assert set(range(FIRST_WORD)) < set(specials.unique().tolist())


@pytest.mark.parametrize(("tokens", "selected"), [(128, 19), (512, 77), (2, 1)])
def test_bert_selects_a_rounded_share(tokens: int, selected: int) -> None:
    words = torch.arange(1, tokens + 1).repeat(50, 1)
    words[:, 0] = words[:, -1] = 0
    words[:, tokens // 2] = max(tokens // 2, 1)
    chosen = bert_selection(keys(50), words, None, 0.15, None, whole_words=False)
    assert (chosen.sum(dim=1) == min(selected, int((words[0] > 0).sum()))).all()
    assert not (chosen & (words == 0)).any(), "special tokens are never selected"
    assert bert_selection(keys(50), words, None, 0.15, 1, whole_words=False).sum(dim=1).tolist() == [1] * 50


def test_roberta_selects_76_or_77_of_512() -> None:
    chosen = roberta_selection(keys(2000), 512, None, 0.15).sum(dim=1)
    assert set(chosen.tolist()) == {76, 77}
    assert float(chosen.float().mean()) == pytest.approx(76.8, abs=0.04)
    often = roberta_selection(keys(4000), 20, None, 0.15).float().mean(dim=0)
    torch.testing.assert_close(often, torch.full((20,), 0.15), atol=0.025, rtol=0)
    lengths = torch.tensor([20, 7])
    padded = roberta_selection(keys(2), 20, lengths, 0.15)
    assert not padded[1, 7:].any()


def test_whole_words_are_selected_together() -> None:
    words = torch.tensor([0, 1, 1, 1, 2, 3, 3, 4, 5, 5, 5, 5, 6, 7, 7, 0]).repeat(200, 1)
    chosen = bert_selection(keys(200), words, None, 0.4, None, whole_words=True)
    assert (chosen.sum(dim=1) <= 6).all()
    assert (chosen.sum(dim=1) == 6).float().mean() > 0.7
    for word in range(1, 8):
        of_word = chosen[:, words[0] == word]
        assert (of_word.all(dim=1) == of_word.any(dim=1)).all()
        assert of_word.any()
    alone = bert_selection(keys(3), torch.tensor([[0, 1, 1, 1, 1, 0]] * 3), None, 0.15, None, whole_words=True)
    assert alone.sum(dim=1).tolist() == [4] * 3, "a text is not left without a selected word"
    assert torch.equal(bert_selection(keys(200)[7:8], words[:1], None, 0.4, None, whole_words=True)[0], chosen[7])


@pytest.mark.parametrize("select", ["mask", "bert", "roberta"])
def test_static_masks_come_again_and_dynamic_ones_do_not(select: str) -> None:
    def seen(objective: Mlm, epoch: int, update: int) -> Tensor:
        whole = replace(batch(6, update), epochs=torch.full((6,), epoch))
        return objective.replaced(whole, objective.draw_masks(whole, 0, "cpu").is_masked)

    static, dynamic = build(select=select, static_masks=10), build(select=select)
    assert torch.equal(seen(static, 3, 5), seen(static, 13, 77))
    assert not torch.equal(seen(static, 3, 5), seen(static, 4, 5))
    assert torch.equal(seen(dynamic, 3, 5), seen(dynamic, 3, 5))
    assert not torch.equal(seen(dynamic, 3, 5), seen(dynamic, 4, 6))


def pairs(samples: int = 6) -> Batch:
    """Texts of two runs of which the second is the first again, or other words."""
    whole = batch(samples)
    is_next = torch.arange(samples) % 2
    words = torch.arange(1, 41).repeat(samples, 1)
    words[:, 0] = is_next
    inputs = whole.inputs.clone()
    inputs[:, 0] = 0
    return replace(whole, inputs=inputs, targets=words)


def test_pairs_are_told_by_the_first_token() -> None:
    objective, whole = build(next_sentence=True, select="bert").eval(), pairs()
    masks = objective.draw_masks(whole, 0, "cpu")
    assert not masks.is_masked[:, 0].any()
    without = build(select="bert").eval()
    without.load_state_dict({name: value for name, value in objective.state_dict().items() if "pair" not in name})
    alone, output = without(whole, masks), objective(whole, masks)
    features = objective.student(objective.replaced(whole, masks.is_masked))[:, 0]
    losses = F.cross_entropy(objective.pair_head(features), whole.targets[:, 0], reduction="none")
    torch.testing.assert_close(output.loss_sum - alone.loss_sum, (losses * masks.is_masked.sum(dim=1)).sum())
    assert float(output.statistics["pair_loss"]) == pytest.approx(float(losses.mean().detach()), rel=1e-5)
    torch.testing.assert_close(objective.token_losses(whole, masks), without.token_losses(whole, masks))
    with pytest.raises(DataError, match=r"set prepare\.packing=pairs"):
        objective(replace(whole, targets=None), masks)


@pytest.mark.parametrize("changes", [{"select": "bert"}, {"select": "bert", "next_sentence": True}])
def test_operations_of_bert_are_those_that_run(changes: dict[str, Any]) -> None:
    objective, whole = build(**changes).train(), pairs(4)
    masks = objective.draw_masks(whole, 0, "cpu")
    assert masks.is_masked.sum(dim=1).tolist() == [6] * 4
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    assert counter.get_total_flops() / 4 == pytest.approx(objective.flops_per_sample(40)["total"], rel=1e-6)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"set objective\.select=bert"):
        build(whole_words=True)
