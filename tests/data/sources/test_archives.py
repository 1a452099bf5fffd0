"""Tar and zip archives, and what is refused of them."""

from __future__ import annotations

import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d2v.errors import DataError
from tests.data.source_files import (
    DRAWINGS,
    TAR_PACKINGS,
    TREE,
    add,
    by_table,
    content,
    expected,
    labels_and_splits,
    read,
    refusals,
    source_of,
    write_tar,
    write_zip,
)


@pytest.mark.parametrize("top", ["", "cifar10/", "./"])
@pytest.mark.parametrize(("name", "mode"), TAR_PACKINGS)
def test_tar_works_as_the_folder_does(tmp_path: Path, name: str, mode: str, top: str) -> None:
    path = write_tar(tmp_path / name, [top + one for one in TREE], mode)
    items = read(path)
    assert labels_and_splits(items) == expected()
    assert items[3].data == content(TREE[3])


@pytest.mark.parametrize("top", ["", "cifar10/"])
def test_zip_works_as_the_folder_does(tmp_path: Path, top: str) -> None:
    path = write_zip(tmp_path / "a.zip", ["__MACOSX/._1.png", *(top + one for one in TREE)])
    source = source_of(path)
    assert labels_and_splits(list(source.items(0))) == expected()
    assert source.total == len(TREE)


def test_readme_does_not_hide_the_common_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["README.md", "pics/cat/1.png", "pics/dog/1.png"])
    assert labels_and_splits(read(path)) == [
        ("README.md", None, None),
        ("cat/1.png", "cat", None),
        ("dog/1.png", "dog", None),
    ]


def test_packed_folder_of_bare_images_has_no_classes(tmp_path: Path) -> None:
    assert labels_and_splits(read(write_zip(tmp_path / "a.zip", ["pics/1.png"]))) == [("1.png", None, None)]


def test_tar_refuses_members_that_could_do_harm(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        add(archive, "cat/1.png", content("cat/1.png"))
        add(archive, "../out.png", b"x")
        add(archive, "/etc/abs.png", b"x")
        add(archive, "C:\\windows.png", b"x")
        add(archive, "cat/soft.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(archive, "cat/hard.png", type=tarfile.LNKTYPE, linkname="cat/1.png")
        add(archive, "cat/pipe.png", type=tarfile.FIFOTYPE)
        add(archive, "cat/device.png", type=tarfile.CHRTYPE)
        add(archive, "cat/bomb.png", bytes(5_000_000))
        add(archive, "dog/2.png", content("dog/2.png"))
    items = read(tmp_path / "a.tar.gz", replace(DRAWINGS, max_item_bytes=1_000_000))
    kept = [item for item in items if item.refused is None]
    assert labels_and_splits(kept) == [("cat/1.png", "cat", None), ("dog/2.png", "dog", None)]
    reasons = refusals(items)
    assert len(reasons) == 8
    assert all(item.data is None for item in items if item.refused)
    for key in ("../out.png", "etc/abs.png", "C:\\windows.png"):
        assert "climbs" in reasons[key]
    for key in ("cat/soft.png", "cat/hard.png"):
        assert "link" in reasons[key]
    assert "device" in reasons["cat/device.png"]
    assert "max_item_bytes" in reasons["cat/bomb.png"]
    assert not (tmp_path.parent / "out.png").exists()


def test_zip_refuses_members_that_could_do_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../out.png", b"x")
        archive.writestr("/abs.png", b"x")
        archive.writestr("..\\back.png", b"x")
        archive.writestr(link, b"/etc/passwd")
        archive.writestr("bomb.png", bytes(4_000_000))
        archive.writestr("big.png", np.random.default_rng(0).bytes(1_500_000))
        archive.writestr("lzma.png", b"x", compress_type=zipfile.ZIP_LZMA)
        archive.writestr("good.png", content("good.png"))
    items = read(path, replace(DRAWINGS, max_item_bytes=1_000_000))
    assert [item.key for item in items if item.refused is None] == ["good.png"]
    reasons = refusals(items)
    assert len(reasons) == len(items) - 1 == 7
    assert "climbs" in reasons["../out.png"]
    assert "climbs" in reasons["../back.png"]
    assert "link" in reasons["link.png"]
    assert "bomb" in reasons["bomb.png"]
    assert "method" in reasons["lzma.png"]


def test_zip_member_that_hides_its_size_or_is_encrypted_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", ["1.png", "2.png"])
    raw = bytearray(path.read_bytes())
    first = raw.index(b"PK\x01\x02")
    raw[first + 24 : first + 28] = struct.pack("<I", 10)  # declared size
    second = raw.index(b"PK\x01\x02", first + 4)
    raw[second + 8] |= 1  # encrypted
    path.write_bytes(raw)
    reasons = refusals(read(path))
    assert "declared size" in reasons["1.png"]
    assert "encrypted" in reasons["2.png"]


@pytest.mark.parametrize(("name", "mode"), TAR_PACKINGS)
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_truncated_tar_keeps_what_came_before(tmp_path: Path, name: str, mode: str, share: float) -> None:
    with tarfile.open(tmp_path / name, mode) as archive:
        for i in range(16):
            add(archive, f"cat/{i}.png", np.random.default_rng(i).bytes(150_000))
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    *kept, last = read(path)
    assert "archive is truncated after" in (last.refused or "")
    assert last.key == name
    assert f"{len(kept)} members" in last.refused
    assert [item.data for item in kept] == [np.random.default_rng(i).bytes(150_000) for i in range(len(kept))]
    assert kept


@pytest.mark.parametrize("at_header", [True, False])
def test_tar_cut_between_members_or_broken_in_the_middle_is_not_taken_for_its_end(
    tmp_path: Path, at_header: bool
) -> None:
    path = write_tar(tmp_path / "a.tar", ["a/1.png", "a/2.png", "a/3.png"])
    raw = bytearray(path.read_bytes())
    second = raw.index(b"a/2.png")
    if at_header:
        path.write_bytes(raw[:second])
    else:
        raw[second : second + 512] = b"\x07" * 512
        path.write_bytes(raw)
    items = read(path)
    assert [item.key for item in items] == ["1.png", "a.tar"]
    assert "after 1 members" in items[1].refused


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    for name in ("a.tar", "a.tar.gz", "a.zip", "a.parquet"):
        (tmp_path / name).write_bytes(b"this is no archive " * 100)
        with pytest.raises(DataError, match=r"drawing\.ingest\.format"):
            source_of(tmp_path / name)


def test_empty_archives_say_so(tmp_path: Path) -> None:
    for path in (write_tar(tmp_path / "a.tar", []), write_zip(tmp_path / "a.zip", [".hidden"])):
        with pytest.raises(DataError, match="holds no files: pack the folder with the drawings again"):
            source_of(path)


# ------------------------------------------------------------------------------------------- side files

ANNOTATED = replace(DRAWINGS, side_names=re.compile(r"(^|/)table\.csv$"))
TABLE = b"path,label,split,artist\n1.png,cat,train,Ann\n2.png,dog,test,Bob\n"


def test_side_file_that_must_not_be_read_is_named(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        add(archive, "1.png", b"1")
        add(archive, "table.csv", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.png", b"1")
        archive.writestr("table.csv", bytes(4_000_000))
    for name, reason in (("a.tar", "it is a link"), ("a.zip", "a bomb")):
        with pytest.raises(DataError, match=rf"{name}/table\.csv cannot be read \(.*{reason}"):
            read(tmp_path / name, ANNOTATED, by_table)


def test_damaged_side_file_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["1.png"], others={"table.csv": TABLE * 100})
    path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(DataError, match=r"a\.tar/table\.csv cannot be read"):
        read(path, ANNOTATED, by_table)
    path = write_zip(tmp_path / "a.zip", ["1.png"], {"table.csv": TABLE})
    raw = bytearray(path.read_bytes())
    at = raw.index(b"table.csv") + len("table.csv")
    raw[at : at + 8] = b"\xff" * 8
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"a\.zip/table\.csv cannot be read"):
        read(path, ANNOTATED, by_table)


def test_truncated_tar_counts_items_only(tmp_path: Path) -> None:
    tables = {"b/table.csv": TABLE, "c/notes.txt": b"words"}
    path = write_tar(tmp_path / "a.tar", ["1.png", "2.png"], others=tables)
    path.write_bytes(path.read_bytes()[: 6 * 512 + 100])  # in the header of notes.txt
    wanted = replace(ANNOTATED, only_suffixes=True)
    source = source_of(path, wanted, by_table)
    keys = [item.key for item in source.items(0)]
    assert keys == ["1.png", "2.png", "a.tar"]
    for start in range(4):
        assert [item.key for item in source.items(start)] == keys[start:]
    assert "after 2 members" in next(source.items(2)).refused


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_archive_of_papers_only_says_so(tmp_path: Path, write: Callable[..., Path]) -> None:
    path = write(tmp_path / ("a.tar" if write is write_tar else "a.zip"), [], others={"README": b"words"})
    assert len(read(path)) == 1
    with pytest.raises(DataError, match="holds no files but papers: pack the folder with the drawings"):
        source_of(path, replace(DRAWINGS, only_suffixes=True))
