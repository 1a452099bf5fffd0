"""Embedded corpora: images made from files that ship inside our dependencies, without a download.

`glyphs` draws letters and digits from the fonts that matplotlib ships (random font, size, position, rotation, shear,
colour and noise) over random crops of scikit-learn's two photographs. Image `i` of a split is a pure function of
(options, seed, split, i): numpy's Philox generator is keyed by (seed, i), so a restart in the middle or another chunk
size gives the same bytes. `digits` is scikit-learn's 1,797 scanned digits, enlarged.

Shape legend: N images, P pixels on a side, A pixels on a side of an atlas cell.
"""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, model_validator

from d2v.config import Block, Fraction, NonNegativeInt, PositiveInt, parse
from d2v.errors import ConfigError

Split = Literal["train", "test"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Floats = NDArray[np.float32]

# Text fonts with Latin letters and digits at their usual code points; symbol and display fonts are left out.
TEXT_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10", "cmti10"),
)
CHUNK_IMAGES = 256
RASTER_PX = 160
MARGIN_PX = 2  # empty border of an atlas cell: what is sampled outside the glyph is 0
LEVEL_RATIO = 2**0.5  # glyph sizes of the atlas; the warp then scales by at most 1.19 and needs no further antialiasing
TEST_STREAM = 2**40  # first counter of the test split: it does not move when `count` changes
PHOTO_REDUCTIONS = (1, 2, 4)
COLOUR_CANDIDATES = 8
DRAWS = 12 + 3 * COLOUR_CANDIDATES
ITALIC, ITALIC_LEAN, SLANTED = ("Oblique", "Ital", "BolIta", "cmti"), 0.2, 0.1
"""Names of slanted fonts, about how far they lean to the right, and from where on a glyph is called slanted, in rad."""
DARK, BRIGHT = 80.0, 130.0
"""Mean grey levels of a photograph that is called dark below, and bright above."""
HUES = (
    *((15.0, "red"), (45.0, "orange"), (70.0, "yellow"), (165.0, "green"), (200.0, "turquoise"), (255.0, "blue")),
    *((290.0, "purple"), (345.0, "pink"), (360.0, "red")),
)
"""Where a colour ends on the circle, in degrees, and its name."""


class GlyphOptions(Block):
    """What the `glyphs` corpus looks like. Fractions of size and shift are of the side of the image."""

    count: PositiveInt = Field(12_000, description="images of the train split")
    test_count: NonNegativeInt = 2_000
    characters: Annotated[str, Field(min_length=1)] = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ"
    fonts: tuple[str, ...] = TEXT_FONTS
    px: Annotated[int, Field(ge=8, le=128)] = 32
    min_size: Annotated[float, Field(gt=0.1, le=1.0)] = 0.55
    max_size: Annotated[float, Field(gt=0.1, le=1.0)] = 0.9
    max_shift: Fraction = 0.12
    max_rotation_deg: Annotated[float, Field(ge=0.0, le=180.0)] = 15.0
    max_shear: Annotated[float, Field(ge=0.0, le=1.0)] = 0.15
    contrast: Annotated[float, Field(ge=0.0, le=255.0)] = Field(
        96.0, description="least RGB distance of glyph and mean background"
    )
    background: Fraction = Field(1.0, description="contrast of the photograph behind; 0 is its mean colour")
    noise_std: Annotated[float, Field(ge=0.0, le=255.0)] = Field(8.0, description="Gaussian noise in grey levels")
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _options_fit(self) -> GlyphOptions:
        if self.min_size > self.max_size:
            raise ValueError(f"min_size {self.min_size} is above max_size {self.max_size}: lower min_size")
        if len(set(self.characters)) < len(self.characters):
            raise ValueError(f"characters {self.characters!r} repeats a character: name each once")
        unknown = sorted(set(self.fonts) - set(TEXT_FONTS))
        if unknown or not self.fonts:
            raise ValueError(f"fonts {unknown or 'is empty'}: choose from {', '.join(TEXT_FONTS)}")
        return self


class DigitOptions(Block):
    """Options of the `digits` corpus; every sixth image is of the test split."""

    px: Annotated[int, Field(ge=8, le=256)] = 32


def glyph_arrays(options: GlyphOptions | Mapping[str, Any], split: Split = "train") -> tuple[Images, Labels, list[str]]:
    """All images of one split of `glyphs`, in memory.

    Returns:
        images uint8 (N, P, P, 3), labels int64 (N,), class names (label -> character).

    Raises:
        ConfigError: unknown or impossible options.

    Example:
        >>> images, labels, names = glyph_arrays({"count": 4, "px": 16})
        >>> images.shape
        (4, 16, 16, 3)
    """
    options = options if isinstance(options, GlyphOptions) else parse(GlyphOptions, options, at="options")
    count = options.count if split == "train" else options.test_count
    images = np.empty((count, options.px, options.px, 3), np.uint8)
    for start in range(0, count, CHUNK_IMAGES):
        stop = min(start + CHUNK_IMAGES, count)
        images[start:stop] = draw_glyphs(options, split, start, stop)
    return images, glyph_labels(options, 0, count), list(options.characters)


def glyph_labels(options: GlyphOptions, start: int, stop: int) -> Labels:
    """Labels (N,) of images `start` to `stop` of a split: the classes take turns, so every split is balanced."""
    return np.arange(start, stop, dtype=np.int64) % len(options.characters)


def draw_glyphs(options: GlyphOptions, split: Split, start: int, stop: int) -> Images:
    """Images `start` to `stop` of a split, uint8 (N, P, P, 3); each depends on its own index alone."""
    first = start + (TEST_STREAM if split == "test" else 0)
    draws, noise = _draw_numbers(options, first, stop - start)
    backgrounds = _backgrounds(options, draws[:, 0:5])
    coverage = _warp(options, glyph_labels(options, start, stop), draws[:, 5:12])[..., None]
    colours = _colours(backgrounds, draws[:, 12:].reshape(len(draws), COLOUR_CANDIDATES, 3), options.contrast)
    images = backgrounds + coverage * (colours[:, None, None, :] - backgrounds) + noise
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def glyph_captions(options: GlyphOptions, split: Split, start: int, stop: int) -> list[str]:
    """What the generator knows of images `start` to `stop` of a split, in words: weight, slant, colour, character, and
    whether the photograph behind is dark or bright.

    Example:
        >>> glyph_captions(GlyphOptions(), "train", 11, 12)
        ['a bold slanted blue letter B on a bright photograph']
    """
    first = start + (TEST_STREAM if split == "test" else 0)
    draws = np.empty((stop - start, DRAWS), np.float32)
    for row in range(stop - start):
        _generator(options, first + row).random(out=draws[row], dtype=np.float32)
    backgrounds = _backgrounds(options, draws[:, 0:5])
    colours = _colours(backgrounds, draws[:, 12:].reshape(len(draws), COLOUR_CANDIDATES, 3), options.contrast)
    brightness = backgrounds.mean(axis=(1, 2, 3))
    fonts = [options.fonts[int(one * len(options.fonts))] for one in draws[:, 5].tolist()]
    lean = np.deg2rad(options.max_rotation_deg) * (2 * draws[:, 7] - 1) + options.max_shear * (2 * draws[:, 8] - 1)
    labels = glyph_labels(options, start, stop).tolist()
    return [
        _caption(options.characters[label], font, colour, float(leans), float(bright))
        for label, font, colour, leans, bright in zip(labels, fonts, colours, lean, brightness, strict=True)
    ]


def _caption(character: str, font: str, colour: Floats, lean: float, brightness: float) -> str:
    leans = lean + (ITALIC_LEAN if any(one in font for one in ITALIC) else 0.0)
    weight = ["bold"] if "Bol" in font or font == "cmb10" else []
    slant = ["slanted"] if abs(leans) > SLANTED else []
    behind = ["dark"] if brightness < DARK else ["bright"] if brightness > BRIGHT else []
    kind = "digit" if character.isdigit() else "letter"
    words = [*weight, *slant, colour_name(colour), kind, character, "on a", *behind, "photograph"]
    return " ".join(["an" if words[0] == "orange" else "a", *words])


def colour_name(colour: Floats) -> str:
    """One of the eleven basic colours of English for RGB (3,) in grey levels."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(one) / 255.0 for one in colour))
    if value < 0.2:
        return "black"
    if saturation < 0.2:
        return "white" if value > 0.8 else "grey"
    name = HUES[int(np.searchsorted([end for end, _ in HUES], 360.0 * hue, side="right")) % len(HUES)][1]
    if name == "orange" and value < 0.65:
        return "brown"
    return "pink" if name == "red" and saturation < 0.55 and value > 0.65 else name


def digit_arrays(options: DigitOptions | Mapping[str, Any], split: Split = "train") -> tuple[Images, Labels, list[str]]:
    """One split of scikit-learn's digits: images uint8 (N, P, P, 3), labels int64 (N,), class names."""
    from sklearn.datasets import load_digits  # imported late: a second of start-up that other sources do not need

    options = options if isinstance(options, DigitOptions) else parse(DigitOptions, options, at="options")
    digits = load_digits()
    rows = np.flatnonzero((np.arange(len(digits.images)) % 6 == 5) == (split == "test"))
    grey = np.rint(digits.images[rows] * (255.0 / 16.0)).astype(np.uint8)
    size = (options.px, options.px)
    enlarged = np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BICUBIC)) for one in grey])
    return np.repeat(enlarged[..., None], 3, axis=-1), digits.target[rows].astype(np.int64), list("0123456789")


def iterate_glyphs(options: GlyphOptions, split: Split) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Images and labels of one split, one at a time, in constant memory."""
    count = options.count if split == "train" else options.test_count
    for start in range(0, count, CHUNK_IMAGES):
        stop = min(start + CHUNK_IMAGES, count)
        labels = glyph_labels(options, start, stop)
        yield from zip(draw_glyphs(options, split, start, stop), labels.tolist(), strict=True)


# ------------------------------------------------------------------------------------------- drawing


def _draw_numbers(options: GlyphOptions, first: int, count: int) -> tuple[Floats, Floats]:
    """Uniform draws (N, DRAWS) and pixel noise (N, P, P, 3) in grey levels, each row from its own key."""
    draws = np.empty((count, DRAWS), np.float32)
    noise = np.zeros((count, options.px, options.px, 3), np.float32)
    for row in range(count):
        generator = _generator(options, first + row)
        generator.random(out=draws[row], dtype=np.float32)
        if options.noise_std:
            generator.standard_normal(out=noise[row], dtype=np.float32)
    noise *= np.float32(options.noise_std)
    return draws, noise


def _generator(options: GlyphOptions, counter: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[options.seed, counter]))


def _backgrounds(options: GlyphOptions, draws: Floats) -> Floats:
    """Random crops of the photographs, float32 (N, P, P, 3) in grey levels."""
    px = options.px
    pyramid = [photo for photo in _photographs() if min(photo.shape[:2]) >= px]
    crops = np.empty((len(draws), px, px, 3), np.float32)
    for row, (which, at_y, at_x, flip, gain) in enumerate(draws.tolist()):
        photo = pyramid[int(which * len(pyramid))]
        top, left = int(at_y * (photo.shape[0] - px + 1)), int(at_x * (photo.shape[1] - px + 1))
        crop = photo[top : top + px, left : left + px]
        crops[row] = (crop[:, ::-1] if flip < 0.5 else crop) * (0.6 + 0.4 * gain)
    mean = crops.mean(axis=(1, 2), keepdims=True)
    return mean + np.float32(options.background) * (crops - mean)


def _colours(backgrounds: Floats, candidates: Floats, contrast: float) -> Floats:
    """Glyph colours (N, 3): the first candidate that is `contrast` away from the mean background, or the farthest."""
    mean = backgrounds.mean(axis=(1, 2))
    colours = candidates * np.float32(255.0)
    distance = np.linalg.norm(colours - mean[:, None, :], axis=-1)
    chosen = np.where(
        (distance >= contrast).any(axis=1), (distance >= contrast).argmax(axis=1), distance.argmax(axis=1)
    )
    return colours[np.arange(len(colours)), chosen]


def _warp(options: GlyphOptions, labels: Labels, draws: Floats) -> Floats:
    """Coverage (N, P, P) in 0..1 of rotated, sheared, shifted and scaled glyphs, sampled bilinearly from the atlas."""
    atlas = _atlas(options.characters, options.fonts, options.px, options.min_size, options.max_size)
    font = (draws[:, 0] * len(options.fonts)).astype(np.int64)
    size_px = options.px * (options.min_size + draws[:, 1] * (options.max_size - options.min_size))
    angle = np.deg2rad(options.max_rotation_deg) * (2 * draws[:, 2] - 1)
    shear = options.max_shear * (2 * draws[:, 3] - 1)
    shift = options.px * options.max_shift * (2 * draws[:, 4:6] - 1)
    level = np.abs(np.log(atlas.sizes_px[None, :] / size_px[:, None])).argmin(axis=1)
    scale = (atlas.sizes_px[level] / size_px).astype(np.float32)

    axis = np.arange(options.px, dtype=np.float32) - np.float32((options.px - 1) / 2)
    dx = axis[None, None, :] - shift[:, 0, None, None]
    dy = axis[None, :, None] - shift[:, 1, None, None]
    cos, sin = (scale * np.cos(angle))[:, None, None], (scale * np.sin(angle))[:, None, None]
    v = cos * dy - sin * dx
    u = cos * dx + sin * dy + shear[:, None, None] * v
    cell = (level * len(options.fonts) + font) * len(options.characters) + labels
    return _sample(atlas.cells, cell, u, v)


def _sample(cells: Floats, cell: NDArray[np.int64], u: Floats, v: Floats) -> Floats:
    """Bilinear samples of cells[cell] (A, A) at offsets (u right, v down) from the centre of the cell."""
    side = cells.shape[-1]
    x = np.clip(u + np.float32((side - 1) / 2), 0, side - 1.001)
    y = np.clip(v + np.float32((side - 1) / 2), 0, side - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    flat = cells.reshape(-1)
    at = (cell * side * side)[:, None, None] + (top * side + left)
    upper = flat[at] * (1 - x) + flat[at + 1] * x
    lower = flat[at + side] * (1 - x) + flat[at + side + 1] * x
    return upper * (1 - y) + lower * y


# --------------------------------------------------------------------------------------------- atlas


@dataclass(frozen=True)
class _Atlas:
    cells: Floats  # (levels * fonts * characters, A, A), coverage 0..1, glyph centred
    sizes_px: Floats  # (levels,) longer side of a glyph at each level


@functools.lru_cache(maxsize=4)
def _atlas(characters: str, fonts: tuple[str, ...], px: int, min_size: float, max_size: float) -> _Atlas:
    """Every character of every font at sizes a factor LEVEL_RATIO apart."""
    sizes = [px * max_size]
    while sizes[-1] / LEVEL_RATIO**0.5 > px * min_size:
        sizes.append(sizes[-1] / LEVEL_RATIO)
    sizes_px = [max(round(size), 2) for size in sizes]
    side = max(sizes_px) + 2 * MARGIN_PX
    rasters = [_raster(font, character) for font in fonts for character in characters]
    cells = [_centred(raster, size, side) for size in sizes_px for raster in rasters]
    return _Atlas(np.stack(cells), np.asarray(sizes_px, np.float32))


def _raster(font_name: str, character: str) -> Image.Image:
    """One glyph, large, cut to its ink."""
    import matplotlib  # imported late: 0.2 s, only to find its fonts

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font_name}.ttf"), RASTER_PX)
    canvas = Image.new("L", (3 * RASTER_PX, 3 * RASTER_PX))
    ImageDraw.Draw(canvas).text((RASTER_PX, RASTER_PX // 2), character, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        raise ConfigError(
            f"Font {font_name} has no ink for the character {character!r}: take it out of ingest.options.characters, "
            "or the font out of ingest.options.fonts."
        )
    return canvas.crop(box)


def _centred(raster: Image.Image, size_px: int, side: int) -> Floats:
    """The glyph with its longer side `size_px`, in the middle of an empty (side, side) cell."""
    ratio = size_px / max(raster.size)
    small = raster.resize(
        (max(round(raster.width * ratio), 1), max(round(raster.height * ratio), 1)), Image.Resampling.BOX
    )
    cell = Image.new("L", (side, side))
    cell.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(cell, np.float32) / np.float32(255.0)


@functools.lru_cache(maxsize=1)
def _photographs() -> tuple[Floats, ...]:
    """scikit-learn's photographs, each at several reductions, float32 (H, W, 3) in grey levels."""
    from sklearn.datasets import load_sample_images  # imported late: see digit_arrays

    photographs = [Image.fromarray(photo) for photo in load_sample_images().images]
    return tuple(np.asarray(photo.reduce(by), np.float32) for by in PHOTO_REDUCTIONS for photo in photographs)
