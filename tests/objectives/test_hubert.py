"""HuBERT: logits, what counts, and torchaudio's numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import HubertConfig, parse
from d2v.data.batch import Batch
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry
from d2v.models.masking import Selected
from d2v.objectives.build import build_objective
from d2v.objectives.hubert import Hubert
from tests.objectives import test_wav2vec2

SPEECH = registry.get("speech")
SMALL: dict[str, Any] = test_wav2vec2.SMALL | {
    "objective": {"name": "hubert", "codes": 7, "projection_width": 12, "feature_dropout": 0.0}
}
FRAMES = 39


def build(layout: str = "data2vec1", **changes: Any) -> Hubert:
    values = {
        **SMALL,
        "objective": SMALL["objective"] | changes,
        "encoder": SMALL["encoder"] | {"layout": layout},
    }
    objective = build_objective(SPEECH, parse(SPEECH.train_config, values))
    assert isinstance(objective, Hubert)
    return objective


def batch(samples: int = 4, update: int = 0, frames: int = FRAMES) -> Batch:
    whole = test_wav2vec2.batch(samples, update)
    codes = torch.randint(7, (samples, frames), generator=torch.Generator().manual_seed(1))
    return replace(whole, targets=codes)


def test_logits_are_cosines_over_the_temperature() -> None:
    objective = build(codes=3, projection_width=2)
    objective.projection = torch.nn.Identity()
    objective.codes.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    logits = objective.logits(torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([[10.0, 0.0, -10.0]]))
    for code, loss in ((0, 4.54e-5), (1, 10.0000454)):
        assert float(F.cross_entropy(logits, torch.tensor([code])).detach()) == pytest.approx(loss, rel=1e-3)


@pytest.mark.parametrize(("codes", "loss"), [(100, 4.64), (504, 6.26)])
def test_the_first_loss_is_near_that_of_chance(codes: int, loss: float) -> None:
    objective = build(codes=codes, projection_width=256)
    objective.projection = torch.nn.Identity()
    random = torch.Generator().manual_seed(0)
    logits = objective.logits(torch.randn(2000, 256, generator=random))
    drawn = torch.randint(codes, (2000,), generator=random)
    assert float(F.cross_entropy(logits, drawn).detach()) == pytest.approx(loss, abs=0.03)


@pytest.mark.parametrize("layout", ["data2vec1", "data2vec2"])
@pytest.mark.parametrize("unmasked", [0.0, 0.5])
def test_the_loss_is_the_cross_entropy_of_clusters(layout: str, unmasked: float) -> None:
    objective, whole = build(layout, unmasked_weight=unmasked, penalty_weight=0.0).eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    local = objective.student.stem(whole.inputs)
    features = objective.student.encode(objective.masked(local, masks)).tokens
    losses = F.cross_entropy(objective.logits(features).transpose(1, 2), whole.targets, reduction="none")
    expected = losses[masks.is_masked].sum() + unmasked * losses[~masks.is_masked].sum()
    output = objective(whole, masks)
    torch.testing.assert_close(output.loss_sum, expected)
    assert float(output.statistics["code_loss"]) == pytest.approx(
        float(losses[masks.is_masked].mean().detach()), rel=1e-5
    )
    right = objective.logits(features).argmax(dim=-1) == whole.targets
    assert float(output.statistics["accuracy"]) == pytest.approx(float(right[masks.is_masked].float().mean()))


def test_loss_and_gradients_are_those_of_torchaudio() -> None:
    """torchaudio's logits, with the right cluster first, and the cross-entropy of its recipe."""
    from torchaudio.models.wav2vec2.components import LogitGenerator

    objective, whole = build(penalty_weight=0.0).double().eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    local = objective.student.stem(whole.inputs.double()).detach()
    features = objective.student.encode(objective.masked(local, masks)).tokens.detach()
    theirs = LogitGenerator(16, 7, 12, skip_masked=False, skip_nomask=True).double()
    theirs.final_proj.load_state_dict(objective.projection.state_dict())
    theirs.label_embeddings.data.copy_(objective.codes.data)
    logits, _ = theirs(features, whole.targets, masks.is_masked, ~masks.is_masked)
    loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")
    loss.backward()
    objective.features_of = lambda some, *_: some.of(features)
    output = objective(replace(whole, inputs=whole.inputs.double()), masks)
    output.loss_sum.backward()
    torch.testing.assert_close(output.loss_sum.detach(), loss.detach(), rtol=1e-6, atol=0)
    near = {"rtol": 1e-4, "atol": 1e-5}  # torchaudio compares in float32
    torch.testing.assert_close(objective.codes.grad, theirs.label_embeddings.grad, **near)
    torch.testing.assert_close(objective.projection.weight.grad, theirs.final_proj.weight.grad, **near)


def test_the_base_model_has_the_size_of_torchaudios() -> None:
    """Its `hubert_pretrain_base(num_classes=500)` has 94,696,576 parameters, 128 of them in a weight norm of the
    convolutional positions that ours lacks."""
    encoder = {
        "layout": "data2vec1",
        "stem_norm": "group",
        "position_layers": 1,
        "position_kernel": 128,
        "position_norm": False,
    }
    values = SMALL | {"encoder": encoder, "objective": {"name": "hubert", "codes": 500}}
    with torch.device("meta"):
        objective = build_objective(SPEECH, parse(SPEECH.train_config, values))
    count = sum(parameter.numel() for parameter in objective.parameters())
    assert count == 94_696_576 - 128
    heads = sum(parameter.numel() for parameter in objective.heads())
    assert heads == 196_864 + 500 * 256
    assert count - heads == 94_371_712 - 128


def test_frames_without_a_cluster_take_no_part() -> None:
    objective, whole = build(penalty_weight=0.0).eval(), batch(frames=FRAMES - 1)
    masks = objective.draw_masks(whole, 0, "cpu")
    assert masks.is_masked.shape == (4, FRAMES - 1)
    assert objective.draw_masks(replace(whole, targets=None), 0, "cpu").is_masked.shape == (4, FRAMES)
    others = whole.inputs.clone()
    others[:, -200:] += 1.0  # what the last frame alone hears
    assert objective.student.stem.num_tokens(others[:, :-200]) == FRAMES - 1
    assert torch.equal(objective(whole, masks).loss_sum, objective(replace(whole, inputs=others), masks).loss_sum)


def test_the_penalty_is_that_of_all_frames_times_the_masked_ones() -> None:
    objective, whole = build().eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    raw = objective.frames.make(objective.student, whole.inputs, 1.0).raw_BTC
    expected = (raw.square().mean(dim=(1, 2)) * masks.is_masked.sum(dim=1)).sum() * 10.0
    without = build(penalty_weight=0.0).eval()(whole, masks).loss_sum
    torch.testing.assert_close(objective(whole, masks).loss_sum - without, expected, rtol=1e-4, atol=1e-4)


def test_a_batch_without_clusters_is_refused() -> None:
    whole = replace(batch(), targets=None)
    objective = build()
    with pytest.raises(DataError, match=r"set prepare\.codebook"):
        objective(whole, objective.draw_masks(whole, 0, "cpu"))
    with pytest.raises(ConfigError, match=r"set objective\.masked_weight=1"):
        parse(HubertConfig, {"name": "hubert", "codes": 5, "masked_weight": 0.0})


@pytest.mark.parametrize("unmasked", [0.0, 1.0])
def test_operations_are_those_that_run(unmasked: float) -> None:
    objective, whole = build(unmasked_weight=unmasked).train(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    scored = FRAMES if unmasked else len(Selected.masked(masks).index) / 4
    # nothing before the first convolution needs a gradient; convolutions make a few outputs that no frame needs
    expected = objective.count_flops(FRAMES, scored)["total"] - 2.0 * 1599 * 12 * 10
    assert counter.get_total_flops() / 4 == pytest.approx(expected, rel=0.035)
    objective._draw = lambda keys, tokens, lengths: torch.arange(tokens).expand(len(keys), -1) < 13
    assert objective.flops_per_sample(FRAMES) == objective.count_flops(FRAMES, FRAMES if unmasked else 13.0)


@pytest.mark.parametrize("layout", ["data2vec1", "data2vec2"])
def test_the_encoder_does_not_see_masked_frames(layout: str) -> None:
    objective, whole = build(layout).eval(), batch()
    masks = objective.draw_masks(whole, 0, "cpu")
    local, masked = objective.student.stem(whole.inputs).detach(), Selected.masked(masks)
    others = torch.where(masks.is_masked.unsqueeze(-1), 3.0 * local.roll(1, dims=-1) + 1.0, local)
    seen = objective.features_of(masked, local, masks, None)
    assert torch.equal(objective.features_of(masked, others, masks, None), seen)
    assert not torch.equal(objective.features_of(masked, local + 1.0, masks, None), seen)
