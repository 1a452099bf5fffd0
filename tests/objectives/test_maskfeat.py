"""MaskFeat: its head, what it sees and what counts, for images and for recordings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import parse
from d2v.data.batch import Batch
from d2v.errors import ConfigError
from d2v.modalities import registry
from d2v.modalities.vision.hog import hog_of_patches
from d2v.models.masking import Selected
from d2v.objectives.build import build_objective
from d2v.objectives.maskfeat import MaskFeat
from tests.objectives import test_wav2vec2
from tests.objectives.helpers import SMALL_MASKFEAT, batch, recipe

VISION, SPEECH = registry.get("vision"), registry.get("speech")
OF_SPEECH: dict[str, Any] = test_wav2vec2.SMALL | {"objective": {"name": "maskfeat"}, "descriptors": {"mels": 6}}


def build(layout: str = "vit", **changes: Any) -> MaskFeat:
    encoder = SMALL_MASKFEAT["encoder"] | {"layout": layout, "final_norm": layout == "data2vec2"}
    objective = build_objective(VISION, recipe(SMALL_MASKFEAT | {"encoder": encoder | changes}))
    assert isinstance(objective, MaskFeat)
    return objective


def build_for_speech(layout: str = "data2vec1") -> MaskFeat:
    values = OF_SPEECH | {"encoder": OF_SPEECH["encoder"] | {"layout": layout}}
    objective = build_objective(SPEECH, parse(SPEECH.train_config, values))
    assert isinstance(objective, MaskFeat)
    return objective


@pytest.mark.parametrize(("width", "parameters"), [(768, 83_052), (1024, 110_700)])
def test_the_head_has_the_papers_size(width: int, parameters: int) -> None:
    encoder = {"image_px": 224, "patch_px": 16, "width": width, "depth": 1, "heads": 16, "layout": "vit"}
    values = SMALL_MASKFEAT | {"encoder": encoder, "descriptors": {"cell_px": 8}}
    with torch.device("meta"):
        objective = build_objective(VISION, recipe(values))
    assert sum(parameter.numel() for parameter in objective.head[1].parameters()) == parameters


@pytest.mark.parametrize("layout", ["vit", "data2vec2", "beit"])
def test_the_loss_is_the_mean_square_at_masked_patches(layout: str) -> None:
    objective, whole = build(layout).eval(), batch(3)
    masks = objective.draw_masks(whole, 0, "cpu")
    local = objective.student.stem(whole.inputs)
    seen = torch.where(masks.is_masked.unsqueeze(-1), objective.mask_token, local)
    prediction = objective.head(objective.student.encode(seen).tokens)
    target = hog_of_patches(whole.inputs, objective.descriptors.make.keywords["config"], 4)
    squares = (prediction - target).square().mean(dim=-1)
    output = objective(whole, masks)
    torch.testing.assert_close(output.loss_sum, squares[masks.is_masked].sum())
    torch.testing.assert_close(objective.token_losses(whole, masks), squares[masks.is_masked].detach())
    torch.testing.assert_close(objective.visible_features(whole, masks), objective.student.encode(seen).tokens.detach())


def test_targets_of_recordings_are_log_energies_of_their_frames() -> None:
    """A tone that starts at a frame shows from there on in its band, and nowhere else."""
    objective = build_for_speech()
    waves = torch.zeros(1, 8000)
    waves[0, 4000:] = torch.sin(2 * torch.pi * 2000 * torch.arange(4000) / 16_000)
    (target_TP,) = objective.targets(waves)
    frames, step = objective.student.stem.num_tokens(waves), 200
    assert target_TP.shape == (frames, 6)
    silent = (4000 - 400) // step
    assert (target_TP[:silent] == target_TP[0, 0]).all()
    assert target_TP[4000 // step : -2].argmax(dim=1).unique().tolist() == [3], "2 kHz lies in the fourth of six bands"
    assert target_TP[4000 // step].max() > target_TP[0, 0] + 1.0


@pytest.mark.parametrize("layout", ["data2vec1", "data2vec2"])
def test_padding_changes_no_loss(layout: str) -> None:
    objective = build_for_speech(layout).double().eval()
    whole = test_wav2vec2.batch(3, lengths=torch.tensor([8000, 6100, 7000]))
    whole.inputs = whole.inputs.double()
    for row, length in enumerate(whole.lengths.tolist()):
        whole.inputs[row, length:] = 0.0
    together = objective(whole, objective.draw_masks(whole, 0, "cpu")).loss_sum
    alone = []
    for row, length in enumerate(whole.lengths.tolist()):
        ids = whole.sample_ids[row : row + 1]
        one = Batch(whole.inputs[row : row + 1, :length], ids, torch.zeros_like(ids), 0)
        alone.append(objective(one, objective.draw_masks(one, 0, "cpu")).loss_sum)
    torch.testing.assert_close(together, sum(alone), rtol=1e-9, atol=0)


def test_operations_are_those_that_run() -> None:
    for objective, whole, tokens, targets, first in (
        (build().train(), batch(4), 16, 0.0, 2.0 * 16 * 48 * 32),
        (build_for_speech().train(), test_wav2vec2.batch(), 39, 2.0 * 39 * 201 * 6, 2.0 * 1599 * 12 * 10),
    ):
        masks = objective.draw_masks(whole, 0, "cpu")
        with FlopCounterMode(display=False) as counter:
            objective(whole, masks).loss_sum.backward()
        scored = len(Selected.masked(masks).index) / len(whole.inputs)
        expected = objective.count_flops(tokens, scored)
        assert expected["teacher"] == targets
        # nothing before the first product needs a gradient; convolutions make a few outputs that no frame needs
        near = 0.001 if tokens == 16 else 0.035
        assert counter.get_total_flops() / len(whole.inputs) == pytest.approx(expected["total"] - first, rel=near)


def test_it_learns_orientations_of_waves() -> None:
    """Hidden parts of a wave have the orientation of those that show."""
    objective = build("data2vec2", width=64, heads=2)
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    always_the_mean = objective.targets(waves(200, 1000).inputs).var(dim=(0, 1)).mean().item()
    for update in range(100):
        whole = waves(16, update)
        masks = objective.draw_masks(whole, 0, "cpu")
        loss = objective(whole, masks).loss_sum / masks.count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5 * always_the_mean


@pytest.mark.parametrize(
    ("descriptors", "fix"),
    [({"cell_px": 3}, "set it to 2"), ({"cell_px": 2, "gaussian_window": 5}, "set it to 0")],
)
def test_cells_and_windows_that_do_not_fit_are_refused(descriptors: dict[str, int], fix: str) -> None:
    with pytest.raises(ConfigError, match=fix):
        recipe(SMALL_MASKFEAT | {"descriptors": descriptors})


def waves(samples: int, update: int) -> Batch:
    """Images of waves that run in random directions."""
    place = torch.arange(16) / 16
    angle = torch.rand(samples, 1, 1, generator=torch.Generator().manual_seed(update)) * torch.pi
    images = torch.sin(4 * torch.pi * (place[:, None] * angle.sin() + place[None] * angle.cos()))
    ids = torch.arange(samples)
    return Batch(images.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(), ids, torch.zeros_like(ids), update)
