"""Sources: every format yields the same items, goes on at any of them, and refuses what could do harm."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import json
import os
import struct
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from d2v.data.items import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.sources import open_source

TREE = [f"{split}/{name}/{i}.png" for split in ("test", "train") for name in ("cat", "dog") for i in range(2)]
PICTURES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 1, 2, 1, 3, 2])
TAR_PACKINGS = [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz"), ("a.tar.bz2", "w:bz2"), ("a.tar.xz", "w:xz")]


def source_of(path: Path | str, **values: Any) -> Source:
    return open_source(VisionIngestConfig(source=str(path), **values))


def read(path: Path | str, **values: Any) -> list[Item]:
    return list(source_of(path, **values).items(0))


def places(items: list[Item]) -> list[tuple[str, str | None, str | None]]:
    return [(item.key, item.label, item.split) for item in items]


def refusals(items: list[Item]) -> dict[str, str]:
    return {item.key: item.refused for item in items if item.refused}


def content(name: str) -> bytes:
    """A small PNG that differs from name to name, whatever folder the names are packed in."""
    stream = io.BytesIO()
    name = "/".join(name.split("/")[-3:])
    Image.new("RGB", (4, 4), tuple(hashlib.sha256(name.encode()).digest()[:3])).save(stream, "png")
    return stream.getvalue()


def expected(names: list[str] = TREE) -> list[tuple[str, str, str]]:
    return [(name, name.split("/")[1], name.split("/")[0]) for name in names]


def write_tree(folder: Path, names: list[str] = TREE) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name))
    return folder


def write_tar(path: Path, names: list[str], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            add(archive, name, content(name))
    return path


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", **attributes: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for attribute, value in attributes.items():
        setattr(member, attribute, value)
    archive.addfile(member, io.BytesIO(data))


def write_zip(path: Path, names: list[str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content(name))
    return path


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, packed: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    end, pack = (".gz", gzip.compress) if packed else ("", bytes)
    for name, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (folder / f"{name}-images-idx3-ubyte{end}").write_bytes(pack(idx_bytes(PICTURES[rows])))
        (folder / f"{name}-labels-idx1-ubyte{end}").write_bytes(pack(idx_bytes(LABELS[rows])))
    return folder


def write_npz(path: Path, save: Callable[..., None] = np.savez) -> Path:
    save(path, x_train=PICTURES[:4], y_train=LABELS[:4], x_test=PICTURES[4:], y_test=LABELS[4:])
    return path


def write_parquet(folder: Path, rows: int = 4, group: int = 2, metadata: dict[bytes, bytes] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for split in ("train", "test"):
        names = [f"{split}/x/{i}.png" for i in range(rows)]
        images = [{"bytes": content(name), "path": name} for name in names]
        table = pa.table({"image": images, "label": [i % 2 for i in range(rows)]})
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{split}-00000.parquet", row_group_size=group)
    return folder


# ------------------------------------------------------------------------------------ folders and archives


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


# ------------------------------------------------------------------------------------------------ refusals


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


# ------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("packed", [True, False])
def test_idx_folder(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed)
    (tmp_path / "LICENSE").write_text("MIT")
    source = source_of(tmp_path)
    items = list(source.items(0))
    assert [item.split for item in items] == ["train"] * 4 + ["test"] * 2
    assert [item.label for item in items] == ["3", "1", "2", "1", "3", "2"]
    assert source.class_names == ("1", "2", "3")
    assert source.total == 6
    np.testing.assert_array_equal(np.stack([item.data for item in items]), PICTURES)


def test_idx_single_file_finds_its_labels(tmp_path: Path) -> None:
    items = read(write_idx(tmp_path) / "t10k-images-idx3-ubyte.gz")
    assert places(items) == [("test/000000", "3", "test"), ("test/000001", "2", "test")]


@pytest.mark.parametrize("packed", [True, False])
def test_idx_truncated_accounts_for_every_row(tmp_path: Path, packed: bool) -> None:
    path = write_idx(tmp_path, packed) / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    path.write_bytes(path.read_bytes()[:-25])
    items = read(tmp_path)
    assert len(items) == 6
    kept = [item for item in items if item.refused is None]
    assert [item.split for item in kept][-2:] == ["test", "test"]
    assert len(kept) < 6
    assert all("truncated" in item.refused for item in items if item.data is None)


def test_idx_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 28, 28) + bytes(784))
    with pytest.raises(DataError, match="promises more"):
        source_of(path)


def test_idx_labels_that_do_not_fit_say_so(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(LABELS[:3])))
    with pytest.raises(DataError, match="for 4 images"):
        source_of(tmp_path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Callable[..., None]) -> None:
    source = source_of(write_npz(tmp_path / "a.npz", save))
    items = list(source.items(0))
    assert [item.split for item in items] == ["train"] * 4 + ["test"] * 2
    assert [item.label for item in items] == ["3", "1", "2", "1", "3", "2"]
    assert source.class_names == ("1", "2", "3")
    np.testing.assert_array_equal(np.stack([item.data for item in items]), PICTURES)


@pytest.mark.parametrize(
    ("arrays", "splits", "labels"),
    [
        (dict(images=PICTURES, labels=LABELS[:, None]), {None}, ["3", "1"]),
        (dict(x=PICTURES, y=np.array(list("abcabc"))), {None}, ["a", "b"]),
        (dict(train_images=PICTURES, train_labels=LABELS, val_images=PICTURES), {"train", "test"}, ["3", "1"]),
        (dict(X_train=PICTURES, Y_train=np.eye(6)), {"train"}, ["0", "1"]),
        (dict(data=PICTURES), {None}, [None, None]),
    ],
)
def test_npz_names(tmp_path: Path, arrays: dict[str, Any], splits: set[str | None], labels: list[str | None]) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    items = read(tmp_path / "a.npz")
    assert {item.split for item in items} == splits
    assert [item.label for item in items[:2]] == labels


@pytest.mark.parametrize(
    ("values", "shape", "kind"),
    [
        (np.zeros((2, 3, 8, 9), np.uint8), (8, 9, 3), "uint8"),
        (np.zeros((2, 8, 9, 3), np.int64), (8, 9, 3), "uint8"),
        (np.full((2, 8, 9), 60_000, np.uint16), (8, 9), "uint16"),
        (np.full((2, 8, 9), 0.5), (8, 9), "float32"),
        (np.ones((2, 8, 9), bool), (8, 9), "uint8"),
    ],
)
def test_npz_pixel_types(tmp_path: Path, values: np.ndarray, shape: tuple[int, ...], kind: str) -> None:
    np.savez(tmp_path / "a.npz", images=values)
    data = read(tmp_path / "a.npz")[1].data
    assert data.shape == shape
    assert data.dtype == kind


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(weights=PICTURES), "none of it named like images"),
        (dict(x=PICTURES.reshape(6, 20)), r"shape \(6, 20\)"),
        (dict(x=np.asfortranarray(PICTURES)), "Fortran"),
        (dict(x=np.array([None, PICTURES], dtype=object)), "object"),
        (dict(x=PICTURES, y=LABELS[:2]), "for 6 images"),
    ],
)
def test_npz_that_cannot_be_used_says_why(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        source_of(tmp_path / "a.npz")


def test_npz_integers_beyond_pixels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([[[0, 255]], [[0, 256]]]))
    first, second = read(tmp_path / "a.npz")
    assert first.refused is None
    assert "uint8" in second.refused


# ------------------------------------------------------------------------------------------------- tables


def test_parquet_folder(tmp_path: Path) -> None:
    source = source_of(write_parquet(tmp_path))
    items = list(source.items(0))
    assert source.total == 8
    assert source.class_names == ("0", "1")
    assert Counter((item.split, item.label) for item in items) == {
        (split, label): 2 for split in ("train", "test") for label in "01"
    }
    assert {item.data for item in items if item.split == "train"} == {content(f"train/x/{i}.png") for i in range(4)}


def test_parquet_bytes_column_names_in_metadata_and_empty_rows(tmp_path: Path) -> None:
    features = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    table = pa.table({"IMG": [b"one", None, b"three"], "label": [1, 0, None]})
    metadata = {b"huggingface": json.dumps(features).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    source = source_of(tmp_path / "a.parquet")
    items = list(source.items(0))
    assert source.class_names == ("cat", "dog")
    assert [(item.data, item.label) for item in items] == [(b"one", "dog"), (None, "cat"), (b"three", None)]
    assert "no image bytes" in items[1].refused


def test_parquet_damaged_row_group_accounts_for_every_row(tmp_path: Path) -> None:
    write_parquet(tmp_path)
    path = tmp_path / "train-00000.parquet"
    raw = bytearray(path.read_bytes())
    raw[4:60] = b"\xff" * 56
    path.write_bytes(raw)
    items = read(tmp_path)
    assert len(items) == 8
    assert [item.split for item in items if item.refused] == ["train"] * 2


def test_parquet_without_images_names_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="columns text"):
        source_of(tmp_path / "a.parquet")


# ------------------------------------------------------------------------------------------ named corpora


@pytest.mark.parametrize(
    ("name", "options", "total"), [("glyphs", dict(count=9, test_count=4), 13), ("digits", {}, 1797)]
)
def test_embedded(name: str, options: dict[str, Any], total: int) -> None:
    source = source_of(name, options=options)
    items = list(source.items(0))
    assert len(items) == source.total == total
    assert {item.split for item in items} == {"train", "test"}
    assert {item.label for item in items} <= set(source.class_names or ())
    assert items[0].data.dtype == np.uint8
    assert items[0].data.shape == (32, 32, 3)


def test_embedded_refuses_unknown_options_and_changes_with_them() -> None:
    with pytest.raises(ConfigError, match="did you mean count"):
        source_of("glyphs", options={"cout": 3})
    assert source_of("glyphs").fingerprint != source_of("glyphs", options={"seed": 1}).fingerprint


def test_torchvision_by_name(tmp_path: Path) -> None:
    source = source_of("torchvision:FakeData", options=dict(size=3, image_size=[3, 8, 9]))
    items = list(source.items(0))
    assert source.total == len(items) == 3
    assert items[0].data.shape == (8, 9, 3)
    assert items[0].label.isdigit()
    with pytest.raises(ConfigError, match="CIFAR10"):
        source_of("torchvision:CIFR10")
    with pytest.raises(ConfigError, match="options"):
        source_of("torchvision:FakeData", options={"sice": 3})


def test_torchvision_reads_the_splits_of_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST").rename(tmp_path / "raw")
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "raw").rename(tmp_path / "MNIST" / "raw")
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    items = read("torchvision:MNIST", options={"root": str(tmp_path)})
    assert [item.split for item in items] == ["train"] * 4 + ["test"] * 2
    np.testing.assert_array_equal(np.stack([item.data for item in items]), PICTURES)


def test_torchvision_that_cannot_be_downloaded_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(DataError, match=r"no route to host.*by hand"):
        source_of("torchvision:CIFAR10", options={"root": str(tmp_path)})


# -------------------------------------------------------------------------------------------- every source


def _sources(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    cut = write_tar(folder / "cut.tar.gz", TREE, "w:gz")
    cut.write_bytes(cut.read_bytes()[:-40])
    short = write_idx(folder / "short") / "train-images-idx3-ubyte.gz"
    short.write_bytes(short.read_bytes()[:-25])
    return {
        "folder": (str(write_tree(folder / "tree")), {}),
        "tar": (str(write_tar(folder / "a.tar", TREE)), {}),
        "truncated tar": (str(cut), {}),
        "zip": (str(write_zip(folder / "a.zip", TREE)), {}),
        "idx": (str(write_idx(folder / "idx", packed=False)), {}),
        "truncated idx": (str(folder / "short"), {}),
        "npz": (str(write_npz(folder / "a.npz", np.savez_compressed)), {}),
        "parquet": (str(write_parquet(folder / "parquet", rows=5, group=3)), {}),
        "glyphs": ("glyphs", dict(count=5, test_count=3)),
    }


def test_every_source_goes_on_at_any_item(tmp_path: Path) -> None:
    for name, (path, options) in _sources(tmp_path).items():
        source = source_of(path, options=options)
        whole = [_plain(item) for item in source.items(0)]
        assert len({item[0] for item in whole}) == len(whole), name
        for start in range(len(whole) + 2):
            assert [_plain(item) for item in source.items(start)] == whole[start:], (name, start)


def test_every_source_can_be_read_twice_and_left_early(tmp_path: Path) -> None:
    for path, options in _sources(tmp_path).values():
        source = source_of(path, options=options)
        first = [_plain(item) for item in itertools.islice(source.items(0), 3)]
        assert first == [_plain(item) for item in itertools.islice(source_of(path, options=options).items(0), 3)]
        assert source.fingerprint == source_of(path, options=options).fingerprint


def _plain(item: Item) -> tuple[Any, ...]:
    data = item.data.tobytes() if isinstance(item.data, np.ndarray) else item.data
    return item.key, data, item.label, item.split, item.refused


def test_fingerprint_follows_the_files_not_their_place(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "a")
    before = source_of(folder).fingerprint
    moved = folder.rename(tmp_path / "b")
    assert source_of(moved).fingerprint == before
    os.utime(moved / TREE[0], (1, 1))
    touched = source_of(moved).fingerprint
    assert touched != before
    (moved / TREE[0]).unlink()
    assert source_of(moved).fingerprint != touched


def test_urls_work_as_paths_do(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    local = write_tree(tmp_path / "tree")
    write_tar(tmp_path / "a.tar.gz", TREE, "w:gz")
    write_zip(tmp_path / "a.zip", TREE)
    write_npz(tmp_path / "a.npz")
    write_parquet(tmp_path / "tables")
    write_idx(tmp_path / "idx")
    memory.put(str(tmp_path), "/sources", recursive=True)
    try:
        for name in ("tree", "a.tar.gz", "a.zip", "a.npz", "tables", "idx"):
            wanted = [_plain(item) for item in read(tmp_path / name)]
            assert [_plain(item) for item in read(f"memory://sources/{name}")] == wanted, name
            assert [_plain(item) for item in read((tmp_path / name).as_uri())] == wanted, name
        assert places(read(local)) == expected()
        with pytest.raises(DataError, match=r"similar .*a\.zip"):
            source_of("memory://sources/a.zipp")
    finally:
        memory.rm("/sources", recursive=True)


def test_wrong_places_name_what_is_near_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(DataError, match=r"similar cifar10.*Set vision\.ingest\.source"):
        source_of(tmp_path / "cifr10" / "train")
    with pytest.raises(DataError, match="embedded corpus glyphs"):
        source_of("glyhps")
    with pytest.raises(DataError, match="empty folder"):
        source_of(tmp_path / "cifar10")
    with pytest.raises(DataError, match="Protocol not known"):
        source_of("nowhere://x")
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"Cannot tell the format.*vision\.ingest\.format"):
        source_of(tmp_path / "a.rar")
    with pytest.raises(DataError, match="is a file, not a folder"):
        source_of(tmp_path / "a.rar", format="folder")
    with pytest.raises(ConfigError, match="mean nothing to the path"):
        source_of(tmp_path, options={"count": 3})


def test_a_failing_disk_is_an_error_and_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_tar(tmp_path / "a.tar", TREE))
    items = source.items(0)
    next(items)

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", fail)
    with pytest.raises(DataError, match=r"Input/output error.*goes on where it stopped"):
        next(items)


@pytest.mark.data
def test_real_cifar10_and_fashion_mnist(shared_data: Path) -> None:
    items = itertools.islice(
        source_of(shared_data / "vision/cifar10/cifar10-imagefolder.tar.gz").items(0), 0, 20_000, 999
    )
    found = list(items)
    assert {item.split for item in found} == {"train", "test"}
    assert {item.label for item in found} <= {
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    }
    assert Image.open(io.BytesIO(found[0].data)).size == (32, 32)

    fashion = source_of(shared_data / "vision/fashion-mnist")
    assert fashion.total == 70_000
    assert fashion.class_names == tuple("0123456789")
    assert [item.split for item in (next(fashion.items(59_999)), next(fashion.items(60_000)))] == ["train", "test"]
    assert next(fashion.items(0)).data.shape == (28, 28)
