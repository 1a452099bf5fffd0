"""From an image file or array to what the corpus stores, or a reason why not (`read_image`); and from there to pixels
(`decode`).

Plain 8-bit JPEG and PNG files keep their bytes; everything that had to be changed is stored as PNG.
"""

from __future__ import annotations

import functools
import io
import os

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from d2v.data.ingest import Record, Rejected, one_line
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.pixels import UNUSED, eight_bit, from_sixteen_bit
from d2v.modalities.vision.tiff import is_tiff, read_tiff

Image.MAX_IMAGE_PIXELS = None  # our own max_pixels is compared with the header before anything is decoded

FORMATS = (
    *(
        "JPEG",
        "PNG",
        "MPO",
        "BMP",
        "GIF",
        "WEBP",
        "TIFF",
        "PPM",
        "AVIF",
        "JPEG2000",
        "DIB",
        "ICNS",
        "ICO",
        "PCX",
        "QOI",
    ),
    *("SGI", "TGA", "XBM"),
)
"""Pillow's names of what is opened, whatever the door. Of its others, EPS, PS and WMF hand the file to a program, and
the rest are seldom and little tested."""
KEPT_FORMATS, KEPT_MODES = ("JPEG", "PNG", "MPO"), ("RGB", "L")
"""MPO, which phones write, is a JPEG with more images behind it; it is read as the JPEG that it begins with."""
FACTS = ("width", "height")
ADVICE = {
    note: f"if {limit.bit_length()} bits are their whole range, they come out too dark: set vision.ingest.bits to "
    f"{limit.bit_length()}"
    for limit, note in UNUSED.items()
}
"""What to do about notes that many items can have."""
ORIENTATION = 0x0112
"""EXIF tag of how a image must be turned."""
SOFTWARE, CAMERA = 0x0131, (0x010F, 0x0110)
"""EXIF tags of what wrote an image: a program; a camera's maker and model."""
WRITER_CHARACTERS = 60
PNG_DEPTH = 24
"""Byte of a PNG that says how many bits a sample has."""
WHITE = (255, 255, 255, 255)
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError)
"""What Pillow's decoders raise on damaged files."""


def read_image(data: bytes | np.ndarray | Image.Image, config: VisionIngestConfig) -> Record:
    """Decode one image fully to check it, and return what the corpus stores of it: a file, not pixels.

    Args:
        data: an encoded file, a image of Pillow, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of the types
            that `pixels.eight_bit` takes.
        config: limits.

    Raises:
        Rejected: with the reason.
    """
    notes: list[str] = []
    origin: dict[str, str] = {}
    keep = False
    if isinstance(data, np.ndarray):
        image = _from_array(data, config.bits, notes)
        _check_size(image, config)
    elif isinstance(data, Image.Image):
        image = _from_pillow(data, config, notes)
    else:
        image, keep = _from_file(data, config, notes, origin)
    origin = origin or {"format": "array", "mode": image.mode}
    rgb = _to_eight_bit(image, notes, config.bits)
    stored = data if keep and not notes and isinstance(data, bytes) else _png(rgb)
    return Record(stored, {"width": rgb.width, "height": rgb.height}, ", ".join(notes), origin=origin)


def open_image(file: bytes | str | os.PathLike[str]) -> Image.Image:
    """An image whose header alone is read, of one of FORMATS. Every door to Pillow is this one.

    Args:
        file: its content, or its path.

    Raises:
        PIL.UnidentifiedImageError: it is of none of them. A damaged header raises DECODE_ERRORS.
    """
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_opened())


@functools.cache
def _opened() -> tuple[str, ...]:
    """Those of FORMATS that Pillow opens here: it knows MPO only as a JPEG, and can be built without some."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decode(data: bytes) -> np.ndarray:
    """A stored image as (H, W, 3) uint8. Prepare and `d2v.load` call it; training does only where the prepared store
    holds files (`prepare.storage: jpeg`)."""
    with open_image(data) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_file(
    data: bytes, config: VisionIngestConfig, notes: list[str], origin: dict[str, str]
) -> tuple[Image.Image, bool]:
    """(decoded image, whether the bytes could be kept); adds to `notes` what was done to it, and to `origin` what the
    file is."""
    if not data:
        raise Rejected("the file is empty")
    if len(data) > config.max_item_bytes:
        raise Rejected(f"the file has {len(data):,} bytes, above max_item_bytes {config.max_item_bytes:,}")
    try:
        image = open_image(data)
    except UnidentifiedImageError:
        if is_tiff(data) and (array := read_tiff(data, config.max_pixels, config.bits, notes)) is not None:
            origin |= {"format": "TIFF", "mode": f"{array.dtype} x {array.shape[2] if array.ndim > 2 else 1}"}
            return _from_samples(array, None, config, notes), False
        raise Rejected(f"it is not an image of a format that is read ({', '.join(FORMATS)})") from None
    except DECODE_ERRORS as error:
        raise Rejected(f"the image header is damaged: {error}") from None
    _check_size(image, config)
    origin |= {"format": str(image.format), "mode": image.mode}
    if image.format == "TIFF" and (array := read_tiff(data, config.max_pixels, config.bits, notes)) is not None:
        return _from_samples(array, image, config, notes), False
    keep = image.format in KEPT_FORMATS and image.mode in KEPT_MODES and "transparency" not in image.info
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        notes.append("first frame of an animation")
    bits = data[PNG_DEPTH] if image.format == "PNG" else 8
    decoded = _decoded(image, notes, bits)
    if writer := _writer(image):
        origin["writer"] = writer
    return decoded, keep


def _writer(image: Image.Image) -> str:
    """The program or camera that a decoded image names; empty if it names none."""
    exif, info = image.getexif(), image.info
    if not exif and not info:
        return ""
    camera = " ".join(dict.fromkeys(str(exif[tag]) for tag in CAMERA if exif.get(tag)))
    said = exif.get(SOFTWARE) or info.get("Software") or camera or info.get("comment") or ""
    return one_line(said.decode("latin-1") if isinstance(said, bytes) else str(said))[:WRITER_CHARACTERS]


def _from_pillow(image: Image.Image, config: VisionIngestConfig, notes: list[str]) -> Image.Image:
    """An image as its file would give it: of one that is not decoded yet, the file is read again. One that Pillow
    opened as another format than FORMATS is not decoded here."""
    if isinstance(image, ImageFile.ImageFile) and image.format not in FORMATS:
        raise Rejected(f"it is {image.format}, which is not decoded here: decode it yourself, and give its .copy()")
    _check_size(image, config)
    stream = getattr(image, "fp", None)
    if image.format in ("TIFF", "PNG") and stream is not None and getattr(image, "tile", None):
        place = stream.tell()
        stream.seek(0)
        data = stream.read()
        stream.seek(place)
        return _from_file(data, config, notes, {})[0]
    return _decoded(image, notes)


def _decoded(image: Image.Image, notes: list[str], bits: int = 8) -> Image.Image:
    """The frame that is open, the right way up and with its colour key on white.

    Args:
        image: as Pillow opened it.
        notes: what is done is added.
        bits: of the file's samples.
    """
    try:
        image.load()
        turned = ImageOps.exif_transpose(image)
    except DECODE_ERRORS as error:
        raise Rejected(f"the image is truncated or corrupt: {error}") from None
    if image.getexif().get(ORIENTATION, 1) not in (0, 1):
        notes.append("turned by its EXIF orientation")
    return _without_colour_key(turned, bits, notes)


def _without_colour_key(image: Image.Image, bits: int, notes: list[str]) -> Image.Image:
    """An image of grey or RGB whose pixels of one colour are transparent, with white in their place."""
    key = image.info.get("transparency")
    if key is None or image.mode not in ("1", "L", "RGB", "I;16", "I"):
        return image
    array = np.array(image.convert("L") if image.mode == "1" else image)
    colour = np.atleast_1d(np.asarray(key, dtype=np.int64))
    if array.dtype == np.uint8 and bits != 8:  # the key has the width of the file's samples
        colour = colour >> 8 if bits == 16 else colour * 255 // (2**bits - 1)
    is_key = (array == colour).all(axis=-1) if array.ndim == 3 else array == colour[0]
    array[is_key] = 255 if array.dtype == np.uint8 else 65535
    notes.append("transparency on white")
    return Image.fromarray(array)


def _from_samples(
    array: np.ndarray, image: Image.Image | None, config: VisionIngestConfig, notes: list[str]
) -> Image.Image:
    """A TIFF page whose samples were read, turned as its header says."""
    notes.append("reduced to 8 bits")
    read = Image.fromarray(np.ascontiguousarray(array))
    _check_size(read, config)
    orientation = image.getexif().get(ORIENTATION, 1) if image else 1
    if image and getattr(image, "n_frames", 1) > 1:
        notes.append("first frame of an animation")
    if orientation not in (0, 1):
        read.getexif()[ORIENTATION] = orientation
        read = ImageOps.exif_transpose(read)
        notes.append("turned by its EXIF orientation")
    return read


def _check_size(image: Image.Image, config: VisionIngestConfig) -> None:
    width, height = image.size
    if width * height > config.max_pixels:
        raise Rejected(f"{width} x {height} px is above max_pixels {config.max_pixels:,}")
    if min(width, height) < config.min_side_px:
        raise Rejected(f"{width} x {height} px: the smaller side is below min_side_px {config.min_side_px}")


def _from_array(array: np.ndarray, bits: int | None, notes: list[str]) -> Image.Image:
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)) or 0 in array.shape:
        raise Rejected(f"an array of shape {array.shape} is not an image")
    pixels = from_sixteen_bit(array, bits, notes) if array.dtype == np.uint16 else eight_bit(array)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _to_eight_bit(image: Image.Image, notes: list[str], bits: int | None) -> Image.Image:
    """RGB or L with 8 bits; notes what was done."""
    mode = image.mode
    if mode in KEPT_MODES:
        return image
    if mode in ("1",):
        return image.convert("L")
    if mode.startswith("I") or mode == "F":
        notes.append("reduced to 8 bits")
        return _reduce(np.asarray(image), notes, bits)
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{mode} to RGB")
        return image.convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        notes.append("transparency on white")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _reduce(array: np.ndarray, notes: list[str], bits: int | None) -> Image.Image:
    """16-bit integers, or floats from 0 to 1, to 8 bits."""
    return Image.fromarray(from_sixteen_bit(array, bits, notes) if array.dtype.kind in "iu" else eight_bit(array))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
