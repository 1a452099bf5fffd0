"""What every objective promises, for both versions of data2vec on images."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d2v.modalities import registry
from d2v.models.masking import Masks, Selected
from d2v.objectives import data2vec1
from d2v.objectives.build import build_objective
from tests.objectives.helpers import SMALL, SMALL_V1, batch, give_targets, recipe, select, targets_of

BOTH = pytest.mark.parametrize("values", [SMALL, SMALL_V1], ids=["data2vec2", "data2vec1"])
VISION = registry.get("vision")


def build(values):
    return build_objective(VISION, recipe(values))


@BOTH
def test_building_is_a_function_of_the_seed_and_leaves_the_generator_alone(values):
    state = torch.random.get_rng_state()
    first, second = build(values), build(values)
    other = build(values | {"seed": 1})
    assert torch.equal(state, torch.random.get_rng_state())
    weights = [dict(o.named_parameters())["student.blocks.0.mlp.fc1.weight"] for o in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@BOTH
def test_a_fresh_teacher_is_the_student(values):
    objective = build(values)
    student, teacher = objective.student.state_dict(), objective.teacher.encoder.state_dict()
    assert student.keys() == teacher.keys()
    assert all(torch.equal(student[name], teacher[name]) for name in student)


@BOTH
def test_masks_and_loss_do_not_depend_on_how_a_batch_is_split(values):
    """The sum of the parts' losses over the sum of their counts is the whole's, as ranks and accumulation need."""
    objective = build(values)
    whole = batch(4)
    parts = [select(whole, slice(0, 1)), select(whole, slice(1, 4))]
    masks = [objective.draw_masks(part, 7, "cpu") for part in parts]
    all_masks = objective.draw_masks(whole, 7, "cpu")
    assert torch.equal(torch.cat([m.is_masked for m in masks]), all_masks.is_masked)
    split = sum(objective(part, m).loss_sum for part, m in zip(parts, masks, strict=True))
    torch.testing.assert_close(split, objective(whole, all_masks).loss_sum, rtol=1e-5, atol=1e-5)
    assert sum(int(m.count) for m in masks) == int(all_masks.count)


@BOTH
def test_masks_change_with_seed_update_and_sample(values):
    objective = build(values)
    base = objective.draw_masks(batch(4), 7, "cpu").is_masked
    assert torch.equal(base, objective.draw_masks(batch(4), 7, "cpu").is_masked)
    for other in ((batch(4), 8), (batch(4, update=1), 7), (batch(4, first=9), 7)):
        assert not torch.equal(base, objective.draw_masks(*other, "cpu").is_masked)


@BOTH
def test_gradient_reaches_every_student_parameter_and_no_teacher(values):
    objective = build(values).train()
    whole = batch(4)
    objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum.backward()
    missing = {name for name, p in objective.named_parameters() if p.requires_grad and p.grad is None}
    assert missing == set()
    assert all(p.grad is None for p in objective.teacher.parameters())


@BOTH
def test_only_hidden_positions_enter_the_loss(values):
    """Teacher targets of visible patches may be anything."""
    objective = build(values)
    whole = batch(2)
    masks = objective.draw_masks(whole, 0, "cpu")
    targets = targets_of(objective, whole)
    give_targets(objective, targets)
    visible_everywhere = ~masks.is_masked.view(2, -1, 16).any(dim=1)
    changed = targets + 100.0 * visible_everywhere.unsqueeze(-1)
    objective.config = objective.config.model_copy(update={"cls_loss": 0.0})
    first = objective(whole, masks).loss_sum
    give_targets(objective, changed)
    torch.testing.assert_close(objective(whole, masks).loss_sum, first)


@BOTH
def test_operations_are_those_that_run(values, monkeypatch):
    objective, whole = build(values).train(), batch(64)
    masks = objective.draw_masks(whole, 0, "cpu")
    computed = len(Selected.masked(masks).index) if masks.masked_idx is None else 0
    monkeypatch.setattr(data2vec1, "mean_masked", lambda draw, tokens: computed / 64)  # and not of other masks
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    expected = objective.flops_per_sample(16)["total"] - objective.student.stem.local_flops(16)  # no pixels' gradient
    assert counter.get_total_flops() / 64 == pytest.approx(expected, rel=1e-6)


def test_student_never_sees_hidden_pixels():
    """data2vec 2.0: pixels of patches that a mask hides do not move that mask's encoder output."""
    objective = build(SMALL).eval()
    whole = batch(1)
    masks = objective.draw_masks(whole, 0, "cpu")
    one = Masks(masks.is_masked[:1], masks.visible_idx[:, :1], masks.masked_idx[:, :1], masks.count)
    before = objective.student.encode(objective.student.stem(whole.inputs), masks=one).tokens
    hidden = masks.is_masked[0].view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
    changed = whole.inputs + 5.0 * hidden
    after = objective.student.encode(objective.student.stem(changed), masks=one).tokens
    assert torch.equal(before, after)


def test_scatter_puts_visible_tokens_back_among_small_noise():
    objective = build(SMALL)
    whole = batch(200)
    masks = objective.draw_masks(whole, 0, "cpu")
    visible = torch.randn(600, 4, 32)
    filled = objective.decoder_input(visible, masks, objective._noise(whole, 16))
    place = masks.visible_idx.flatten(0, 1).unsqueeze(-1).expand_as(visible)
    assert torch.equal(filled.gather(1, place), visible)
    noise = filled[masks.is_masked]
    assert float(noise.std()) == pytest.approx(0.01, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=1e-4)


def test_identical_masks_give_identical_losses():
    objective = build(SMALL | {"objective": SMALL["objective"] | {"mask_noise_std": 0.0}})
    whole = batch(2)
    masks = objective.draw_masks(whole, 0, "cpu")
    first = masks.is_masked.view(2, 3, 16)[:, :1]
    tripled = Masks.with_equal_counts(first.expand(2, 3, 16).flatten(0, 1), 2, objective.num_masked(16))
    alone = build(SMALL | {"objective": SMALL["objective"] | {"mask_noise_std": 0.0, "masks_per_sample": 1}})
    single = Masks.with_equal_counts(first.flatten(0, 1), 2, objective.num_masked(16))
    triple_loss, single_loss = objective(whole, tripled).loss_sum, alone(whole, single).loss_sum
    torch.testing.assert_close(triple_loss / tripled.count, single_loss / single.count, rtol=1e-5, atol=1e-6)


def test_mask_token_stands_where_patches_are_hidden():
    """data2vec 1.0: hidden pixels do not move the student's output; the mask token does."""
    objective = build(SMALL_V1).eval()
    whole = batch(2)
    masks = objective.draw_masks(whole, 0, "cpu")
    with torch.no_grad():
        give_targets(objective, targets_of(objective, whole))
        before = objective(whole, masks).loss_sum
        hidden = masks.is_masked.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
        whole.inputs = whole.inputs + 5.0 * hidden
        assert torch.equal(objective(whole, masks).loss_sum, before)
        objective.mask_token += 1.0
        assert not torch.equal(objective(whole, masks).loss_sum, before)


@pytest.mark.parametrize(
    ("size", "with_decoder", "encoder"),
    [
        (dict(width=768, depth=10, prenet_depth=2, heads=12), 88_383_744, 85_797_888),
        (dict(width=1024, depth=24, heads=16), 309_268_480, 303_300_608),
        (dict(width=1280, depth=32, heads=16), 637_556_992, 630_917_120),
        (dict(width=1280, depth=32, heads=16, patch_px=14), 637_403_392, 630_763_520),
    ],
    ids=["base", "large", "huge16", "huge14"],
)
def test_published_parameter_counts_are_exact(size, with_decoder, encoder):
    decoder = dict(layers=6, width=768, kernel=3) if size["width"] == 768 else dict(layers=3, width=1024, kernel=5)
    values = SMALL | {
        "encoder": {"image_px": 224, "patch_px": 16, **size},
        "objective": SMALL["objective"] | {"decoder": decoder | {"groups": 16}},
    }
    with torch.device("meta"):
        objective = build(values)
    student = sum(p.numel() for p in objective.student.parameters())
    assert (student + sum(p.numel() for p in objective.decoder.parameters()), student) == (with_decoder, encoder)
    assert len(list(objective.teacher.parameters())) == {768: 150, 1024: 294, 1280: 390}[size["width"]]
