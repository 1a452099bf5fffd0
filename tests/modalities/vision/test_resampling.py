import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as tv

from d2v.data.random import fold_in
from d2v.modalities.vision.resampling import Crops, draw_crops, jitter_colours, resample


def images(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, side, side, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def keys(count: int, seed: int = 0) -> torch.Tensor:
    return fold_in(seed, torch.arange(count))


def boxes(*rows) -> Crops:
    top, left, height, width, flip = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Crops(top, left, height, width, flip.bool())


@pytest.mark.parametrize("out_px", [8, 32, 45])
def test_equals_torchs_antialiased_bicubic(out_px):
    pictures = images(4, 32)
    crops = boxes((0, 0, 32, 32, 0), (3, 5, 20, 27, 1), (10, 0, 9, 16, 0), (31, 31, 1, 1, 0))
    ours = resample(pictures, crops, out_px)
    for n in range(4):
        top, left, height, width = (int(side[n]) for side in (crops.top, crops.left, crops.height, crops.width))
        box = pictures[n, top : top + height, left : left + width].permute(2, 0, 1)[None].float()
        expected = interpolate(box, (out_px, out_px), mode="bicubic", antialias=True)[0].clamp(0, 255)
        expected = expected.flip(2) if crops.flip[n] else expected
        torch.testing.assert_close(ours[n], expected, atol=2e-3, rtol=0)


def test_the_whole_image_at_its_own_size_is_unchanged():
    pictures = images(2, 16)
    whole = resample(pictures, boxes((0, 0, 16, 16, 0), (0, 0, 16, 16, 0)), 16)
    torch.testing.assert_close(whole, pictures.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_crops_are_inside_and_have_the_asked_areas_and_aspects():
    side = torch.full((4000,), 200)
    crops = draw_crops(keys(4000), side, side, (0.2, 1.0), 0.5)
    assert (crops.top >= 0).all()
    assert (crops.top + crops.height <= 200).all()
    assert (crops.left + crops.width <= 200).all()
    area = crops.height * crops.width / 200**2
    assert 0.19 < float(area.min()) < 0.22
    assert float(area.max()) > 0.95
    aspect = crops.width / crops.height
    assert float(aspect.min()) > 0.74
    assert float(aspect.max()) < 1.35
    assert float(crops.flip.float().mean()) == pytest.approx(0.5, abs=0.03)


def test_crops_of_images_of_any_shape_fall_back_to_the_centre():
    heights, widths = torch.tensor([10, 300, 64]), torch.tensor([300, 10, 64])
    crops = draw_crops(keys(3), heights, widths, (1.0, 1.0), 0.0)
    assert (crops.height <= heights).all()
    assert (crops.width <= widths).all()
    assert crops.width[0] == 13  # 10 px high, aspect at most 4/3
    assert crops.left[0] == (300 - 13) // 2


def test_a_crop_depends_on_its_key_alone():
    side = torch.full((50,), 40)
    whole, part = (
        draw_crops(keys(50), side, side, (0.2, 1.0), 0.5),
        draw_crops(keys(50)[7:9], side[:2], side[:2], (0.2, 1.0), 0.5),
    )
    for name in ("top", "left", "height", "width", "flip"):
        assert torch.equal(getattr(whole, name)[7:9], getattr(part, name))


def test_jitter_equals_torchvisions_with_the_same_factors():
    pictures = images(1, 8).permute(0, 3, 1, 2).float()
    from d2v.data.random import uniform

    factors = (1 + 0.4 * (2 * uniform(keys(1), 3) - 1))[0].tolist()
    expected = tv.adjust_brightness(pictures / 255, factors[0])
    expected = tv.adjust_saturation(tv.adjust_contrast(expected, factors[1]), factors[2])
    torch.testing.assert_close(jitter_colours(pictures, keys(1), 0.4) / 255, expected, atol=2e-4, rtol=0)
