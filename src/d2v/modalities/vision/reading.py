"""From an image file or array to what the corpus stores, or a reason why not (`read_image`); and from there to pixels
(`decode`).

Plain 8-bit JPEG and PNG files keep their bytes; everything that had to be changed is stored as PNG.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from d2v.data.ingest import Record, Rejected
from d2v.modalities.vision.config import VisionIngestConfig

Image.MAX_IMAGE_PIXELS = None  # our own max_pixels is compared with the header before anything is decoded

KEPT_FORMATS, KEPT_MODES = ("JPEG", "PNG"), ("RGB", "L")
FACTS = ("width", "height")
WHITE = (255, 255, 255, 255)
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError)
"""What Pillow's decoders raise on damaged files."""


def read_image(data: bytes | np.ndarray, config: VisionIngestConfig) -> Record:
    """Decode one image fully to check it, and return what the corpus stores of it: a file, not pixels.

    Args:
        data: an encoded file, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, bool, or
            float in [0, 1].
        config: limits.

    Raises:
        Rejected: with the reason.
    """
    notes: list[str] = []
    if isinstance(data, np.ndarray):
        image, keep = _from_array(data), False
        _check_size(image, config)
    else:
        image, keep = _from_file(data, config, notes)
    rgb = _to_eight_bit(image, notes)
    stored = data if keep and not notes and isinstance(data, bytes) else _png(rgb)
    return Record(stored, {"width": rgb.width, "height": rgb.height}, ", ".join(notes))


def decode(data: bytes) -> np.ndarray:
    """A stored image as (H, W, 3) uint8. Prepare and `d2v.load` call it; training does only where the prepared store
    holds files (`prepare.storage: jpeg`)."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_file(data: bytes, config: VisionIngestConfig, notes: list[str]) -> tuple[Image.Image, bool]:
    """(decoded image, whether the bytes could be kept); adds to `notes` what was done to it."""
    if not data:
        raise Rejected("the file is empty")
    if len(data) > config.max_item_bytes:
        raise Rejected(f"the file has {len(data):,} bytes, above max_item_bytes {config.max_item_bytes:,}")
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise Rejected("it is not an image") from None
    except DECODE_ERRORS as error:
        raise Rejected(f"the image header is damaged: {error}") from None
    _check_size(image, config)
    keep = image.format in KEPT_FORMATS and image.mode in KEPT_MODES
    try:
        if getattr(image, "n_frames", 1) > 1:
            notes.append("first frame of an animation")
            image.seek(0)
        image.load()
        turned = ImageOps.exif_transpose(image)
    except DECODE_ERRORS as error:
        raise Rejected(f"the image is truncated or corrupt: {error}") from None
    if image.getexif().get(0x0112, 1) not in (0, 1):
        notes.append("turned by its EXIF orientation")
    return turned, keep


def _check_size(image: Image.Image, config: VisionIngestConfig) -> None:
    width, height = image.size
    if width * height > config.max_pixels:
        raise Rejected(f"{width} x {height} px is above max_pixels {config.max_pixels:,}")
    if min(width, height) < config.min_side_px:
        raise Rejected(f"{width} x {height} px: the smaller side is below min_side_px {config.min_side_px}")


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or 0 in array.shape:
        raise Rejected(f"an array of shape {array.shape} is not an image")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = np.rint(array / 257.0).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        array = _from_unit_range(array)
    elif array.dtype != np.uint8:
        raise Rejected(f"pixels of type {array.dtype} have no known range")
    return Image.fromarray(np.ascontiguousarray(array))


def _from_unit_range(array: np.ndarray) -> np.ndarray:
    if not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
        raise Rejected("floating point pixels are not all between 0 and 1")
    return np.rint(array * 255.0).astype(np.uint8)


def _to_eight_bit(image: Image.Image, notes: list[str]) -> Image.Image:
    """RGB or L with 8 bits; notes what was done."""
    mode = image.mode
    if mode in KEPT_MODES:
        return image
    if mode in ("1",):
        return image.convert("L")
    if mode.startswith("I") or mode == "F":
        notes.append("reduced to 8 bits")
        return _reduce(np.asarray(image))
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{mode} to RGB")
        return image.convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        notes.append("transparency on white")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _reduce(array: np.ndarray) -> Image.Image:
    """16-bit integers, or floats in [0, 1], to 8 bits."""
    if np.issubdtype(array.dtype, np.floating):
        return Image.fromarray(_from_unit_range(array))
    if array.min() < 0 or array.max() > 65535:
        raise Rejected("integer pixels beyond 16 bits have no known range")
    return Image.fromarray(np.rint(array / 257.0).astype(np.uint8))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
