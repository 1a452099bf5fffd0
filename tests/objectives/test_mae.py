"""Masked autoencoders: patches, what is encoded and what counts, and the reference's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from d2v.config import MaeConfig
from d2v.data.batch import Batch
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionEncoderConfig
from d2v.modalities.vision.encoder import SincosStem, sincos_positions
from d2v.modalities.vision.modality import cut_patches
from d2v.model_folder import load_state
from d2v.models.blocks import VitBlock
from d2v.models.decoders import VIT_NORM_EPS
from d2v.models.encoder import Encoder
from d2v.objectives.build import build_objective
from d2v.objectives.mae import Mae
from tests.interchange.parity import DOUBLE, SINGLE, Golden, Precision, assert_close
from tests.objectives.helpers import SMALL_MAE, batch, recipe

VISION = registry.get("vision")


def build(**changes: object) -> Mae:
    values = SMALL_MAE | {"objective": SMALL_MAE["objective"] | changes}
    objective = build_objective(VISION, recipe(values))
    assert isinstance(objective, Mae)
    return objective


def test_patches_are_the_image_row_by_row() -> None:
    images = torch.arange(2 * 3 * 6 * 6).view(2, 3, 6, 6)
    patches = cut_patches(images, 2)
    assert patches.shape == (2, 9, 12)
    assert patches[1, 5].view(2, 2, 3).permute(2, 0, 1).tolist() == images[1, :, 2:4, 4:6].tolist()


def test_targets_are_standardised_patch_by_patch() -> None:
    target = build().targets(batch(3).inputs)
    torch.testing.assert_close(target.mean(dim=-1), torch.zeros(3, 16), atol=1e-6, rtol=0)
    torch.testing.assert_close(target.std(dim=-1), torch.ones(3, 16), atol=1e-4, rtol=0)
    assert torch.equal(build(normalise_targets=False).targets(batch(3).inputs), cut_patches(batch(3).inputs, 4))
    assert torch.isfinite(build().targets(torch.ones(1, 3, 16, 16))).all(), "a patch of one colour has no variance"


def test_only_hidden_patches_count() -> None:
    objective, whole = build().eval(), batch(3)
    masks = objective.draw_masks(whole, 0, "cpu")
    assert masks.is_masked.sum(dim=1).tolist() == [12] * 3
    before, target = objective(whole, masks).loss_sum, objective.targets(whole.inputs)
    objective.targets = lambda inputs: target + 9.0 * ~masks.is_masked.unsqueeze(-1)
    assert torch.equal(objective(whole, masks).loss_sum, before)
    objective.targets = lambda inputs: target + 9.0 * masks.is_masked.unsqueeze(-1)
    assert not torch.equal(objective(whole, masks).loss_sum, before)


def test_blocks_of_one_patch_are_random_masks() -> None:
    """Every patch, and every pair of neighbours, is hidden as often as when 12 of 16 are drawn without replacement."""
    hidden = build().draw_masks(Batch(torch.empty(0), torch.arange(4000), torch.zeros(4000), 0), 0, "cpu")
    often = hidden.is_masked.float()
    torch.testing.assert_close(often.mean(dim=0), torch.full((16,), 12 / 16), rtol=0, atol=0.03)
    pairs = (often[:, :-1] * often[:, 1:]).mean(dim=0)
    torch.testing.assert_close(pairs, torch.full((15,), 12 / 16 * 11 / 15), rtol=0, atol=0.035)


def test_a_perfect_prediction_costs_nothing_and_none_costs_the_variance() -> None:
    objective, whole = build().eval(), batch(3)
    masks = objective.draw_masks(whole, 0, "cpu")
    wanted = objective.targets(whole.inputs)[masks.is_masked]
    objective.predict = lambda filled: wanted
    assert float(objective(whole, masks).loss_sum) == 0.0
    objective.predict = lambda filled: torch.zeros_like(wanted)
    assert float(objective(whole, masks).loss_sum / masks.count) == pytest.approx(47 / 48, rel=1e-4)


def test_it_learns_to_go_on_with_waves() -> None:
    """Hidden parts of a wave follow from those that show; with new waves and masks, nothing is known by heart."""
    objective = build(decoder={"layers": 2, "width": 64, "heads": 2})
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for update in range(220):
        whole = waves(16, update)
        masks = objective.draw_masks(whole, 0, "cpu")
        loss = objective(whole, masks).loss_sum / masks.count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[:3]) / 3 > 0.9
    assert sum(losses[-3:]) / 3 < 0.6


def waves(samples: int, update: int) -> Batch:
    """Images of diagonal waves of one length, with random phases."""
    place = torch.arange(16) / 16
    phase = torch.rand(samples, 1, 1, generator=torch.Generator().manual_seed(update))
    images = torch.sin(2 * torch.pi * (place[:, None] + place[None] + phase))
    ids = torch.arange(samples)
    return Batch(images.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(), ids, torch.zeros_like(ids), update)


def test_operations_are_those_that_run() -> None:
    objective, whole = build().train(), batch(4)
    masks = objective.draw_masks(whole, 0, "cpu")
    with FlopCounterMode(display=False) as counter:
        objective(whole, masks).loss_sum.backward()
    # nothing before the stem needs a gradient, so its backward is one forward instead of two
    expected = objective.flops_per_sample(16)["total"] - objective.student.stem.local_flops(16)
    assert counter.get_total_flops() / 4 == pytest.approx(expected, rel=0.01)


# ------------------------------------------------------------------------------------------------- parity


@pytest.fixture(scope="module", params=[SINGLE, DOUBLE], ids=["float32", "float64"])
def golden(request: pytest.FixtureRequest, shared_goldens: Path) -> Golden:
    return Golden(shared_goldens, "mae", request.param)


@pytest.fixture(scope="module")
def reference(golden: Golden, shared_goldens: Path) -> Mae:
    """The reference's model: its encoder, an original ViT with the same positions as ours, and our decoder."""
    sizes = {"image_px": 32, "patch_px": 4, "width": 32, "depth": 2, "heads": 4}
    values = SMALL_MAE | {
        "encoder": sizes,
        "mask": {"kind": "block", "ratio": 0.75, "block": 1},
        "objective": {"name": "mae", "decoder": {"layers": 2, "width": 24, "heads": 4}},
    }
    built = build_objective(VISION, recipe(values))
    assert isinstance(built, Mae)
    blocks = torch.nn.ModuleList(VitBlock(32, 4, 4.0, VIT_NORM_EPS) for _ in range(2))
    norm = torch.nn.LayerNorm(32, eps=VIT_NORM_EPS)
    student = Encoder(SincosStem(VisionEncoderConfig(**sizes)), blocks, 32, extra_tokens=1, final_norm=norm)
    config = MaeConfig(name="mae", decoder=built.config.decoder)
    objective = Mae(config, student, 64, built.patches, built.num_masked, lambda *_: None)
    state = load_file(shared_goldens / "mae.state.safetensors")
    load_state(objective, {ours(name): _part(name, value) for name, value in state.items()}, "mae")
    return objective.to(golden.precision.dtype)


def ours(name: str) -> str:
    """Our name of a reference parameter."""
    if name.startswith("decoder_"):
        name = name.removeprefix("decoder_").replace("pos_embed", "positions").replace("pred.", "projection.")
        return f"decoder.{name}"
    if name == "mask_token":
        return "decoder.mask_token"
    for theirs, mine in (
        ("cls_token", "extra_tokens"),
        ("pos_embed", "stem.positions"),
        ("patch_embed.", "stem.local."),
    ):
        name = name.replace(theirs, mine)
    return f"student.{name.replace('norm.', 'final_norm.') if name.startswith('norm.') else name}"


def _part(name: str, value: Tensor) -> Tensor:
    """Positions without the zeros of the CLS token."""
    return value[:, 1:] if name.endswith("pos_embed") else value


@pytest.mark.goldens
def test_positions_are_the_reference_s(shared_goldens: Path) -> None:
    state = load_file(shared_goldens / "mae.state.safetensors")
    for name, width in (("pos_embed", 32), ("decoder_pos_embed", 24)):
        assert (state[name][:, 0] == 0.0).all()
        torch.testing.assert_close(sincos_positions(width, 8), state[name][:, 1:], rtol=0, atol=1e-6)


@pytest.mark.goldens
def test_forward_loss_and_gradients_are_the_reference_s(golden: Golden, reference: Mae) -> None:
    whole, masks = golden.batch(), golden.masks(1)
    golden.close(reference.patches.cut(whole.inputs), "target")
    encoded = reference.student.encode(reference.student.stem(whole.inputs), None, masks)
    order = golden["noise"].argsort(dim=1)[:, :16].argsort(dim=1)  # theirs: in the order of the noise
    latent = golden["latent_f64"][:, 1:].gather(1, order.unsqueeze(-1).expand(-1, -1, 32))
    assert_close(encoded.tokens, latent, golden.precision.tolerance)
    filled = reference.decoder(encoded.tokens, encoded.extra, masks.visible().flatten(0, 1))
    golden.close(reference.predict(filled), "pred")

    output = reference(whole, masks)
    assert int(masks.count) == int(golden["sample_size"])
    golden.close(output.loss_sum, "loss_sum")
    reference.zero_grad()
    (output.loss_sum / masks.count).backward()
    _check_norms(golden, golden.precision, reference)


def _check_norms(golden: Golden, precision: Precision, objective: Mae) -> None:
    """The gradient of every parameter is as long as the reference's, and there are no others."""
    names = [ours(str(name)) for name in golden.arrays["grad_names"]]
    gradients = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    assert set(names) == set(gradients)
    norms = torch.stack([gradients[name].double().norm() for name in names])
    floor = precision.gradient_floor * float(golden["grad_global_norm"])
    torch.testing.assert_close(norms, golden["grad_norms_f64"], rtol=precision.tolerance, atol=floor)
