"""The members of tar and zip archives.

Nothing is ever written to disk. Members that could do harm (paths that climb out, links, devices, bombs) are not
read: they come back as items with a reason. Memory holds one member at a time, and for a zip its directory; with an
annotator also the names of all members and the content of the side files.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import accumulate
from pathlib import PurePosixPath
from typing import IO, Any, cast

from d2v.data.sources.layout import (
    Annotator,
    Layout,
    Role,
    Wanted,
    climbs_out,
    find_layout,
    is_hidden,
    split_path,
    too_large,
)
from d2v.data.sources.listing import open_file
from d2v.data.sources.locations import SIDE_BYTES, Location, side_error
from d2v.data.sources.source import Item, Source
from d2v.data.sources.split_names import kinds_of_files, settled
from d2v.data.url_cache import opened_near
from d2v.errors import DataError

DAMAGE = (
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    tarfile.TarError,
    zipfile.BadZipFile,
    struct.error,
    NotImplementedError,
)
"""Raised by a truncated or damaged archive; plain OSError is left to mean that the disk or network failed."""
BOUNDED_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of zip members; zipfile unpacks the others without a bound on memory."""
BOMB_RATIO = 200
UNPACK_RATIO = 1_100
"""Of compressed streams: deflate reaches 1,032 on what is blank, which IDX files may be."""
BOMB_BYTES = 2**20  # below this declared size no ratio is dangerous
HEADER_BYTES = 2**20  # no honest extended tar header is larger; tarfile would read it into memory whole


class Unpacking(io.RawIOBase):
    """A stream through its decompressor. One that gives more than UNPACK_RATIO times what was read of its file is a
    bomb, and damaged.

    Args:
        stream: the decompressor's.
        file: what it reads.
    """

    def __init__(self, stream: Any, file: IO[bytes]) -> None:
        self._stream, self._file, self._given = stream, file, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: forward seeks read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """As the decompressor's. Raises EOFError of a bomb."""
        content: bytes = self._stream.read(size)
        self._given += len(content)
        if self._given > max(BOMB_BYTES, UNPACK_RATIO * self._file.tell()):
            raise EOFError(f"{self._file.tell():,} bytes unpack to more than {self._given:,}: a bomb")
        return content

    def readinto(self, buffer: Any) -> int:
        """As `read`."""
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As the decompressor's."""
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        """As the decompressor's."""
        return int(self._stream.tell())


@contextmanager
def decompressed(fs: Any, path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip, bzip2 or xz if its first bytes say so. Forward seeks are cheap on a plain
    file and read through a compressed one. One behind a URL is fetched once, as it is gone through several times."""
    with opened_near(fs, path) as file:
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
            yield cast(IO[bytes], Unpacking(stream, file))


def _path(name: str) -> str:
    """Path of a member in the tree, as annotators see it."""
    return "/".join(split_path(name))


def _nothing_in(location: Location, wanted: Wanted, papers: bool) -> DataError:
    return DataError(
        f"{location.given} holds no files{' but papers' if papers else ''}: pack the folder with the {wanted.noun} "
        "again, or point to another."
    )


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


class _Tar:
    """A tar archive, passed over from its beginning each time something is asked of it."""

    def __init__(self, location: Location, wanted: Wanted, annotator: Annotator | None) -> None:
        self.location, self.wanted, self.annotator = location, wanted, annotator
        self.name, self.address = location.files[0].name, location.address(location.files[0])

    def members(self) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo, Role]]:
        """Everything in the archive that is neither a folder nor hidden, and what it is."""
        with (
            decompressed(self.location.fs, self.location.files[0].path) as stream,
            tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header) as archive,
        ):
            while member := _next_member(archive):
                if not member.isdir() and (climbs_out(member.name) or not is_hidden(member.name)):
                    yield archive, member, self.wanted.role(_path(member.name), self.annotator is not None)
                archive.members = []  # type: ignore[attr-defined]  # tarfile remembers every header: a gigabyte per million members

    @functools.cached_property
    def layout(self) -> Layout:
        """From one pass over the archive, which also reads the side files."""
        names: dict[str, None] = {}
        sides: dict[str, bytes] = {}
        with suppress(*DAMAGE):  # the items report it
            for archive, member, role in self.members():
                if role == "side":
                    sides[_path(member.name)] = self._side(archive, member)
                elif role == "item" and _tar_harm(member) is None:
                    names[self._name_for_layout(member.name)] = None
        return find_layout(names, self.wanted, packed=True, said=self.annotator(sides) if self.annotator else None)

    @functools.cached_property
    def survey(self) -> tuple[tuple[str, ...], int]:
        """One name per folder and suffix of the items, and how many items there are, with one that tells of damage."""
        names: dict[str, None] = {}
        count = 0
        try:
            for _, member, role in self.members():
                if role == "item":
                    count += 1
                    if _tar_harm(member) is None:
                        names[self._short(member.name)] = None
        except DAMAGE:
            count += 1
        return tuple(names), count

    def sides(self) -> dict[str, bytes]:
        """Content of the side files, by path."""
        with suppress(*DAMAGE):  # the items report it
            return {_path(one.name): self._side(tar, one) for tar, one, role in self.members() if role == "side"}
        return {}

    def _name_for_layout(self, name: str) -> str:
        """One name per folder and suffix says as much as all of them, unless each is looked up."""
        return name if self.annotator else self._short(name)

    def _short(self, name: str) -> str:
        *folders, last = split_path(name)
        return "/".join([*folders, "_" + next(filter(last.lower().endswith, self.wanted.suffixes), "")])

    def _side(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        where = f"{self.location.given}/{_path(member.name)}"
        refused = _tar_harm(member) or _side_too_large(member.size)
        if refused:
            raise side_error(where, refused)
        try:
            return _tar_content(archive, member)
        except DAMAGE as error:
            raise side_error(where, str(error)) from error

    def items(self, start: int, layout: Layout | None = None) -> Iterator[Item]:
        """Items from `start` on, by a layout (its own); damage ends them with one that says so."""
        read = 0
        try:
            for archive, member, role in self.members():
                if role != "item":
                    continue
                if read >= start - 1:  # reading the last one to skip shows whether the archive breaks off in it
                    item = self._item(archive, member, layout)
                    if read >= start:
                        yield item
                read += 1
        except DAMAGE as error:
            if read >= start:
                yield Item(self.name, None, refused=f"archive is truncated after {read} members ({error})")

    def _item(self, archive: tarfile.TarFile, member: tarfile.TarInfo, layout: Layout | None) -> Item:
        address = f"{self.address}/{_path(member.name)}"
        reason = _tar_harm(member) or too_large(member.size, self.wanted)
        if reason:
            return Item(_path(member.name), None, refused=reason, address=address)
        return (layout or self.layout).item(member.name, _tar_content(archive, member), address=address)


def tar_source(location: Location, wanted: Wanted, annotator: Annotator | None = None) -> Source:
    """Members of a tar archive, plain or compressed, in the archive's order.

    The archive is passed over twice: once for its layout and its side files, when the first item is asked for, and
    once for the items. Damage in the middle ends the source with one item that says so.

    Args:
        location: the archive.
        wanted: the modality's words, and which members are side files or papers.
        annotator: what the side files say.

    Raises:
        DataError: not a tar archive, or no item in it. Reading items raises it too: a side file that cannot be read,
            or that names a split which is unknown.
    """
    tar = _Tar(location, wanted, annotator)
    roles = set[Role]()
    try:
        for _, _, role in tar.members():
            roles.add(role)
            if role == "item":
                break
    except DAMAGE as error:
        raise DataError(
            f"{location.given} cannot be read as a tar archive ({error}): check that it was copied whole with `tar "
            f"tf`, or set {wanted.modality}.ingest.format to what it is."
        ) from error
    if "item" not in roles:
        raise _nothing_in(location, wanted, papers=bool(roles))
    return Source(
        f"tar archive {location.given}", location.fingerprint, None, tar.items, remarks=lambda: tar.layout.remarks
    )


def tar_shards_source(location: Location, wanted: Wanted, annotator: Annotator | None = None) -> Source:
    """Tar archives that are one corpus, such as WebDataset's shards, in the order of their names.

    The names of the shards tell the splits. Folders are read over all shards, and what the files beside an item say of
    it shard by shard.

    Args:
        location: the archives.
        wanted: the modality's words, and which members are side files or papers.
        annotator: what the side files of a shard say.

    Raises:
        DataError: reading items raises it: a shard that is no tar archive, or a side file that cannot be read.
    """
    tars = [_Tar(replace(location, files=(file,)), wanted, annotator) for file in location.files]
    kinds = kinds_of_files([file.key for file in location.files])

    @functools.cache
    def whole() -> Layout:
        found = find_layout(dict.fromkeys(name for tar in tars for name in tar.survey[0]), wanted)
        used = settled({*kinds, *found.splits.values()})
        tests = any(used[kind] == "test" for kind in kinds if kind)
        return replace(found, settled=used, unsaid="train" if tests else found.unsaid)

    def items(start: int) -> Iterator[Item]:
        for tar, kind in zip(tars, kinds, strict=True):
            count = tar.survey[1]
            if start < count:
                layout = replace(whole(), said=annotator(tar.sides()) if annotator else None)
                stem = PurePosixPath(tar.location.files[0].key).with_suffix("")
                for item in tar.items(start, layout):
                    split = whole().settled[kind] if kind else item.split
                    label = None if kind == "unlabelled" else item.label
                    yield replace(item, key=f"{stem}/{item.key}", split=split, label=label)
            start = max(start - count, 0)

    return Source(
        f"tar archives {location.given}",
        location.fingerprint,
        None,
        items,
        remarks=lambda: whole().remarks,
        cuts=lambda: list(accumulate(tar.survey[1] for tar in tars)),
    )


def _next_member(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except OSError as error:
        if "Invalid data stream" in str(error):  # how bz2 reports damage
            raise tarfile.ReadError(str(error)) from error
        raise


def _tar_harm(member: tarfile.TarInfo) -> str | None:
    """Why a member must not be read, if so."""
    if climbs_out(member.name):
        return "its path climbs out of the archive"
    if member.issym() or member.islnk():
        return "it is a link"
    return None if member.isreg() else "it is a device or a pipe, not a file"


def _tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    return content.read() if content else b""


def _side_too_large(size: int) -> str | None:
    return f"it is larger than {SIDE_BYTES:,} bytes" if size > SIDE_BYTES else None


# ----------------------------------------------------------------------------------------------- zip


def zip_source(location: Location, wanted: Wanted, annotator: Annotator | None = None) -> Source:
    """Members of a zip archive in the order of its directory, read by random access.

    Args:
        location: the archive.
        wanted: the modality's words, and which members are side files or papers.
        annotator: what the side files say; they are read when the first item is asked for.

    Raises:
        DataError: not a zip archive, cut off, or no item in it. Reading items raises it too: a side file that cannot
            be read, or that names a split which is unknown.
    """
    file = location.files[0]
    try:
        with open_file(location.fs, file.path) as stream, zipfile.ZipFile(stream) as archive:
            roles = {info: wanted.role(_path(_zip_name(info)), annotator is not None) for info in _zip_members(archive)}
    except (*DAMAGE, ValueError) as error:
        raise DataError(
            f"{location.given} cannot be read as a zip archive ({error}): its directory is at the end, so a copy "
            f"that was cut off has none; copy it again, or set {wanted.modality}.ingest.format to what it is."
        ) from error
    infos = [info for info, role in roles.items() if role == "item"]
    if not infos:
        raise _nothing_in(location, wanted, papers=bool(roles))

    @functools.cache
    def layout() -> Layout:
        said = None
        if annotator:
            with open_file(location.fs, file.path) as stream, zipfile.ZipFile(stream) as archive:
                sides = [info for info, role in roles.items() if role == "side"]
                said = annotator({_path(_zip_name(info)): _zip_side(location, archive, info) for info in sides})
        names = (_zip_name(info) for info in infos if not climbs_out(_zip_name(info)))
        return find_layout(names, wanted, packed=True, said=said)

    def items(start: int) -> Iterator[Item]:
        with open_file(location.fs, file.path) as stream, zipfile.ZipFile(stream) as archive:
            for info in infos[start:]:
                yield _zip_item(archive, info, layout(), wanted, location.address(file))

    return Source(
        f"zip archive {location.given}", location.fingerprint, len(infos), items, remarks=lambda: layout().remarks
    )


def _zip_name(info: zipfile.ZipInfo) -> str:
    return info.orig_filename.replace("\\", "/")  # old Windows tools wrote backslashes


def _zip_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    names = ((info, _zip_name(info)) for info in archive.infolist() if not _zip_name(info).endswith("/"))
    return [info for info, name in names if climbs_out(name) or not is_hidden(name)]


def zip_harm(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be read, if so."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if climbs_out(_zip_name(info)):
        return "its path climbs out of the archive"
    if kind not in (0, stat.S_IFREG):
        return "it is a link" if kind == stat.S_IFLNK else "it is a device or a pipe, not a file"
    if info.flag_bits & 0x61:
        return "it is encrypted"
    if info.compress_type not in BOUNDED_METHODS:
        return f"compression method {info.compress_type} is not read, only stored and deflate"
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * info.compress_size:
        return f"{info.compress_size:,} bytes unpack to {info.file_size:,}: a bomb"
    return None


def _zip_item(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, layout: Layout, wanted: Wanted, archive_address: str
) -> Item:
    name = _zip_name(info)
    address = f"{archive_address}/{_path(name)}"
    reason = zip_harm(info) or too_large(info.file_size, wanted)
    if reason:
        return Item(_path(name), None, refused=reason, address=address)
    try:
        content = _zip_content(archive, info)
    except (*DAMAGE, ValueError) as error:
        return layout.item(name, refused=f"unreadable, or not of its declared size: {error}", address=address)
    return layout.item(name, content, address=address)


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Never more than the declared size is unpacked; a member that hides more fails its checksum here."""
    with archive.open(info) as content:
        return content.read(info.file_size)


def _zip_side(location: Location, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    where = f"{location.given}/{_path(_zip_name(info))}"
    refused = zip_harm(info) or _side_too_large(info.file_size)
    if refused:
        raise side_error(where, refused)
    try:
        return _zip_content(archive, info)
    except (*DAMAGE, ValueError) as error:
        raise side_error(where, str(error)) from error
