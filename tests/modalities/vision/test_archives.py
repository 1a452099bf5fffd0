"""Folders and archives of images, and what is refused of them."""

from __future__ import annotations

import os
import struct
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from d2v.errors import DataError
from tests.modalities.vision.source_files import (
    TAR_PACKINGS,
    TREE,
    add,
    content,
    expected,
    places,
    read,
    refusals,
    source_of,
    write_tar,
    write_tree,
    write_zip,
)


def test_folder_with_splits_and_classes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / "train" / ".git").mkdir()
    (tmp_path / "train" / ".git" / "x.png").write_bytes(b"hidden")
    source = source_of(tmp_path)
    items = list(source.items(0))
    assert places(items) == expected()
    assert source.total == len(items)
    assert source.class_names is None
    assert items[0].data == content(TREE[0])


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["1.png", "2.png"], [("1.png", None, None), ("2.png", None, None)]),
        (["cat/1.png", "dog/2.png"], [("cat/1.png", "cat", None), ("dog/2.png", "dog", None)]),
        (["only/1.png"], [("only/1.png", "only", None)]),
        (["train/1.png", "test/2.png"], [("test/2.png", None, "test"), ("train/1.png", None, "train")]),
        (["Train/a/1.png", "VAL/a/1.png"], [("Train/a/1.png", "a", "train"), ("VAL/a/1.png", "a", "test")]),
        (["bus/1.png", "train/1.png"], [("bus/1.png", "bus", None), ("train/1.png", "train", None)]),
        (["set/cat/1.png", "set/dog/1.png"], [("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]),
        (["train/n01/images/1.png"], [("train/n01/images/1.png", "n01", "train")]),
    ],
)
def test_what_folders_mean(tmp_path: Path, names: list[str], wanted: list[tuple[str, str | None, str | None]]) -> None:
    assert places(read(write_tree(tmp_path, names))) == wanted


def test_validation_is_kept_apart_where_there_is_a_test_split(tmp_path: Path) -> None:
    write_tree(tmp_path, ["train/a/1.png", "val/a/1.png", "test/a/1.png"])
    assert Counter(item.split for item in read(tmp_path)) == {"train": 1, "val": 1, "test": 1}


def test_folder_passes_other_files_on_and_refuses_what_it_must_not_open(tmp_path: Path) -> None:
    write_tree(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "README").write_text("words")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "big.png").write_bytes(bytes(2000))
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "dog" / "2.png").symlink_to(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    items = read(tmp_path, max_item_bytes=1000)
    assert {item.key: item.data is None for item in items} == {
        "README": False,
        "cat/1.png": False,
        "cat/big.png": True,
        "cat/gone.png": True,
        "dog/1.png": False,
        "dog/2.png": False,
        "dog/pipe.png": True,
    }
    reasons = refusals(items)
    assert "max_item_bytes" in reasons["cat/big.png"]
    assert "No such file" in reasons["cat/gone.png"]
    assert "pipe" in reasons["dog/pipe.png"]


@pytest.mark.parametrize("top", ["", "cifar10/", "./"])
@pytest.mark.parametrize(("name", "mode"), TAR_PACKINGS)
def test_tar_works_as_the_folder_does(tmp_path: Path, name: str, mode: str, top: str) -> None:
    path = write_tar(tmp_path / name, [top + one for one in TREE], mode)
    items = read(path)
    assert places(items) == expected()
    assert items[3].data == content(TREE[3])


@pytest.mark.parametrize("top", ["", "cifar10/"])
def test_zip_works_as_the_folder_does(tmp_path: Path, top: str) -> None:
    path = write_zip(tmp_path / "a.zip", ["__MACOSX/._1.png", *(top + one for one in TREE)])
    source = source_of(path)
    assert places(list(source.items(0))) == expected()
    assert source.total == len(TREE)


def test_readme_does_not_hide_the_common_folder(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", ["README.md", "pics/cat/1.png", "pics/dog/1.png"])
    assert places(read(path)) == [("README.md", None, None), ("cat/1.png", "cat", None), ("dog/1.png", "dog", None)]


def test_packed_folder_of_bare_images_has_no_classes(tmp_path: Path) -> None:
    assert places(read(write_zip(tmp_path / "a.zip", ["pics/1.png"]))) == [("1.png", None, None)]


def test_folder_that_holds_one_archive_is_that_archive(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", TREE, "w:gz")
    (tmp_path / "README.md").write_text("words")
    assert places(read(tmp_path)) == expected()


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
    items = read(tmp_path / "a.tar.gz", max_item_bytes=1_000_000)
    kept = [item for item in items if item.refused is None]
    assert places(kept) == [("cat/1.png", "cat", None), ("dog/2.png", "dog", None)]
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
    items = read(path, max_item_bytes=1_000_000)
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
    for name in ("a.tar", "a.tar.gz", "a.zip", "a.npz", "a.parquet", "train-images-idx3-ubyte.gz"):
        (tmp_path / name).write_bytes(b"this is no archive " * 100)
        with pytest.raises(DataError, match=r"vision\.ingest\.format|savez"):
            source_of(tmp_path / name)


def test_empty_archives_say_so(tmp_path: Path) -> None:
    for path in (write_tar(tmp_path / "a.tar", []), write_zip(tmp_path / "a.zip", [".hidden"])):
        with pytest.raises(DataError, match="holds no files"):
            source_of(path)
