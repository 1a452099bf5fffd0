"""Trees of files: what their folders say about split and class, and the members of tar and zip archives.

Nothing is ever written to disk. Members that could do harm (paths that climb out, links, devices, bombs) are not
read: they come back as items with a reason. Memory holds one member at a time, and for a zip its directory.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from d2v.data.items import Item, Source
from d2v.errors import DataError

Folders = tuple[str, ...]  # the names of the folders above a file, outermost first

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
}
IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in "jpg jpeg jpe jfif png bmp gif tif tiff webp ppm pgm pbm pnm ico jp2 avif heic".split()  # noqa: SIM905
)
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, struct.error)
"""What reading a truncated or damaged archive raises; plain OSError is left to mean that the disk or network failed."""
BOMB_RATIO = 200
BOMB_BYTES = 2**20  # below this declared size no ratio is dangerous
HEADER_BYTES = 2**20  # no honest extended tar header is larger; tarfile would read it into memory whole


class Found(NamedTuple):
    """One file of a place. `stamp` changes when the file does; `refused` says why it must not be opened."""

    key: str
    path: str
    size: int | None
    stamp: str
    refused: str | None = None

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self.key).name


@dataclass(frozen=True)
class Place:
    """A file, or a folder with all its files sorted by key, on any fsspec file system.

    Attributes:
        given: how the user wrote it, for messages.
        fs: the fsspec file system that opens the paths of `files`.
        files: the one file (its key is its name), or the folder's, with keys relative to the folder.
    """

    given: str
    fs: Any
    files: tuple[Found, ...]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes when a file is added, removed, renamed or written; where the place lies does not matter."""
        digest = hashlib.sha256()
        for file in self.files:
            digest.update(f"{file.key}\0{file.size}\0{file.stamp}\n".encode())
        return digest.hexdigest()


# -------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Layout:
    """What the folder names of one tree mean: `top` is dropped, then comes a split folder (if `splits` knows its
    name), then the class folder, as in torchvision's ImageFolder."""

    top: Folders
    splits: Mapping[str, str]

    def place(self, name: str) -> tuple[str, str | None, str | None]:
        """Key, label and split of a file from its path in the tree."""
        parts = split_path(name)
        if parts[: len(self.top)] == self.top:
            parts = parts[len(self.top) :]
        key = "/".join(parts)
        split = self.splits.get(parts[0].lower()) if len(parts) > 1 else None
        folders = parts[1:-1] if self.splits else parts[:-1]
        return key, folders[0] if folders else None, split


def find_layout(names: Iterable[str], packed: bool = False) -> Layout:
    """Read the layout off the names of all files.

    A folder that holds everything else is a wrapper and dropped. In an archive (`packed`) that is so even if it
    holds the images themselves, as packing a folder leaves it; in a folder it is then the only class. Split names at
    the first level are splits if there are two of them or nothing else, for "train" can also be a class.
    """
    trees = _image_folders(names)
    top = 0
    while _is_wrapped(trees, top) and ((packed and top == 0) or all(len(folders) > top + 1 for folders in trees)):
        top += 1
    firsts = {folders[top].lower() for folders in trees if len(folders) > top}
    found = {SPLITS[name] for name in firsts if name in SPLITS}
    if len(found) < 2 and not (found and firsts <= set(SPLITS)):
        return Layout(next(iter(trees), ())[:top], {})
    settled = settle_splits(found)
    return Layout(next(iter(trees))[:top], {name: settled[SPLITS[name]] for name in firsts if name in SPLITS})


def settle_splits(found: Collection[str | None]) -> dict[str, str]:
    """What becomes of each split: a source without a test split is tested on its validation split."""
    return {"train": "train", "test": "test", "val": "val" if "test" in found else "test"}


def _image_folders(names: Iterable[str]) -> set[Folders]:
    """Folders of the images; of all files if no name looks like an image (so that a README does not hide a wrapper)."""
    images: set[Folders] = set()
    others: set[Folders] = set()
    for name in names:
        *folders, last = split_path(name)
        (images if PurePosixPath(last).suffix.lower() in IMAGE_SUFFIXES else others).add(tuple(folders))
    return images or others


def _is_wrapped(trees: set[Folders], depth: int) -> bool:
    firsts = {folders[depth : depth + 1] for folders in trees}
    return len(firsts) == 1 and firsts != {()} and next(iter(firsts))[0].lower() not in SPLITS


def split_path(name: str) -> Folders:
    """Parts of a path in an archive, readable even where the name is not valid text."""
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return tuple(part for part in readable.split("/") if part not in ("", ".")) or (".",)


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder above it, starts with a dot (.DS_Store, macOS's ._x, .git)."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def climbs_out(name: str) -> bool:
    """Whether a member's path leads out of the folder it would be unpacked to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:[\\/]", name) is not None


@contextmanager
def decompressed(fs: Any, path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip, bzip2 or xz if its first bytes say so. Forward seeks are cheap on a plain
    file and read through a compressed one."""
    with fs.open(path, "rb") as file:
        magic = file.read(6)
        file.seek(0)
        opener: Any = None
        if magic.startswith(b"\x1f\x8b"):
            opener = gzip.open
        elif magic.startswith(b"BZh"):
            opener = bz2.open
        elif magic.startswith(b"\xfd7zXZ\x00"):
            opener = lzma.open
        if opener is None:
            yield file
            return
        with opener(file, "rb") as stream:
            yield stream


# ----------------------------------------------------------------------------------------------- tar


class _Header(tarfile.TarInfo):
    """A tar header that is damaged, cut off or gigantic is an error; tarfile alone would end quietly there."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """As tarfile's; raises ReadError for everything but a sound header and the archive's own end mark."""
        is_end_mark = len(buf) == tarfile.BLOCKSIZE and not any(buf)
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if is_end_mark:
                raise
            raise tarfile.ReadError(str(error)) from error
        if header.size > HEADER_BYTES and header.type in b"xgXLK":
            raise tarfile.ReadError(f"extended header of {header.size:,} bytes")
        return header


def tar_source(place: Place, max_item_bytes: int) -> Source:
    """Members of a tar archive, plain or compressed, in the archive's order.

    The archive is passed over twice: once for its layout, when the first item is asked for, and once for the items.
    Damage in the middle ends the source with one item that says so.

    Raises:
        DataError: not a tar archive, or no file in it.
    """
    file = place.files[0]
    try:
        empty = next(_members(place.fs, file.path), None) is None
    except DAMAGE as error:
        raise DataError(
            f"{place.given} cannot be read as a tar archive ({error}): check that it was copied whole with `tar tf`, "
            "or set vision.ingest.format to what it is."
        ) from error
    if empty:
        raise DataError(f"{place.given} holds no files: pack the folder with the images again, or point to another.")
    layout = functools.lru_cache(maxsize=1)(lambda: _tar_layout(place.fs, file.path))

    def items(start: int) -> Iterator[Item]:
        read = 0
        try:
            for archive, member in _members(place.fs, file.path):
                if read >= start - 1:  # reading the last one to skip shows whether the archive breaks off in it
                    item = _tar_item(archive, member, layout(), max_item_bytes)
                    if read >= start:
                        yield item
                read += 1
        except DAMAGE as error:
            if read >= start:
                yield Item(file.name, None, refused=f"archive is truncated after {read} members ({error})")

    return Source(f"tar archive {place.given}", place.fingerprint, None, items)


def _members(fs: Any, path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Everything in the archive that is neither a folder nor hidden."""
    with decompressed(fs, path) as stream, tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as archive:
        while True:
            try:
                member = archive.next()
            except OSError as error:
                if "Invalid data stream" in str(error):  # how bz2 reports damage
                    raise tarfile.ReadError(str(error)) from error
                raise
            if member is None:
                return
            if not member.isdir() and (climbs_out(member.name) or not is_hidden(member.name)):
                yield archive, member
            archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every header: a gigabyte per million members


def _tar_layout(fs: Any, path: str) -> Layout:
    names: dict[str, None] = {}
    try:
        for _, member in _members(fs, path):
            if _tar_refusal(member, max_item_bytes=member.size) is None:
                *folders, last = split_path(member.name)
                # one name per folder and suffix says as much as all of them
                names["/".join([*folders, f"_{PurePosixPath(last).suffix}"])] = None
    except DAMAGE:
        pass  # the items report it
    return find_layout(names, packed=True)


def _tar_refusal(member: tarfile.TarInfo, max_item_bytes: int) -> str | None:
    if climbs_out(member.name):
        return "its path climbs out of the archive"
    if member.issym() or member.islnk():
        return "it is a link"
    if not member.isreg():
        return "it is a device or a pipe, not a file"
    return too_large(member.size, max_item_bytes)


def _tar_item(archive: tarfile.TarFile, member: tarfile.TarInfo, layout: Layout, max_item_bytes: int) -> Item:
    reason = _tar_refusal(member, max_item_bytes)
    if reason:
        return Item("/".join(split_path(member.name)), None, refused=reason)
    key, label, split = layout.place(member.name)
    content = archive.extractfile(member)
    return Item(key, content.read() if content else b"", label, split)


def too_large(size: int, max_item_bytes: int) -> str | None:
    """The reason to refuse an item of that many bytes, if there is one."""
    if size <= max_item_bytes:
        return None
    return f"{size:,} bytes are more than vision.ingest.max_item_bytes = {max_item_bytes:,}"


# ----------------------------------------------------------------------------------------------- zip


def zip_source(place: Place, max_item_bytes: int) -> Source:
    """Members of a zip archive in the order of its directory, read by random access.

    Raises:
        DataError: not a zip archive, cut off, or no file in it.
    """
    file = place.files[0]
    try:
        with place.fs.open(file.path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            infos = _zip_members(archive)
    except (*DAMAGE, ValueError) as error:
        raise DataError(
            f"{place.given} cannot be read as a zip archive ({error}): its directory is at the end, so a copy that was "
            "cut off has none; copy it again, or set vision.ingest.format to what it is."
        ) from error
    if not infos:
        raise DataError(f"{place.given} holds no files: pack the folder with the images again, or point to another.")
    layout = find_layout((_zip_name(info) for info in infos if not climbs_out(_zip_name(info))), packed=True)

    def items(start: int) -> Iterator[Item]:
        with place.fs.open(file.path, "rb") as stream, zipfile.ZipFile(stream) as archive:
            for info in _zip_members(archive)[start:]:
                yield _zip_item(archive, info, layout, max_item_bytes)

    return Source(f"zip archive {place.given}", place.fingerprint, len(infos), items)


def _zip_name(info: zipfile.ZipInfo) -> str:
    return info.orig_filename.replace("\\", "/")  # old Windows tools wrote backslashes


def _zip_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    names = ((info, _zip_name(info)) for info in archive.infolist() if not _zip_name(info).endswith("/"))
    return [info for info, name in names if climbs_out(name) or not is_hidden(name)]


def _zip_refusal(info: zipfile.ZipInfo, max_item_bytes: int) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if climbs_out(_zip_name(info)):
        return "its path climbs out of the archive"
    if kind not in (0, stat.S_IFREG):
        return "it is a link" if kind == stat.S_IFLNK else "it is a device or a pipe, not a file"
    if info.flag_bits & 0x61:
        return "it is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile unpacks the other methods without a bound on memory
        return f"compression method {info.compress_type} is not read, only stored and deflate"
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        return f"{info.compress_size:,} bytes unpack to {info.file_size:,}: a bomb"
    return too_large(info.file_size, max_item_bytes)


def _zip_item(archive: zipfile.ZipFile, info: zipfile.ZipInfo, layout: Layout, max_item_bytes: int) -> Item:
    name = _zip_name(info)
    reason = _zip_refusal(info, max_item_bytes)
    if reason:
        return Item("/".join(split_path(name)), None, refused=reason)
    key, label, split = layout.place(name)
    try:
        with archive.open(info) as content:
            # never more than the declared size is unpacked; a member that hides more fails its checksum here
            return Item(key, content.read(info.file_size), label, split)
    except (*DAMAGE, ValueError) as error:
        return Item(key, None, label, split, refused=f"unreadable, or not of its declared size: {error}")
