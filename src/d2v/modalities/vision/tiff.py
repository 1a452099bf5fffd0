"""TIFF images with samples of other widths than 8 bits, which Pillow scales, inverts or parts wrongly.

Samples are read by tifffile. Unsigned ones of b bits reach from 0 to 2^b - 1, and floats from 0 to 1. Where white is
zero (PhotometricInterpretation 0), they are inverted.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2v.data.ingest import Rejected
from d2v.modalities.vision.pixels import eight_bit, from_sixteen_bit

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
ASSOCIATED = 1
"""Kind of extra sample that is opacity, by which the colours are multiplied already."""


def is_tiff(data: bytes) -> bool:
    """Whether a file begins as TIFF or BigTIFF."""
    return data.startswith(MAGIC)


def read_tiff(
    data: bytes, max_pixels: int, bits: int | None = None, notes: list[str] | None = None
) -> NDArray[np.uint8] | None:
    """The first page as uint8 (H, W), (H, W, 3) or (H, W, 4) with opacity last; None if Pillow reads its form rightly.

    Args:
        data: the file.
        max_pixels: larger pages are not decoded.
        bits: significant bits of 16-bit samples, if they are fewer.
        notes: what is to be said of the page is added.

    Raises:
        Rejected: samples without a known range, more channels than an image has, or a damaged file.
    """
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page: Any = file.pages[0]
            if _pillow_is_right(page):
                return None
            if page.imagewidth * page.imagelength > max_pixels:
                raise Rejected(f"{page.imagewidth} x {page.imagelength} px is above max_pixels {max_pixels:,}")
            return _eight_bit(page, page.asarray(), bits, [] if notes is None else notes)
    except Rejected:
        raise
    except (tifffile.TiffFileError, ValueError, struct.error, OSError, IndexError, KeyError, RuntimeError) as error:
        raise Rejected(f"the TIFF file is damaged, or of a form that is not read: {error}") from error


def _pillow_is_right(page: Any) -> bool:
    """Whether samples have at most 8 bits, or colours are of kinds that only Pillow converts."""
    kind = int(page.photometric)
    return kind not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB) or (
        page.bitspersample <= 8 and page.sampleformat == UNSIGNED
    )


def _eight_bit(page: Any, array: NDArray[Any], bits: int | None, notes: list[str]) -> NDArray[np.uint8]:
    if page.axes.startswith("S"):  # planes one after the other
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] > 4):
        raise Rejected(f"a TIFF page of shape {array.shape} ({page.axes}) is not an image of at most four channels")
    if page.sampleformat == UNSIGNED and page.bitspersample == 16:
        pixels = from_sixteen_bit(array, bits, notes)
    elif page.sampleformat == UNSIGNED:
        pixels = eight_bit(array, bits=page.bitspersample)
    elif page.sampleformat == FLOAT:
        pixels = eight_bit(array)
    else:
        raise Rejected(
            f"signed {page.bitspersample}-bit pixels have no known range: save them as unsigned, or as 0 to 1"
        )
    if int(page.photometric) == WHITE_IS_ZERO:
        grey = pixels if pixels.ndim == 2 else pixels[..., :1]
        np.subtract(255, grey, out=grey)
    return _with_opacity_last(pixels, page.extrasamples)


def _with_opacity_last(pixels: NDArray[np.uint8], extra: Any) -> NDArray[np.uint8]:
    """Grey with opacity as RGB with opacity; colours that opacity has multiplied are divided by it again."""
    if pixels.ndim == 2 or pixels.shape[-1] in (1, 3):
        return pixels[..., 0] if pixels.shape[-1:] == (1,) and pixels.ndim == 3 else pixels
    colours, opacity = pixels[..., :-1], pixels[..., -1:]
    if not extra or int(extra[0]) == 0:  # what the last channel means is not said
        return colours[..., 0] if colours.shape[-1] == 1 else colours
    if int(extra[0]) == ASSOCIATED:
        divided = 255.0 * colours / np.maximum(opacity, 1)
        colours = np.clip(np.rint(divided), 0, 255).astype(np.uint8)
    return np.concatenate((np.broadcast_to(colours, (*colours.shape[:2], 3)), opacity), axis=-1)
