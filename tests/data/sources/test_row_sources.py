"""Sources of counted rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from d2v.data.sources.row_sources import Split, in_order, source_of_splits
from d2v.data.sources.source import Item


def rows_of(split: str | None, rows: int) -> Split:
    def items(start: int) -> Iterator[Item]:
        for row in range(start, rows):
            yield Item(f"{split}/{row}", b"", texts={"row": str(row)})

    return Split(split, rows, items)


def test_splits_follow_each_other_from_any_row() -> None:
    source = source_of_splits(
        "made up", "f", [rows_of("train", 3), rows_of(None, 0), rows_of(None, 2), rows_of("test", 1)], None
    )
    whole = list(source.items(0))
    assert source.total == len(whole) == 6
    assert [item.split for item in whole] == ["train"] * 5 + ["test"]
    assert [item.texts["row"] for item in whole] == ["0", "1", "2", "0", "1", "0"]
    for start in range(8):
        assert list(source.items(start)) == whole[start:]


@pytest.mark.parametrize(("others", "wanted"), [(["train"], "test"), (["train", "test"], "val")])
def test_validation_part_is_the_test_part_if_there_is_no_other(others: list[str], wanted: str) -> None:
    source = source_of_splits("made up", "f", [rows_of(split, 1) for split in ["val", *others]], ["b", "a"])
    assert next(source.items(0)).split == wanted
    assert source.class_names == ("b", "a")


def test_classes_in_order() -> None:
    assert in_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert in_order(["b", "10", "9"]) == ["10", "9", "b"]
    assert in_order([]) is None
