"""Images in IDX and npz files."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2v.errors import DataError
from tests.data.source_files import labels_and_splits
from tests.modalities.vision.source_files import LABELS, PICTURES, idx_bytes, read, source_of, write_idx, write_npz


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
    assert labels_and_splits(items) == [("test/000000", "3", "test"), ("test/000001", "2", "test")]


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
