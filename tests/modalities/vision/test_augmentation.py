import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment as timm_augment

from d2v.data.random import fold_in
from d2v.modalities.vision.augmentation import OPERATIONS, erase, rand_augment
from d2v.modalities.vision.config import RandAugmentConfig

FILL = (124, 116, 104)
TIMMS = dict(zip(OPERATIONS, timm_augment._RAND_INCREASING_TRANSFORMS, strict=True))
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


def keys(count: int) -> torch.Tensor:
    return fold_in(5, torch.arange(count))


def picture(side: int = 48) -> torch.Tensor:
    """(3, P, P) uint8, smooth."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    planes = [80 + 60 * torch.sin(x / 6.0), 120 + 50 * torch.cos(y / 7.0), 90 + x + y / 2.0]
    return torch.stack(planes).clamp(0, 255).to(torch.uint8)


def timms(name: str, image: torch.Tensor, strength: float, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """What timm's operation makes of it."""
    hparams = {"img_mean": FILL, "interpolation": Image.Resampling.BILINEAR}
    # "> 0.5" makes timm negate a level.
    monkeypatch.setattr(timm_augment.random, "random", lambda: 0.0 if strength > 0 else 1.0)
    operation = timm_augment.AugmentOp(TIMMS[name], prob=1.0, magnitude=10.0 * abs(strength), hparams=hparams)
    made = operation(Image.fromarray(image.permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(made)).permute(2, 0, 1)


@pytest.mark.parametrize("strength", [0.9, -0.9, 0.35, -0.35])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_timms(name: str, strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture()
    ours, theirs = OPERATIONS[name](image, strength, FILL), timms(name, image, strength, monkeypatch)
    assert ours.dtype == torch.uint8
    difference = (ours.int() - theirs.int()).abs()
    if name in GEOMETRIC:  # centres half a pixel apart, distances to whole pixels: seen at edges only
        assert float(difference.float().mean()) < 3.0
        assert float((image.int() - theirs.int()).abs().float().mean()) > 2.5 * float(difference.float().mean())
    elif name == "sharpness":  # Pillow leaves the border as it is
        assert int(difference[:, 1:-1, 1:-1].max()) <= 1
    else:
        assert int(difference.max()) <= 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_strength_is_allowed_to_fail(name: str) -> None:
    for strength in (0.0, 1e-3, 1.0, -1.0):
        assert OPERATIONS[name](picture(8), strength, FILL).shape == (3, 8, 8)


def test_images_are_changed_by_their_keys_alone() -> None:
    images = picture(16).expand(200, 3, 16, 16)
    config = RandAugmentConfig(operations=2)
    state = torch.get_rng_state()
    whole = rand_augment(images, keys(200), config, FILL)
    assert torch.equal(torch.get_rng_state(), state), "drew from torch's generator"
    assert torch.equal(rand_augment(images[:3], keys(200)[50:53], config, FILL), whole[50:53])
    changed = (whole != images).flatten(1).any(dim=1).float().mean()
    assert 0.6 < float(changed) < 0.8  # 1 - 0.5^2, less operations that leave this picture as it is
    assert len({tuple(one.flatten().tolist()) for one in whole}) > 60


def test_no_probability_changes_nothing() -> None:
    images = picture(16).expand(20, 3, 16, 16)
    config = RandAugmentConfig(operations=3, probability=0.0)
    assert torch.equal(rand_augment(images, keys(20), config, FILL), images)


def test_a_box_of_noise_is_put_into_some_images() -> None:
    images = torch.full((2000, 3, 32, 32), 7.0)
    out = erase(images, keys(2000), 0.25)
    is_new = (out != 7.0).all(dim=1)
    assert torch.equal(is_new, (out != 7.0).any(dim=1))
    areas = is_new.float().mean(dim=(1, 2))
    some = areas > 0
    assert float(some.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert 0.015 < float(areas[some].min()) < 0.03
    assert 0.28 < float(areas[some].max()) < 0.35
    rows, columns = is_new.any(dim=2).sum(dim=1), is_new.any(dim=1).sum(dim=1)
    assert torch.equal(is_new.sum(dim=(1, 2)), rows * columns), "not a box"
    noise = out[is_new[:, None].expand_as(out)]
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.02)


def test_a_box_depends_on_its_key_alone() -> None:
    images = torch.zeros(40, 3, 16, 16)
    whole = erase(images, keys(40), 1.0)
    assert torch.equal(erase(images[:2], keys(40)[9:11], 1.0), whole[9:11])
    assert torch.equal(images, torch.zeros(40, 3, 16, 16)), "changed what it was given"


def test_no_box_at_no_probability() -> None:
    images = torch.randn(5, 3, 16, 16)
    assert torch.equal(erase(images, keys(5), 0.0), images)
