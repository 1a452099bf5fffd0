"""Images in arrays: IDX and .npz.

Nothing is loaded whole: arrays are read row by row through their compression. Rows that cannot be read come back as
items with the reason, so that every promised row is accounted for.
"""

from __future__ import annotations

import functools
import io
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from d2v.data.sources.archives import BOUNDED_METHODS, DAMAGE, decompressed
from d2v.data.sources.columns import LABEL_NAMES
from d2v.data.sources.layout import Wanted, too_large
from d2v.data.sources.listing import Found, open_file
from d2v.data.sources.locations import Location
from d2v.data.sources.row_sources import Split, in_order, refused_rows, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kind_of
from d2v.errors import DataError

HEADER_BYTES = 10_000  # of an .npy; NumPy takes no longer ones
IDX_NAME = re.compile(r"(?P<set>.*?)images[-._]idx[34][-._]ubyte(\.gz)?$", re.IGNORECASE)
IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MOST_DEFLATED = 1100  # deflate reaches 1032: what promises more than that is a damaged or hostile header
IMAGE_NAMES = ("image", "img", "images", "bytes", "content", "x", "data")


# ------------------------------------------------------------------------------------- rows of arrays


@dataclass(frozen=True)
class _Rows:
    """An array in a stream: `open` gives the stream, rows of `shape[1:]` lie one after the other from `offset`."""

    open: Callable[[], AbstractContextManager[IO[bytes]]]
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one image."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @functools.cached_property
    def top(self) -> float:
        """The value of white, of floats: 1, or 255 if a value of the whole array is above 1."""
        if self.dtype.kind != "f":
            return 1.0
        largest = 0.0
        with suppress(*DAMAGE, ValueError), self.open() as stream:  # the items say what is damaged
            stream.seek(self.offset)
            for _ in range(self.shape[0]):
                values = np.frombuffer(stream.read(self.row_bytes), self.dtype)
                largest = max(largest, float(np.nanmax(values, initial=0.0)))
        return 1.0 if largest <= 1.0 else 255.0

    def remarks(self, name: str) -> list[str]:
        """What the values of an array are taken for, where that had to be found."""
        return [] if self.top == 1.0 else [f"{name} holds {self.dtype} values above 1: they are taken to reach to 255"]

    def as_split(self, split: str | None, labels: Sequence[str] | None) -> Split:
        """These rows as a split, with `labels` beside them."""
        return Split(split, self.shape[0], functools.partial(self._items, split or "items", labels))

    def _items(self, prefix: str, labels: Sequence[str] | None, start: int) -> Iterator[Item]:
        row, reason = start, ""
        try:
            with self.open() as stream:
                stream.seek(self.offset + start * self.row_bytes)
                for row in range(start, self.shape[0]):
                    raw = stream.read(self.row_bytes)
                    if len(raw) < self.row_bytes:
                        raise EOFError("it ends there")
                    pixels, refused = as_pixels(np.frombuffer(raw, self.dtype).reshape(self.shape[1:]), self.top)
                    yield Item(f"{prefix}/{row:06d}", pixels, labels[row] if labels else None, refused=refused)
                return
        except DAMAGE as error:
            reason = f"the file is truncated or damaged after row {row} ({error})"

        def lost(row: int) -> Item:
            return Item(f"{prefix}/{row:06d}", None, labels[row] if labels else None, refused=reason)

        yield from refused_rows(lost, row, self.shape[0])


def as_pixels(values: NDArray[Any], top: float) -> tuple[NDArray[Any] | None, str | None]:
    """An image as uint8, uint16 or float from 0 to 1 (H, W[, C]), or why it is none. Channels may come first; other
    integers are taken for 8-bit values, truth values for black and white.

    Args:
        values: one image of an array.
        top: the value of white, of floats.
    """
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[-1] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255), None
    if values.dtype.kind == "f":
        return (values / top).astype(np.float32), None
    if values.dtype.kind not in "iu":
        return None, f"{values.dtype} values are not pixels"
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        return values.astype(values.dtype.newbyteorder("=")), None
    if values.size and (values.min() < 0 or values.max() > 255):
        return None, f"{values.dtype} values outside 0 to 255: save the array as uint8 or uint16"
    return values.astype(np.uint8), None


def _check_rows(name: str, rows: _Rows, wanted: Wanted) -> None:
    if len(rows.shape) not in (3, 4):
        raise DataError(
            f"{name} has the shape {rows.shape}, not (images, height, width) or (images, height, width, channels): "
            "reshape it before saving."
        )
    if rows.row_bytes <= 0 or rows.shape[0] < 0:
        raise DataError(f"{name} has the shape {rows.shape}, in which an image has no pixels: save it again.")
    refused = too_large(rows.row_bytes, wanted)
    if refused:
        raise DataError(f"Every image in {name} would be refused: {refused}. Raise that limit, or mend the file.")


def _class_labels(name: str, values: NDArray[Any], rows: int) -> tuple[list[str], list[str] | None]:
    """Labels as names, and the classes in order; numbers keep their numeric order."""
    if values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "biuf" and np.all(values.sum(axis=1) == 1):
        values = values.argmax(axis=1)  # one-hot
    if values.size != rows:
        raise DataError(
            f"{name} holds labels of the shape {values.shape} for {rows} images: give one class per image, "
            "or leave the labels out."
        )
    values = values.reshape(rows)
    if values.dtype.kind == "f" and np.all(values == np.rint(values)):
        values = values.astype(np.int64)
    return [str(value) for value in values.tolist()], [str(value) for value in np.unique(values).tolist()]


# ----------------------------------------------------------------------------------------------- IDX


def idx_label_paths(path: str) -> list[str]:
    """Where the labels of an IDX images file can lie: beside it, plain or packed."""
    folder, slash, name = path.rpartition("/")
    plain = re.sub(r"idx[34]", "idx1", name.replace("images", "labels")).removesuffix(".gz")
    return [f"{folder}{slash}{plain}{end}" for end in ("", ".gz")] if plain != name.removesuffix(".gz") else []


def idx_source(location: Location, wanted: Wanted) -> Source:
    """MNIST-like pairs of IDX files, plain or gzip; the split is in the file name (train, t10k or test).

    Raises:
        DataError: no images file, damaged headers, or labels that do not fit.
    """
    images = [file for file in location.files if IDX_NAME.match(file.name)]
    if not images and len(location.files) == 1:
        images = list(location.files)
    names_of_splits = [kind_of(file.name) for file in images]
    if not images or len(set(names_of_splits)) < len(images):
        raise DataError(
            f"{location.given} holds {len(images)} IDX image files "
            f"({', '.join(file.name for file in images) or 'none'}), one per split was "
            "expected (train-images-idx3-ubyte.gz, t10k-images-idx3-ubyte.gz): point "
            "vision.ingest.source to the one you want."
        )
    splits, classes, all_rows = [], set[str](), dict[str, _Rows]()
    for file, split in sorted(zip(images, names_of_splits, strict=True), key=lambda pair: pair[1] != "train"):
        rows = _idx_rows(location, file)
        _check_rows(file.key, rows, wanted)
        all_rows[file.key] = rows
        beside = [other for other in location.files if other.path in idx_label_paths(file.path)]
        labels = None
        if beside:
            labels, names = _class_labels(beside[0].key, _idx_values(location, beside[0], rows.shape[0]), rows.shape[0])
            classes.update(names or ())
        splits.append(rows.as_split(split, labels))
    names_in_order = sorted(classes, key=int) if classes else None
    source = source_of_splits(f"IDX files {location.given}", location.fingerprint, splits, names_in_order)
    return replace(source, remarks=functools.partial(_remarks, all_rows))


def _remarks(arrays: Mapping[str, _Rows]) -> list[str]:
    return [remark for name, rows in arrays.items() for remark in rows.remarks(name)]


def _idx_rows(location: Location, file: Found) -> _Rows:
    opened = functools.partial(decompressed, location.fs, file.path)
    try:
        with opened() as stream:
            zeros, kind, axes = struct.unpack(">HBB", stream.read(4))
            shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
            rows = _Rows(opened, 4 + 4 * axes, np.dtype(IDX_TYPES[kind]), shape)
            if zeros or (file.size and shape[0] * rows.row_bytes > MOST_DEFLATED * file.size):
                raise EOFError("its header promises more than it can hold")
    except (*DAMAGE, KeyError, IndexError) as error:
        raise DataError(
            f"{file.path} is not a readable IDX file ({error}): download it again, or set vision.ingest.format to "
            "what it is."
        ) from error
    return rows


def _idx_values(location: Location, file: Found, most: int) -> NDArray[Any]:
    """A whole IDX file of labels, at most one value more than `most`."""
    rows = _idx_rows(location, file)
    try:
        with rows.open() as stream:
            stream.seek(rows.offset)
            return np.frombuffer(stream.read((most + 1) * rows.dtype.itemsize), rows.dtype)
    except (*DAMAGE, ValueError) as error:
        raise DataError(f"The labels {file.path} are damaged ({error}): download the file again.") from error


# ----------------------------------------------------------------------------------------------- npz


def npz_source(location: Location, wanted: Wanted) -> Source:
    """Arrays of images in an .npz: x_train/y_train/x_test/y_test, train_images/train_labels/..., images/labels, x/y.

    Raises:
        DataError: not an .npz, no array named like images, or arrays of another shape.
    """
    path = location.files[0].path
    try:
        with open_file(location.fs, path) as file, zipfile.ZipFile(file) as archive:
            found = {name: _npz_kind(name) for name in archive.namelist()}
            images = {split: name for name, (kind, split) in found.items() if kind == "images"}
            labels = {split: name for name, (kind, split) in found.items() if kind == "labels"}
            arrays = {split: _npz_rows(location, archive, name) for split, name in images.items()}
            values = {split: _npz_values(archive, name, wanted) for split, name in labels.items()}
    except (*DAMAGE, ValueError, KeyError, MemoryError, RecursionError, NotImplementedError) as error:
        raise DataError(
            f"{location.given} cannot be read as .npz ({error}): it must be whole, and hold plain arrays (no objects), "
            "images first axis first; save it again with numpy.savez."
        ) from error
    if not arrays:
        raise DataError(
            f"{location.given} holds {', '.join(found) or 'nothing'}, none of it named like images: name the arrays "
            "x_train, y_train, x_test, y_test, or images, labels."
        )
    splits, classes = [], list[str]()
    for split in sorted(arrays, key=lambda split: (split != "train", split or "")):
        rows = arrays[split]
        _check_rows(images[split], rows, wanted)
        named = None
        if split in values:
            named, names = _class_labels(labels[split], values[split], rows.shape[0])
            classes = list(dict.fromkeys([*classes, *(names or ())]))
        splits.append(rows.as_split(split, named))
    source = source_of_splits(f"arrays {location.given}", location.fingerprint, splits, in_order(classes))
    all_rows = {images[split]: rows for split, rows in arrays.items()}
    return replace(source, remarks=functools.partial(_remarks, all_rows))


def _npz_kind(name: str) -> tuple[str, str | None]:
    words = name.removesuffix(".npy").lower().split("_")
    split = kind_of(" ".join(words))
    rest = "_".join(word for word in words if not kind_of(word))
    kind = "images" if rest in IMAGE_NAMES else "labels" if rest in LABEL_NAMES else "other"
    return kind, split


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    width = 2 if version == (1, 0) else 4
    length = stream.read(width)
    if int.from_bytes(length, "little") > HEADER_BYTES:  # NumPy would read it whole before it refuses it
        raise ValueError(f"a header of {int.from_bytes(length, 'little'):,} bytes")
    header = io.BytesIO(length + stream.read(int.from_bytes(length, "little")))
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(header)
    return np.lib.format.read_array_header_2_0(header)


def _check_member(info: zipfile.ZipInfo) -> None:
    if info.compress_type not in BOUNDED_METHODS:
        raise ValueError(f"{info.filename} is packed by method {info.compress_type}: only stored and deflate are read")


def _npz_rows(location: Location, archive: zipfile.ZipFile, name: str) -> _Rows:
    @contextmanager
    def opened() -> Iterator[IO[bytes]]:
        path = location.files[0].path
        with open_file(location.fs, path) as file, zipfile.ZipFile(file) as again, again.open(name) as stream:
            yield stream

    info = archive.getinfo(name)
    _check_member(info)
    with archive.open(name) as stream:
        shape, fortran, dtype = _npy_header(stream)
        rows = _Rows(opened, stream.tell(), dtype, shape)
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError(f"{name} is {'an object array' if dtype.hasobject else 'in Fortran order'}")
    if len(shape) > 2 and shape[0] * rows.row_bytes > min(info.file_size, MOST_DEFLATED * max(info.compress_size, 1)):
        raise ValueError(f"{name} promises more images than it holds")
    return rows


def _npz_values(archive: zipfile.ZipFile, name: str, wanted: Wanted) -> NDArray[Any]:
    info = archive.getinfo(name)
    _check_member(info)
    refused = too_large(info.file_size, wanted)
    if refused:
        raise ValueError(f"labels {name}: {refused}")
    with archive.open(name) as stream:
        shape, _, dtype = _npy_header(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} is an object array")
    if dtype.itemsize == 0 or math.prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{name} promises more labels than it holds")
    with archive.open(name) as stream:
        values: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return values
