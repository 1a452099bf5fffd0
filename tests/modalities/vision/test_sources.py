"""Named sources, and what every source promises."""

from __future__ import annotations

import gzip
import io
import itertools
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from d2v.data.sources.source import Item
from d2v.errors import ConfigError, DataError
from tests.data.source_files import TREE, expected, labels_and_splits, write_parquet, write_tar, write_tree, write_zip
from tests.modalities.vision.source_files import PICTURES, read, source_of, write_idx, write_npz

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
        assert labels_and_splits(read(local)) == expected()
        with pytest.raises(DataError, match=r"similar .*a\.zip"):
            source_of("memory://sources/a.zipp")
    finally:
        memory.rm("/sources", recursive=True)


def test_wrong_places_name_what_is_near_and_the_fix(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    choices = r"a folder, an archive, a URL, glyphs, digits or torchvision:<Class>\."
    with pytest.raises(DataError, match=rf"similar cifar10.*Set vision\.ingest\.source to {choices}"):
        source_of(tmp_path / "cifr10" / "train")
    with pytest.raises(DataError, match="embedded corpus glyphs"):
        source_of("glyhps")
    with pytest.raises(DataError, match="empty folder"):
        source_of(tmp_path / "cifar10")
    with pytest.raises(DataError, match="Protocol not known"):
        source_of("nowhere://x")
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"Cannot tell.*vision\.ingest\.format to one of tar, zip, idx, npz, parquet"):
        source_of(tmp_path / "a.rar")
    with pytest.raises(DataError, match="is a file, not a folder"):
        source_of(tmp_path / "a.rar", format="folder")
    with pytest.raises(ConfigError, match=r"mean nothing to the path.*for glyphs, digits, torchvision and URLs"):
        source_of(tmp_path, options={"count": 3})


def test_archives_say_what_is_wrong_in_the_words_of_vision(tmp_path: Path) -> None:
    for name in ("a.tar", "a.tar.gz", "a.zip", "a.npz", "a.parquet", "train-images-idx3-ubyte.gz"):
        (tmp_path / name).write_bytes(b"this is no archive " * 100)
        with pytest.raises(DataError, match=r"vision\.ingest\.format|savez"):
            source_of(tmp_path / name)
    with pytest.raises(DataError, match="pack the folder with the images again"):
        source_of(write_tar(tmp_path / "empty.tar", []))
    (item,) = read(write_zip(tmp_path / "b.zip", ["1.png"]), max_item_bytes=3)
    assert item.refused == "32 bytes are more than vision.ingest.max_item_bytes = 3"
    (tmp_path / "two").mkdir()
    with pytest.raises(DataError, match=r"is a folder of 4 files, format zip reads one: set vision\.ingest\.source"):
        source_of(write_idx(tmp_path / "two"), format="zip")


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
