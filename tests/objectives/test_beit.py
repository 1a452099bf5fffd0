"""BEiT: its size, what it sees, what counts, and that codes are a frozen tokenizer's."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import parse
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.models.masking import Selected
from d2v.objectives.beit import Beit
from d2v.objectives.build import build_objective
from tests.objectives.helpers import SMALL_BEIT, batch, recipe

VISION = registry.get("vision")


def build(layout: str = "beit") -> Beit:
    sizes = {"image_px": 16, "patch_px": 4, "width": 32, "depth": 2, "heads": 2, "layout": layout}
    scale = {"layer_scale_init": 0.1} if layout == "beit" else {}
    objective = build_objective(VISION, recipe(SMALL_BEIT | {"encoder": sizes | scale}))
    assert isinstance(objective, Beit)
    return objective


@pytest.mark.parametrize("layout", ["beit", "vit", "data2vec2"])
def test_the_loss_is_the_cross_entropy_of_codes_at_masked_patches(layout: str) -> None:
    objective, whole = build(layout).eval(), batch(3)
    masks = objective.draw_masks(whole, 0, "cpu")
    local = objective.student.stem(whole.inputs)
    logits = objective.head(objective.student.encode(objective.masked(local, masks)).tokens)
    codes = objective.tokenizer(whole.inputs)
    losses = F.cross_entropy(logits.transpose(1, 2), codes, reduction="none")[masks.is_masked]
    output = objective(whole, masks)
    torch.testing.assert_close(output.loss_sum, losses.sum())
    torch.testing.assert_close(objective.token_losses(whole, masks), losses.detach())
    right = (logits.argmax(dim=-1) == codes)[masks.is_masked]
    assert float(output.statistics["accuracy"]) == pytest.approx(float(right.float().mean()))


def test_codes_do_not_depend_on_masks_and_nothing_learns_through_them() -> None:
    objective, whole = build().train(), batch(3)
    masks = objective.draw_masks(whole, 0, "cpu")
    before = objective.targets(whole.inputs)
    objective(whole, masks).loss_sum.backward()
    assert torch.equal(objective.targets(whole.inputs), before)
    assert all(parameter.grad is None for parameter in objective.tokenizer.parameters())
    assert all(parameter.grad is not None for parameter in objective.parameters() if parameter.requires_grad)


def test_the_first_loss_is_that_of_chance() -> None:
    values = SMALL_BEIT | {"codebook": SMALL_BEIT["codebook"] | {"codes": 8192}}
    objective, whole = build_objective(VISION, recipe(values)).eval(), batch(8)
    masks = objective.draw_masks(whole, 0, "cpu")
    with torch.no_grad():
        loss = objective(whole, masks).loss_sum / masks.count
    assert float(loss) == pytest.approx(math.log(8192), abs=0.1)


def test_the_head_has_the_papers_size() -> None:
    encoder = {"layout": "beit", "width": 768, "depth": 1, "heads": 12, "layer_scale_init": 0.1}
    with torch.device("meta"):
        objective = build_objective(VISION, recipe(SMALL_BEIT | {"encoder": encoder, "codebook": {"codes": 8192}}))
    assert sum(parameter.numel() for parameter in objective.head.parameters()) == 6_299_648


def test_operations_are_those_that_run() -> None:
    objective, whole = build().train(), batch(4)
    masks = objective.draw_masks(whole, 0, "cpu")
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    expected = objective.count_flops(16, len(Selected.masked(masks).index) / 4)
    assert expected["teacher"] == objective.codes.flops(16) > 0
    # nothing before the stem needs a gradient, so its backward is one forward instead of two
    first = objective.student.stem.local_flops(16)
    assert counter.get_total_flops() / 4 == pytest.approx(expected["total"] - first, rel=0.001)


def test_a_recipe_prepares_the_codes_that_it_learns() -> None:
    values = {"ingest": {"source": "anything"}, "prepare": {"store_px": 16}, "train": SMALL_BEIT}
    with pytest.raises(ConfigError, match=r"give prepare\.codebook the same sizes"):
        parse(VISION.recipe, values, at="vision")
    parse(VISION.recipe, values | {"prepare": {"store_px": 16, "codebook": SMALL_BEIT["codebook"]}}, at="vision")
