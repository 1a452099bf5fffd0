"""Every kind of file that people's folders hold is read correctly or rejected with its reason."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from d2v.data.ingest import Rejected
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.reading import decode, read_image

CONFIG = VisionIngestConfig(source="x", max_pixels=10_000, min_side_px=4, max_item_bytes=200_000)
RED, WHITE = (200, 30, 30), (255, 255, 255)


def encode(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def tiff(array: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **how)
    return buffer.getvalue()


def plain(mode: str = "RGB", size=(20, 10), colour=RED) -> Image.Image:
    return Image.new("RGB", size, colour).convert(mode)


def halves() -> Image.Image:
    """Left half red, right half white: shows which way up a picture is."""
    picture = Image.new("RGB", (20, 10), WHITE)
    picture.paste(RED, (0, 0, 10, 10))
    return picture


def sixteen_bit() -> Image.Image:
    ramp = np.linspace(0, 65535, 200).reshape(10, 20).astype(np.uint16)
    return Image.fromarray(ramp)


def transparent() -> Image.Image:
    picture = Image.new("RGBA", (20, 10), (*RED, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 10, 10))
    return picture


def animation(kind: str) -> bytes:
    frames = [plain(colour=RED), plain(colour=(0, 0, 200))]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, lossless=True)


def huge_png() -> bytes:
    """A PNG whose header claims 60,000 x 60,000 pixels; decoding it would take 10 GB."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    body = struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + encode(plain(), "PNG")[33:]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(halves(), "JPEG", exif=exif, quality=95)


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8))


REJECTED = {
    "empty": (b"", "empty"),
    "text": (b"hello, I am a README", "not an image"),
    "html": (b"<html><body>404</body></html>", "not an image"),
    "random bytes": (bytes(range(256)) * 4, "not an image"),
    "truncated jpeg": (encode(noise(), "JPEG")[:-400], "truncated"),
    "truncated png": (encode(noise(), "PNG")[:2000], "truncated"),
    "half a png header": (encode(noise(), "PNG")[:20], "damaged|not an image|truncated"),
    "flipped bytes in a png": (encode(noise(), "PNG")[:60] + b"\0" * 40 + encode(noise(), "PNG")[100:], "corrupt"),
    "gigapixel": (huge_png(), "above max_pixels"),
    "many pixels": (encode(plain(size=(101, 100)), "PNG"), "101 x 100 px is above max_pixels"),
    "too small": (encode(plain(size=(3, 50)), "PNG"), "below min_side_px"),
    "many bytes": (encode(noise(), "BMP") + b"\0" * 200_000, "above max_item_bytes"),
    "float tiff beyond 1": (
        encode(Image.fromarray(np.full((8, 8), 7.5, np.float32)), "TIFF"),
        "not all between 0 and 1",
    ),
    "nan tiff": (encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "not all between 0 and 1"),
    "array with no range": (np.full((8, 8), 300, np.int64), "not all between 0 and 255: save them as uint8 or uint16"),
    "signed tiff": (tiff(np.zeros((8, 8), np.int16)), "signed 16-bit pixels have no known range"),
    "five channels": (tiff(np.zeros((8, 8, 5), np.uint16), photometric="rgb"), "not an image of at most four channels"),
    "damaged tiff of many bits": (tiff(np.zeros((40, 40, 3), np.uint16))[:-900], "damaged"),
    "array of the wrong shape": (np.zeros((8, 8, 7), np.uint8), "is not an image"),
    "empty array": (np.zeros((0, 8), np.uint8), "is not an image"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_rejected_with_its_reason(name):
    data, reason = REJECTED[name]
    with pytest.raises(Rejected, match=reason):
        read_image(data, CONFIG)


READ = {
    "jpeg": (encode(plain(), "JPEG", quality=95), True, ""),
    "png": (encode(plain(), "PNG"), True, ""),
    "grey png": (encode(plain("L"), "PNG"), True, ""),
    "progressive jpeg": (encode(plain(), "JPEG", progressive=True), True, ""),
    "bmp": (encode(plain(), "BMP"), False, ""),
    "webp": (encode(plain(), "WEBP", lossless=True), False, ""),
    "palette png": (encode(plain().quantize(4), "PNG"), False, ""),
    "bilevel png": (encode(plain("1"), "PNG"), False, ""),
    "cmyk jpeg": (encode(plain("CMYK"), "JPEG", quality=95), False, "CMYK to RGB"),
    "cmyk tiff": (encode(plain("CMYK"), "TIFF"), False, "CMYK to RGB"),
    "16-bit png": (encode(sixteen_bit(), "PNG"), False, "reduced to 8 bits"),
    "16-bit tiff": (encode(sixteen_bit(), "TIFF"), False, "reduced to 8 bits"),
    "float tiff": (encode(Image.fromarray(np.full((10, 20), 0.5, np.float32)), "TIFF"), False, "reduced to 8 bits"),
    "transparent png": (encode(transparent(), "PNG"), False, "transparency on white"),
    "animated gif": (animation("GIF"), False, "first frame"),
    "animated webp": (animation("WEBP"), False, "first frame"),
    "animated png": (animation("PNG"), False, "first frame"),
    "exif rotated": (rotated(), False, "EXIF"),
    "uint8 array": (np.asarray(plain()), False, ""),
    "bool array": (np.ones((10, 20), bool), False, ""),
    "uint16 array": (np.full((10, 20, 1), 65535, np.uint16), False, ""),
    "float array": (np.full((10, 20, 3), 0.25), False, ""),
}


@pytest.mark.parametrize("name", READ)
def test_read_and_stored_as_eight_bit_rgb_or_grey(name):
    data, keeps_bytes, note = READ[name]
    record = read_image(data, CONFIG)
    pixels = decode(record.data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (record.facts["height"], record.facts["width"], 3)
    assert note in record.note
    assert (isinstance(data, bytes) and record.data == data) == keeps_bytes


@pytest.mark.parametrize(
    "name", ["png", "bmp", "webp", "palette png", "cmyk tiff", "animated gif", "animated webp", "uint8 array"]
)
def test_colours_survive(name):
    pixels = decode(read_image(READ[name][0], CONFIG).data).astype(int)
    assert np.abs(pixels - np.array(RED)).max() <= 12


def test_sixteen_bits_are_scaled_not_cut():
    pixels = decode(read_image(READ["16-bit png"][0], CONFIG).data)[..., 0].ravel()
    assert (pixels[0], pixels[-1]) == (0, 255)
    assert np.abs(pixels - np.linspace(0, 255, 200)).max() <= 1


def test_what_is_transparent_becomes_white():
    pixels = decode(read_image(READ["transparent png"][0], CONFIG).data)
    assert tuple(pixels[5, 2]) == WHITE
    assert tuple(pixels[5, 15]) == RED


def test_exif_orientation_is_applied():
    record = read_image(rotated(), CONFIG)
    assert (record.facts["width"], record.facts["height"]) == (10, 20)
    pixels = decode(record.data).astype(int)
    assert np.abs(pixels[2, 5] - RED).max() < 20  # orientation 6: the left side was up
    assert np.abs(pixels[17, 5] - WHITE).max() < 20
