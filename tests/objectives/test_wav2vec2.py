"""wav2vec 2.0: what is compared with what, what the encoder sees, and what parts of the loss are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from d2v.config import parse
from d2v.data.batch import Batch
from d2v.modalities import registry
from d2v.models.masking import Masks
from d2v.objectives.build import build_objective
from d2v.objectives.wav2vec2 import Wav2Vec2, masked_frames

SPEECH = registry.get("speech")
SMALL: dict[str, Any] = {
    "objective": {
        "name": "wav2vec2",
        "quantizer": {"groups": 2, "entries": 6, "width": 8},
        "projection_width": 12,
        "distractors": 7,
        "feature_dropout": 0.0,
    },
    "encoder": {
        "layout": "data2vec1",
        "convs": [[12, 10, 5], [12, 8, 5], [12, 8, 8]],  # 80 frames a second
        "width": 16,
        "depth": 2,
        "heads": 2,
        "position_layers": 1,
        "position_kernel": 5,
        "position_groups": 4,
        "dropout": 0.0,
        "attention_dropout": 0.0,
    },
    "mask": {"kind": "span", "ratio": 0.65, "span": 4},
    "augment": {"max_seconds": 0.5},
    "optimizer": {"lr": 1e-3},
    "batch_size": 4,
    "max_updates": 5,
}


def build(layout: str = "data2vec1", **changes: Any) -> Wav2Vec2:
    values = {
        **SMALL,
        "objective": SMALL["objective"] | changes,
        "encoder": SMALL["encoder"] | {"layout": layout},
    }
    objective = build_objective(SPEECH, parse(SPEECH.train_config, values))
    assert isinstance(objective, Wav2Vec2)
    return objective


def batch(samples: int = 4, update: int = 0, lengths: Tensor | None = None) -> Batch:
    ids = torch.arange(samples)
    waves = [torch.randn(8000, generator=torch.Generator().manual_seed(number)) for number in range(samples)]
    return Batch(torch.stack(waves), ids, torch.zeros_like(ids), update, lengths)


def part(whole: Batch, rows: slice) -> Batch:
    return replace(whole, **{name: tensor[rows] for name, tensor in whole.tensors().items()})


def test_hidden_frames_are_listed_in_order() -> None:
    is_masked = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0]]).bool()
    frame, is_masked_at = masked_frames(is_masked)
    assert frame.tolist()[0] == [1, 2, 4]
    assert frame.tolist()[1][0] == 3
    assert is_masked_at.tolist() == [[True, True, True], [True, False, False]]


def test_distractors_are_other_hidden_frames_of_the_same_sample() -> None:
    objective, whole = build(distractors=400), batch()
    frame, is_masked_at = masked_frames(objective.draw_masks(whole, 0, "cpu").is_masked)
    drawn = objective.distractors(whole, frame, is_masked_at)
    for row, count in enumerate(is_masked_at.sum(dim=1).tolist()):
        for own in range(count):
            times = drawn[row, own].bincount(minlength=count)
            assert len(times) == count
            assert times[own] == 0
            assert (times[:own] > 0).all()
            assert (times[own + 1 :] > 0).all(), "400 draws from a dozen frames leave none out"


def test_distractors_and_noise_do_not_depend_on_the_neighbours() -> None:
    objective, whole = build().train(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    frame, is_masked_at = masked_frames(masks.is_masked)
    x = torch.randn(*frame.shape, 12, generator=torch.Generator().manual_seed(0))
    drawn, codes = objective.distractors(whole, frame, is_masked_at), objective.quantise(whole, x, frame).codes
    alone_frame, alone_masked = masked_frames(masks.is_masked[2:3])
    count = alone_frame.shape[1]
    alone = part(whole, slice(2, 3))
    assert torch.equal(objective.distractors(alone, alone_frame, alone_masked)[0], drawn[2, :count])
    assert torch.equal(objective.quantise(alone, x[2:3, :count], alone_frame).codes[0], codes[2, :count])
    later = replace(whole, update=1)
    assert not torch.equal(objective.distractors(later, frame, is_masked_at), drawn)
    assert not torch.equal(objective.quantise(later, x, frame).codes, codes)
    assert torch.equal(objective.eval().quantise(later, x, frame).codes, objective.quantise(whole, x, frame).codes)


def test_logits_are_cosines_with_the_own_target_first() -> None:
    objective, random = build(), torch.Generator().manual_seed(0)
    context, target = (torch.randn(2, 5, 12, generator=random) for _ in range(2))
    codes = torch.randint(2, (2, 5, 2), generator=random)
    drawn = torch.randint(5, (2, 5, 7), generator=random)
    logits = objective.logits(context, target, codes, drawn)
    assert logits.shape == (2, 5, 8)
    for row in range(2):
        for own in range(5):
            cosines = F.cosine_similarity(context[row, own], target[row, [own, *drawn[row, own].tolist()]], dim=-1)
            same = (codes[row, drawn[row, own]] == codes[row, own]).all(dim=-1)
            expected = (cosines / 0.1).masked_fill(torch.cat((torch.tensor([False]), same)), -torch.inf)
            torch.testing.assert_close(logits[row, own], expected, rtol=1e-4, atol=1e-4)


def test_a_hidden_frame_that_is_alone_costs_nothing() -> None:
    objective = build(diversity_weight=0.0, penalty_weight=0.0).eval()
    is_masked = torch.zeros(1, 39, dtype=torch.bool)
    is_masked[0, 5] = True
    whole = batch(1)
    assert objective.student.stem.num_tokens(whole.inputs) == 39
    output = objective(whole, Masks.ragged(is_masked))
    assert float(output.loss_sum.detach()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("layout", ["data2vec1", "data2vec2"])
def test_the_encoder_does_not_see_hidden_frames(layout: str) -> None:
    objective, whole = build(layout).eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    local = objective.student.stem(whole.inputs)
    hidden = masks.is_masked.unsqueeze(-1)

    def context(local_BTD: Tensor) -> Tensor:
        return objective.context(local_BTD, masks, None, masked_frames(masks.is_masked)[0])

    before = context(local)
    assert torch.equal(context(torch.where(hidden, 3.0 * local + 1.0, local)), before)
    assert not torch.equal(context(torch.where(hidden, local, 3.0 * local + 1.0)), before)


def test_frames_are_the_stems_own() -> None:
    objective, whole = build(), batch()
    frames = objective.frames.make(objective.student, whole.inputs, 0.1)
    assert torch.equal(frames.projected_BTD, objective.student.stem(whole.inputs))
    assert frames.normal_BTC.shape == frames.raw_BTC.shape == (4, 39, objective.frames.channels)


def test_padding_changes_no_loss() -> None:
    objective = build(diversity_weight=0.0).eval().double()
    whole = batch(3, lengths=torch.tensor([8000, 6100, 7000]))
    whole.inputs = whole.inputs.double()
    together = objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum
    alone = []
    for row, length in enumerate(whole.lengths.tolist()):
        one = replace(part(whole, slice(row, row + 1)), lengths=None)
        one.inputs = one.inputs[:, :length]
        alone.append(objective(one, objective.draw_masks(one, 0, "cpu")).loss_sum)
    torch.testing.assert_close(together, sum(alone), rtol=1e-9, atol=0)


def test_diversity_is_low_where_all_entries_are_used() -> None:
    objective, whole = build(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    used = objective(whole, masks).statistics["diversity_loss"]
    with torch.no_grad():
        objective.quantizer.scores.weight.zero_()
        even = objective(whole, masks).statistics["diversity_loss"]
        objective.quantizer.scores.bias[::6] = 50.0
        collapsed = objective(whole, masks).statistics
    assert 0.0 <= float(even) < 1e-5 < float(used) < float(collapsed["diversity_loss"])
    assert float(collapsed["diversity_loss"]) == pytest.approx(1 - 2 / 12, abs=1e-3)
    assert float(collapsed["code_perplexity"]) == pytest.approx(2.0, rel=1e-3)


def test_convolutions_get_a_tenth_of_the_gradient() -> None:
    gradients = {}
    for factor in (1.0, 0.1):
        objective, whole = build(feature_gradient=factor).double().eval(), batch()
        whole.inputs = whole.inputs.double()
        objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum.backward()
        local = objective.student.stem.local
        gradients[factor] = local.layers[0].conv.weight.grad, local.projection.weight.grad
    torch.testing.assert_close(gradients[0.1][0], 0.1 * gradients[1.0][0])
    torch.testing.assert_close(gradients[0.1][1], gradients[1.0][1])


def test_frames_are_found_among_others_once_they_can_be_seen() -> None:
    """With an encoder from which nothing is hidden, the comparison alone is left to learn."""
    objective = build(distractors=20).train()
    seen = objective.context
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    objective.context = lambda local, masks, *rest: seen(local, replace(masks, is_masked=nothing), *rest)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    accuracies = []
    for update in range(80):
        whole = batch(8, update)
        masks = objective.draw_masks(whole, 0, "cpu")
        output = objective(whole, masks)
        optimizer.zero_grad()
        (output.loss_sum / masks.count).backward()
        optimizer.step()
        accuracies.append(float(output.statistics["accuracy"]))
    assert sum(accuracies[:5]) / 5 < 0.2
    assert sum(accuracies[-5:]) / 5 > 0.5
