"""Data sets that a library knows by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from d2v.data.sources.named_datasets import dataset_source
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from tests.data.source_files import DRAWINGS

WANTED = replace(DRAWINGS, library="sketchbook")


class Subsets:
    """As torchaudio's classes are: the root must be there, and words for splits differ."""

    words = ("training", "validation", "testing")
    error: type[Exception] = ValueError

    def __init__(self, root: str, subset: str | None = None, download: bool = False) -> None:
        if subset is not None and subset not in self.words:
            raise self.error(f"`subset` must be one of {self.words}")
        assert Path(root).is_dir() == download
        self.subset = subset

    def __len__(self) -> int:
        return 2

    def __getitem__(self, row: int) -> tuple[bytes, str]:
        if row == 1 and self.subset == "testing":
            raise OSError("it is broken")
        return f"{self.subset} {row}".encode(), "Ann"


class Stubborn(Subsets):
    words = ("train", "dev")
    error = RuntimeError


class Other(Subsets):
    words = ("10min",)


class Offline:
    def __init__(self, root: str, url: str = "x") -> None:
        raise RuntimeError("no route to host")


MODULE = ModuleType("sketchbook.datasets")
MODULE.__dict__.update(
    {one.__name__: one for one in (Subsets, Stubborn, Other, Offline)},
    __all__=["Subsets", "Stubborn", "Other", "Offline"],
)


def to_item(key: str, dataset: Any, row: int, names: Sequence[str] | None) -> Item:
    data, artist = dataset[row]
    return Item(key, data, texts={"artist": artist})


def source_of(name: str, **options: Any) -> Source:
    return dataset_source(MODULE, name, options, WANTED, to_item, example="Subsets")


def test_subsets_are_splits_whatever_they_are_called(tmp_path: Path) -> None:
    source = source_of("Subsets", root=str(tmp_path / "new"))
    items = list(source.items(0))
    assert source.total == len(items) == 6
    assert [item.data for item in items[::2]] == [b"training 0", b"validation 0", b"testing 0"]
    assert [item.split for item in items] == ["train", "train", "val", "val", "test", "test"]
    assert items[0] == Item("train/000000", b"training 0", None, "train", texts={"artist": "Ann"})
    assert items[5] == Item("test/000001", None, None, "test", "unreadable: it is broken")
    assert list(source.items(3)) == items[3:]


def test_without_a_test_subset_validation_is_it(tmp_path: Path) -> None:
    items = list(source_of("Stubborn", root=str(tmp_path)).items(0))
    assert [(item.split, item.data) for item in items[1:3]] == [("train", b"train 1"), ("test", b"dev 0")]


def test_an_option_chooses_the_subset(tmp_path: Path) -> None:
    items = list(source_of("Other", root=str(tmp_path), subset="10min").items(0))
    assert [(item.key, item.split) for item in items] == [("items/000000", None), ("items/000001", None)]
    with pytest.raises(ConfigError, match=r"no split train, val or test: set drawing\.ingest\.options\.subset"):
        source_of("Other", root=str(tmp_path))
    with pytest.raises(ConfigError, match=r"sketchbook:Other does not take these drawing\.ingest\.options: .subset"):
        source_of("Other", root=str(tmp_path), subset="11min")


def test_unknown_classes_and_failures_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sketchbook\.datasets has no Subset; near: Subsets.*sketchbook:Subsets\."):
        source_of("Subset")
    with pytest.raises(ConfigError, match="unexpected keyword argument 'subst'"):
        source_of("Subsets", root=str(tmp_path / "unused"), subst="training")
    assert not (tmp_path / "unused").exists()
    with pytest.raises(DataError, match=r"no route to host.*by hand, or set drawing\.ingest\.source"):
        source_of("Offline", root=str(tmp_path))
