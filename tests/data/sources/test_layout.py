"""What the names of files and the tables beside them say."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from d2v.data.sources.layout import Annotation, find_layout
from d2v.data.sources.source import Item
from d2v.errors import DataError
from tests.data.source_files import (
    DRAWINGS,
    by_table,
    content,
    labels_and_splits,
    read,
    source_of,
    write_any,
    write_tree,
)

KINDS = ("folder", "tar", "zip")
ANNOTATED = replace(DRAWINGS, side_names=re.compile(r"(^|/)(table\.csv|[^/]+\.artist)$"))


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
        (["train/a/1.png", "dev/a/1.png"], [("dev/a/1.png", "a", "test"), ("train/a/1.png", "a", "train")]),
    ],
)
def test_what_folders_mean(tmp_path: Path, names: list[str], wanted: list[tuple[str, str | None, str | None]]) -> None:
    assert labels_and_splits(read(write_tree(tmp_path, names))) == wanted


def test_validation_is_kept_apart_where_there_is_a_test_split(tmp_path: Path) -> None:
    write_tree(tmp_path, ["train/a/1.png", "val/a/1.png", "test/a/1.png"])
    assert Counter(item.split for item in read(tmp_path)) == {"train": 1, "val": 1, "test": 1}


def test_dev_is_the_validation_split(tmp_path: Path) -> None:
    write_tree(tmp_path, ["train/a/1.png", "dev/a/1.png", "test/a/1.png"])
    assert [item.split for item in read(tmp_path)] == ["val", "test", "train"]


# ------------------------------------------------------------------------------------------------ papers


@pytest.mark.parametrize("kind", KINDS)
def test_papers_are_left_out_and_strangers_are_not(tmp_path: Path, kind: str) -> None:
    papers = ["README", "LICENSE.TXT", "readme.md", "cat/notes.txt", "meta.JSON", "cat/splits.tsv", "SHA256SUMS"]
    names = ["cat/1.png", "cat/license_plate.png", "dog/2.SVG.gz", "dog/3.bmp", "dog/4"]
    path = write_any(kind, tmp_path, [*names, *papers])
    source = source_of(path, replace(DRAWINGS, only_suffixes=True))
    assert sorted(item.key for item in source.items(0)) == sorted(names)
    assert source.total in (len(names), None)
    assert len(read(path)) == len(names) + len(papers)


@pytest.mark.parametrize("kind", KINDS)
def test_suffixes_of_two_parts_tell_items(tmp_path: Path, kind: str) -> None:
    path = write_any(kind, tmp_path, ["pics/a/1.svg.gz", "pics/b/2.svg.gz", "zebra.gz"])
    assert labels_and_splits(read(path)) == [
        ("a/1.svg.gz", "a", None),
        ("b/2.svg.gz", "b", None),
        ("zebra.gz", None, None),
    ]


# ------------------------------------------------------------------------------------------- side files


def said(items: list[Item]) -> list[tuple[str, str | None, str | None, dict[str, str]]]:
    return [(item.key, item.label, item.split, dict(item.texts)) for item in sorted(items, key=lambda item: item.key)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top", ["", "set/"])
def test_what_a_table_says_wins_over_the_folders(tmp_path: Path, kind: str, top: str) -> None:
    table = (
        b"path,label,split,artist\n"
        b"train/cat/1.png,tiger,test,Ann\n"
        b"train/cat/2.png,,,Bob\n"
        b"dev/dog/3.png,wolf,Validation,Cy\n"
    )
    names = [f"{top}{name}" for name in ("train/cat/1.png", "train/cat/2.png", "dev/dog/3.png", "dev/dog/4.png")]
    items = read(write_any(kind, tmp_path, names, {f"{top}table.csv": table}), ANNOTATED, by_table)
    assert said(items) == [
        ("dev/dog/3.png", "wolf", "val", {"artist": "Cy"}),
        ("dev/dog/4.png", "dog", "val", {}),
        ("train/cat/1.png", "tiger", "test", {"artist": "Ann"}),
        ("train/cat/2.png", None, "train", {"artist": "Bob"}),
    ]
    assert {item.key: item.data for item in items} == {name.removeprefix(top): content(name) for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_test_split_in_the_table_validation_is_it(tmp_path: Path, kind: str) -> None:
    table = b"path,split,artist\nall/1.png,train,Ann\nall/2.png,dev,Bob\n"
    path = write_any(kind, tmp_path, ["all/1.png", "all/2.png", "all/3.png"], {"table.csv": table})
    items = read(path, ANNOTATED, by_table)
    assert [item.split for item in items] == ["train", "test", "train"]
    assert [item.texts for item in items] == [{"artist": "Ann"}, {"artist": "Bob"}, {}]


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_split_in_a_table_says_what_to_write(tmp_path: Path, kind: str) -> None:
    path = write_any(kind, tmp_path, ["1.png"], {"table.csv": b"path,split,artist\n1.png,tset,Ann\n"})
    with pytest.raises(DataError, match=r"1\.png is in the split 'tset'.*write train, val"):
        read(path, ANNOTATED, by_table)


@pytest.mark.parametrize("kind", KINDS)
def test_side_files_are_all_read_once_before_the_items(tmp_path: Path, kind: str) -> None:
    asked: list[dict[str, bytes]] = []

    def annotator(sides):
        asked.append(dict(sides))
        return lambda path: Annotation(texts={"artist": sides[path.replace(".png", ".artist")].decode()})

    artists = {"z/1.artist": b"Ann", "z/2.artist": b"Bob"}
    source = source_of(write_any(kind, tmp_path, ["z/1.png", "z/2.png"], artists), ANNOTATED, annotator)
    assert not asked
    for start in (0, 1, 0):
        assert [item.texts["artist"] for item in source.items(start)] == ["Ann", "Bob"][start:]
    assert asked == [artists]


@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_items_where_nothing_reads_them(tmp_path: Path, kind: str) -> None:
    path = write_any(kind, tmp_path, ["1.png"], {"table.csv": b""})
    assert len(read(path, ANNOTATED)) == 2
    assert len(read(path, ANNOTATED, lambda sides: lambda path: None)) == 1


def test_side_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path, ["1.png"])
    (tmp_path / "table.csv").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"table\.csv cannot be read \(.*No such file.*mend it, or remove it"):
        read(tmp_path, ANNOTATED, by_table)


def test_side_file_that_is_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2v.data.sources.locations.SIDE_BYTES", 100)
    monkeypatch.setattr("d2v.data.sources.archives.SIDE_BYTES", 100)
    for kind in KINDS:
        path = write_any(kind, tmp_path, ["1.png"], {"table.csv": bytes(101)})
        with pytest.raises(DataError, match=r"table\.csv cannot be read \(it is larger than 100 bytes"):
            read(path, ANNOTATED, by_table)


def test_layout_of_names_alone() -> None:
    layout = find_layout(["set/train/a/1.png", "set/test/b/2.png"], DRAWINGS)
    assert layout.item("set/test/b/2.png") == Item("test/b/2.png", None, "b", "test")
    assert layout.item("set/train/a/1.png", b"x", "no").refused == "no"


# ------------------------------------------------------------------------------------- names of splits


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (
            ["training_set/x/1.png", "test_set/y/2.png"],
            [("test_set/y/2.png", "y", "test"), ("training_set/x/1.png", "x", "train")],
        ),
        (
            ["train/train/x/1.png", "test/test/y/2.png"],
            [("test/test/y/2.png", "y", "test"), ("train/train/x/1.png", "x", "train")],
        ),
        (
            ["seg_train/seg_train/sea/1.png", "seg_test/seg_test/ice/2.png", "seg_pred/3.png"],
            [
                ("seg_pred/3.png", None, "train"),
                ("seg_test/seg_test/ice/2.png", "ice", "test"),
                ("seg_train/seg_train/sea/1.png", "sea", "train"),
            ],
        ),
        (
            ["train2017/1.png", "val2017/2.png", "unlabeled2017/3.png"],
            [
                ("train2017/1.png", None, "train"),
                ("unlabeled2017/3.png", None, "train"),
                ("val2017/2.png", None, "test"),
            ],
        ),
        (
            ["20news-bydate-train/a/1.png", "20news-bydate-test/b/2.png"],
            [("20news-bydate-test/b/2.png", "b", "test"), ("20news-bydate-train/a/1.png", "a", "train")],
        ),
        (
            ["bullet train/1.png", "test tube/2.png"],
            [("bullet train/1.png", "bullet train", None), ("test tube/2.png", "test tube", None)],
        ),
        (
            ["cat/train/1.png", "dog/test/2.png"],
            [("cat/train/1.png", "cat", "train"), ("dog/test/2.png", "dog", "test")],
        ),
        (
            ["train/images/1.png", "test/images/2.png"],
            [("test/images/2.png", None, "test"), ("train/images/1.png", None, "train")],
        ),
        (["fold1/a/1.png", "fold2/b/2.png"], [("fold1/a/1.png", "a", "train"), ("fold2/b/2.png", "b", "test")]),
        (
            ["train_1.png", "test_2.png", "x.png"],
            [("test_2.png", None, "test"), ("train_1.png", None, "train"), ("x.png", None, "train")],
        ),
        (
            ["train/pos/1.png", "train/unsup/2.png", "test/pos/3.png"],
            [
                ("test/pos/3.png", "pos", "test"),
                ("train/pos/1.png", "pos", "train"),
                ("train/unsup/2.png", None, "train"),
            ],
        ),
    ],
)
def test_splits_as_people_name_them(
    tmp_path: Path, kind: str, names: list[str], wanted: list[tuple[str, str | None, str | None]]
) -> None:
    items = read(write_any(kind, tmp_path, names), annotator=lambda sides: lambda path: None)
    assert sorted(labels_and_splits(items), key=lambda item: item[0]) == wanted


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["bus/1.png", "train/1.png"], "names of classes look like names of splits: train"),
        (
            ["bullet train/1.png", "test tube/1.png"],
            "names of classes look like names of splits: bullet train, test tube",
        ),
        (["train/a/1.png", "test/a/1.png", "extra/b/1.png"], "extra beside the splits test, train is no split"),
    ],
)
def test_doubtful_names_are_said(tmp_path: Path, names: list[str], said: str) -> None:
    source = source_of(write_tree(tmp_path, names))
    assert [said in remark for remark in source.remarks()] == [True]


def test_plain_names_are_not_remarked_on(tmp_path: Path) -> None:
    assert not source_of(write_tree(tmp_path, ["train/a/1.png", "test/b/2.png"])).remarks()
