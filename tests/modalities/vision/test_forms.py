"""Bit depths, polarity, planes, opacity and colour keys of other writers' images, and one image by every door."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from d2v.data.ingest import Rejected
from d2v.data.prepared import Corpus
from d2v.errors import DataError
from d2v.modalities.requests import OWN_FILES
from d2v.modalities.vision import raw_inputs
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.modality import Vision
from d2v.modalities.vision.reading import decode, read_image
from d2v.modalities.vision.sources import open_source

VISION = Vision()
CONFIG = VisionIngestConfig(source="x")
SHAPE = (24, 40)
RAMP = np.linspace(0, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
COLOURS = np.stack((RAMP, 1 - RAMP, RAMP**2), axis=-1)
COMPRESSIONS = [None, "zlib", "lzw", "packbits", "lzma"]


def tiff(array: np.ndarray, **how: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return decode(read_image(data, CONFIG).data).astype(float)


def shown(unit: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 as they must be seen."""
    return 255.0 * (unit if unit.ndim == 3 else np.repeat(unit[..., None], 3, axis=-1))


# ----------------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("unit", [RAMP, COLOURS], ids=["grey", "rgb"])
def test_types_and_compressions(unit: np.ndarray, kind: str, compression: str | None) -> None:
    dtype = np.dtype(kind)
    array = (unit if dtype.kind == "f" else np.rint(unit * np.iinfo(dtype).max)).astype(dtype)
    photometric = "rgb" if unit.ndim == 3 else "minisblack"
    for data in (
        tiff(array, photometric=photometric, compression=compression),
        tiff(array, photometric=photometric, compression=compression, tile=(16, 16)),
        tiff(array, photometric=photometric, compression=compression, bigtiff=True, rowsperstrip=5),
    ):
        assert np.abs(pixels(data) - shown(unit)).max() <= 1.0


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16, 24, 31, 32])
def test_unsigned_samples_reach_to_their_width(bits: int) -> None:
    array = np.rint(RAMP * (2**bits - 1)).astype(np.uint16 if bits <= 16 else np.uint32)
    data = tiff(array, photometric="minisblack", bitspersample=bits)
    assert np.abs(pixels(data) - shown(RAMP)).max() <= 1.0


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_white_may_be_zero(kind: str) -> None:
    dtype = np.dtype(kind)
    array = (RAMP if dtype.kind == "f" else np.rint(RAMP * np.iinfo(dtype).max)).astype(dtype)
    assert np.abs(pixels(tiff(array, photometric="miniswhite")) - shown(1 - RAMP)).max() <= 1.0


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_planes_may_follow_each_other(kind: str, compression: str | None) -> None:
    dtype = np.dtype(kind)
    array = (COLOURS if dtype.kind == "f" else np.rint(COLOURS * np.iinfo(dtype).max)).astype(dtype)
    data = tiff(np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate", compression=compression)
    assert np.abs(pixels(data) - shown(COLOURS)).max() <= 1.0


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_opacity_of_sixteen_bits_is_laid_on_white(channels: int, kind: str) -> None:
    opacity = np.ones(SHAPE)
    opacity[:, :20] = 0.5
    unit = COLOURS if channels == 4 else RAMP[..., None]
    stored = unit * opacity[..., None] if kind == "assocalpha" else unit
    array = np.rint(65535 * np.concatenate((stored, opacity[..., None]), axis=-1)).astype(np.uint16)
    data = tiff(array, photometric="rgb" if channels == 4 else "minisblack", extrasamples=[kind], planarconfig="contig")
    right = np.broadcast_to(unit, (*SHAPE, 3)) * opacity[..., None] + 1 - opacity[..., None]
    assert np.abs(pixels(data) - shown(right)).max() <= 2.0
    assert "transparency on white" in read_image(data, CONFIG).note


def test_a_channel_of_no_meaning_is_left_out() -> None:
    array = np.rint(65535 * np.concatenate((COLOURS, RAMP[..., None]), axis=-1)).astype(np.uint16)
    data = tiff(array, photometric="rgb", extrasamples=["unspecified"], planarconfig="contig")
    assert np.abs(pixels(data) - shown(COLOURS)).max() <= 1.0


def test_a_tiff_is_turned_and_its_first_page_read() -> None:
    array = np.rint(RAMP * 4095).astype(np.uint16)
    turned = tiff(array, photometric="minisblack", bitspersample=12, extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(pixels(turned), np.rot90(pixels(tiff(array, bitspersample=12)), -1))
    pages = tiff(np.stack((np.rint(RAMP * 65535), np.zeros(SHAPE))).astype(np.uint16), photometric="minisblack")
    assert np.abs(pixels(pages) - shown(RAMP)).max() <= 1.0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(np.full((8, 8), -5, np.int16)), "signed 16-bit pixels have no known range: save them as unsigned"),
        (tiff(np.full((8, 8), 2.0, np.float32)), "not all between 0 and 1: scale them"),
        (tiff(np.full((8, 8, 3), np.nan, np.float32), photometric="rgb"), "not all between 0 and 1"),
        (tiff(np.ones((8, 8), np.complex64)), "no known range|not pixels|not read"),
        (tiff(np.zeros((200, 200, 3), np.float32), photometric="rgb")[:-9000], "damaged"),
        (b"II*\0" + bytes(20), "not an image|damaged"),
    ],
)
def test_samples_of_no_known_range_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        read_image(data, CONFIG)


def test_a_huge_tiff_is_not_decoded() -> None:
    small = CONFIG.model_copy(update={"max_pixels": 500})
    with pytest.raises(Rejected, match="above max_pixels 500"):
        read_image(tiff(COLOURS.astype(np.float32), photometric="rgb"), small)


# ------------------------------------------------------------------------------------ colour keys


def png(array: np.ndarray, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **how)
    return buffer.getvalue()


def by_hand(depth: int, colour: int, rows: list[bytes], key: bytes, side: int) -> bytes:
    """A PNG of any depth: header, colour key, pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", key)
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


STRIPES = np.tile(np.array([1, 0], np.uint8), (16, 8))
KEYED = {
    "rgb": png(STRIPES[..., None] * np.array([255, 0, 0], np.uint8), transparency=(255, 0, 0)),
    "grey": png(STRIPES * np.uint8(200), transparency=200),
    "grey of 16 bits": png(STRIPES * np.uint16(40000), transparency=40000),
    "grey of 4 bits": by_hand(4, 0, [b"\xc0" * 8] * 16, b"\0\x0c", 16),
    "grey of 2 bits": by_hand(2, 0, [b"\x88" * 4] * 16, b"\0\x02", 16),
    "rgb of 16 bits": by_hand(16, 2, [(b"\x9c\x40" + bytes(4) + bytes(6)) * 8] * 16, b"\x9c\x40" + bytes(4), 16),
}


@pytest.mark.parametrize("name", KEYED)
def test_a_colour_key_is_laid_on_white(name: str, tmp_path: Path) -> None:
    record = read_image(KEYED[name], CONFIG)
    seen = decode(record.data)
    assert (seen[:, ::2] == 255).all()
    assert (seen[:, 1::2] == 0).all()
    assert "transparency on white" in record.note
    assert (decode(read_image(record.data, CONFIG).data) == seen).all()


# ---------------------------------------------------------------------------------------- phones


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_with_a_second_image_is_kept_as_it_is(orientation: int) -> None:
    large = np.rint(255 * COLOURS).astype(np.uint8)
    exif = Image.Exif()
    exif[0x112] = orientation
    buffer = io.BytesIO()
    others = [Image.fromarray(large[::2, ::2])]
    Image.fromarray(large).save(buffer, "MPO", save_all=True, append_images=others, quality=95, exif=exif)
    record = read_image(buffer.getvalue(), CONFIG)
    assert (record.data == buffer.getvalue()) == (orientation == 1)
    assert "animation" not in record.note
    assert decode(record.data).shape[:2] == (SHAPE if orientation == 1 else SHAPE[::-1])


# ----------------------------------------------------------------------------------------- doors


def turned_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x112] = 6
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * COLOURS).astype(np.uint8)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def other(kind: str, mode: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * COLOURS).astype(np.uint8)).convert(mode).save(buffer, kind, **how)
    return buffer.getvalue()


DOORS = {
    **KEYED,
    "16-bit grey png": png(np.rint(65535 * RAMP).astype(np.uint16)),
    "12-bit tiff": tiff(np.rint(4095 * RAMP).astype(np.uint16), photometric="minisblack", bitspersample=12),
    "white is zero": tiff(np.rint(65535 * RAMP).astype(np.uint16), photometric="miniswhite"),
    "planes": tiff(
        np.rint(65535 * np.moveaxis(COLOURS, -1, 0)).astype(np.uint16), photometric="rgb", planarconfig="separate"
    ),
    "float tiff": tiff(RAMP.astype(np.float32)),
    "turned": turned_jpeg(),
    "cmyk": other("JPEG", "CMYK"),
    "palette": other("PNG", "P"),
    "opacity": other("PNG", "LA"),
    "gif": other("GIF", "P"),
    "bilevel": other("PNG", "1"),
    "webp": other("WEBP", "RGBA", lossless=True),
}


@pytest.mark.parametrize("name", DOORS)
def test_an_image_is_the_same_by_every_door(name: str, tmp_path: Path) -> None:
    data = DOORS[name]
    (tmp_path / "d").mkdir()
    path = tmp_path / "d" / "image.bin"
    path.write_bytes(data)
    whole = decode(read_image(data, CONFIG).data)
    by_path = raw_inputs.read_item(path)
    served = raw_inputs.REQUEST.read({"image": base64.b64encode(data).decode()}, OWN_FILES)
    Vision().ingest(VisionIngestConfig(source=str(tmp_path / "d")), tmp_path / "corpus")
    found = {"path": by_path, "request": served, "ingest": ingested(tmp_path / "corpus")}
    found["Pillow"] = raw_inputs.read_item(Image.open(path))
    found["Pillow, from memory"] = raw_inputs.read_item(Image.open(io.BytesIO(data)))
    for door, seen in found.items():
        assert np.array_equal(seen, whole), door


def ingested(corpus: Path) -> np.ndarray:
    opened = Corpus(corpus)
    (data,) = opened.data([0])
    return decode(data)


@pytest.mark.parametrize("kind", ["bool", "u1", "u2", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("unit", [RAMP, COLOURS], ids=["grey", "rgb"])
def test_arrays_are_the_same_by_every_door(unit: np.ndarray, kind: str, tmp_path: Path) -> None:
    dtype = np.dtype(kind)
    tops = {"b": 1, "f": 1, "i": 255}
    top = tops.get(dtype.kind, np.iinfo(dtype).max if dtype.kind == "u" else 1)
    array = (np.rint(unit * top) if dtype.kind != "f" else unit).astype(dtype)
    seen = raw_inputs.read_item(array)
    assert np.abs(seen - shown(np.rint(unit) if kind == "bool" else unit)).max() <= 1.0
    np.savez(tmp_path / "a.npz", images=array[None])
    (item,) = open_source(VisionIngestConfig(source=str(tmp_path / "a.npz"))).items(0)
    assert np.array_equal(decode(read_image(item.data, CONFIG).data), seen)


@pytest.mark.parametrize(
    ("array", "top"),
    [
        (np.array([0.0, 255.0]), 255),
        (np.array([0.0, 0.5]), 1),
    ],
)
def test_floats_reach_to_what_the_largest_of_the_array_tells(array: np.ndarray, top: int, tmp_path: Path) -> None:
    images = np.broadcast_to(array[:, None, None], (2, 8, 8))
    np.savez(tmp_path / "a.npz", images=images)
    source = open_source(VisionIngestConfig(source=str(tmp_path / "a.npz")))
    seen = [decode(read_image(item.data, CONFIG).data)[0, 0, 0] for item in source.items(0)]
    assert seen == [0, round(255 * float(array[1]) / top)]
    assert bool(source.remarks()) == (top != 1)


# ------------------------------------------------------------------------------------ significant bits


def twelve_of_sixteen() -> np.ndarray:
    """Grey from 0 to 4095 in uint16."""
    return np.rint(np.linspace(0, 4095, 16 * 16)).astype(np.uint16).reshape(16, 16)


def write_npz(folder: Path, array: np.ndarray) -> None:
    np.savez(folder / "a.npz", images=array[None])


def write_png(folder: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(folder / "a.png")


def write_tiff(folder: Path, array: np.ndarray) -> None:
    (folder / "a.tif").write_bytes(tiff(array, photometric="minisblack"))


@pytest.mark.parametrize("write", [write_npz, write_png, write_tiff])
@pytest.mark.parametrize("top", [255, 4095])
def test_bits_that_no_value_needs_are_said_and_can_be_left_out(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], top: int
) -> None:
    array = twelve_of_sixteen() >> (0 if top == 4095 else 4)
    (tmp_path / "source").mkdir()
    write(tmp_path / "source", array)
    report = VISION.ingest(VisionIngestConfig(source=str(tmp_path / "source")), tmp_path / "dark")
    bits = top.bit_length()
    assert [said for said in report.remarks if f"1 of 1 items have 16 bits with no value above {top:,}" in said]
    assert [said for said in report.remarks if said.endswith(f"set vision.ingest.bits to {bits}")]
    right = VISION.ingest(VisionIngestConfig(source=str(tmp_path / "source"), bits=bits), tmp_path / "right")
    assert not [said for said in right.remarks if "bits" in said]
    (data,) = Corpus(tmp_path / "right").data([0])
    seen = decode(data)[..., 0]
    assert (seen.min(), seen.max()) == (0, 255)
    np.testing.assert_array_equal(seen, np.rint(array * (255 / top)))
    with pytest.raises(DataError, match="are not all between 0 and 15"):
        VISION.ingest(VisionIngestConfig(source=str(tmp_path / "source"), bits=4), tmp_path / "wrong")


def test_whole_ranges_and_black_are_not_remarked_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.stack([np.zeros((8, 8)), np.full((8, 8), 4096)]).astype(np.uint16))
    assert VISION.ingest(VisionIngestConfig(source=str(tmp_path / "a.npz")), tmp_path / "c").remarks == []


def test_a_dark_array_is_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"no value above 4,095: if 12 bits .* or give uint8"):
        raw_inputs.read_item(twelve_of_sixteen())
