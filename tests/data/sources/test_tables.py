"""Parquet tables."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2v.data.sources.tables import Columns
from d2v.errors import DataError
from tests.data.source_files import DRAWINGS, content, read, refusals, source_of, write_parquet


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
    message = r"columns text, none of them with drawings: name it image \(encoded files as bytes, or {bytes, path}\)\."
    with pytest.raises(DataError, match=message):
        source_of(tmp_path / "a.parquet")


# ------------------------------------------------------------------------------------------------- texts

COLUMNS = Columns(texts={"artist": ("painter", "artist_id"), "title": ("title",), "year": ("year",)})


def test_texts_come_from_the_first_column_that_is_there(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "Artist_ID": [7, 8], "painter": ["Ann", None], "title": ["one", "two"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet", columns=COLUMNS)
    assert first.texts == {"artist": "Ann", "title": "one"}
    assert second.texts == {"title": "two"}
    assert read(tmp_path / "a.parquet")[0].texts == {}


def test_texts_are_strings_and_may_be_the_label_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": [b"1", None], "year": [1889, 1890]}), tmp_path / "a.parquet")
    source = source_of(tmp_path / "a.parquet", columns=replace(COLUMNS, labels=("year",)))
    first, second = source.items(0)
    assert (first.label, first.texts) == ("1889", {"year": "1889"})
    assert (second.label, second.texts, second.refused) == ("1890", {"year": "1890"}, "no image bytes in this row")
    assert source.class_names == ("1889", "1890")


def test_numbers_of_a_text_column_become_the_names_in_the_metadata(tmp_path: Path) -> None:
    features = {"artist_id": {"names": ["Ann", "Bob"], "_type": "ClassLabel"}, "image": {"_type": "Image"}, "x": []}
    table = pa.table({"image": [b"1", b"2", b"3"], "artist_id": [1, 0, 9]})
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    items = read(tmp_path / "a.parquet", columns=COLUMNS)
    assert [item.texts for item in items] == [{"artist": "Bob"}, {"artist": "Ann"}, {}]


def test_strings_are_content_where_they_are_wanted(tmp_path: Path) -> None:
    wanted = replace(DRAWINGS, columns=("words",), max_item_bytes=4)
    pq.write_table(pa.table({"words": ["bär", None, "too long"]}), tmp_path / "dev.parquet")
    items = read(tmp_path / "dev.parquet", wanted, columns=Columns(strings=True))
    assert [item.data for item in items] == ["bär".encode(), None, None]
    assert [item.split for item in items] == ["test"] * 3
    assert items[1].refused == "no words in this row"
    assert "drawing.ingest.max_item_bytes" in items[2].refused
    assert {item.refused for item in read(tmp_path / "dev.parquet", wanted)} == {"no words bytes in this row"}
    with pytest.raises(DataError, match=r"name it image \(strings\)"):
        source_of(tmp_path / "dev.parquet", columns=Columns(strings=True))


def test_every_row_can_be_the_first(tmp_path: Path) -> None:
    table = pa.table({"image": [b"%d" % row for row in range(200)], "title": [str(row) for row in range(200)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=90)
    source = source_of(tmp_path / "a.parquet", columns=COLUMNS)
    whole = list(source.items(0))
    assert [item.texts["title"] for item in whole] == [item.data.decode() for item in whole]
    for start in (1, 63, 64, 65, 89, 90, 91, 199, 200, 201):
        assert list(source.items(start)) == whole[start:]


# -------------------------------------------------------------------------------------------- labels


def table_of(path: Path, **columns: object) -> Path:
    rows = len(next(iter(columns.values())))  # type: ignore[arg-type]
    pq.write_table(pa.table({"image": [content(f"{path.name}{n}") for n in range(rows)], **columns}), path)
    return path


def test_values_that_mean_no_label(tmp_path: Path) -> None:
    items = read(table_of(tmp_path / "a.parquet", label=[0.0, float("nan"), None, 2.0]))
    assert [item.label for item in items] == ["0", None, None, "2"]
    assert source_of(tmp_path / "a.parquet").class_names == ("0", "2")


def test_lists_of_labels(tmp_path: Path) -> None:
    items = read(table_of(tmp_path / "a.parquet", label=[["cat"], ["cat", "dog"], []]))
    assert [item.label for item in items] == ["cat", None, None]
    assert "2 labels (cat, dog)" in refusals(items)["a/000001"]


def test_a_split_column_is_read(tmp_path: Path) -> None:
    items = read(table_of(tmp_path / "a.parquet", split=["training", "dev", "test", None]))
    assert [item.split for item in items] == ["train", "val", "test", "train"]


def test_a_column_that_is_called_set_may_speak_of_something_else(tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.parquet", set=["red", "train"])
    assert [item.split for item in read(path)] == [None, None]
    with pytest.raises(DataError, match="has 'red', which names no split"):
        read(path, columns=Columns().choose({"split": "set"}))


def test_columns_of_the_recipe(tmp_path: Path) -> None:
    path = table_of(
        tmp_path / "a.parquet", label=["a", "b"], species=["x", "y"], Patient=[1, 2], split=["train", "test"]
    )
    columns = Columns().choose({"label": "species", "group": "patient", "split": ""})
    assert [(item.label, item.group, item.split) for item in read(path, columns=columns)] == [
        ("x", "1", None),
        ("y", "2", None),
    ]
    with pytest.raises(DataError, match=r"none is colour: set ingest\.columns\.label to one of them"):
        read(path, columns=Columns().choose({"label": "colour"}))
