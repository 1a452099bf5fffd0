"""Values that mean no label, in tables and in a whole corpus."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from d2v.data.ingest import RULES, ingest
from d2v.data.sources.labels import SeveralLabels, label_of
from d2v.data.sources.source import Item
from d2v.errors import DataError
from tests.data.ingest_helpers import read, run, source_of


@pytest.mark.parametrize(
    "value", [None, math.nan, "", "  ", "nan", "NaN", "null", "NULL", "<NA>", "N/A", "unsup", "Unlabelled", [], [None]]
)
def test_values_that_mean_none(value: object) -> None:
    assert label_of(value) is None


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("cat", "cat"),
        (0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (True, "True"),
        (" cat ", "cat"),
        (["cat"], "cat"),
        (-1, "-1"),
        ("None", "None"),
    ],
)
def test_values_that_are_classes(value: object, name: str) -> None:
    assert label_of(value) == name


@pytest.mark.parametrize("value", [["cat", "dog"], [1, 2], {"name": "cat"}])
def test_several_labels_are_refused(value: object) -> None:
    with pytest.raises(SeveralLabels, match=r"2 labels \(|an object with the fields name"):
        label_of(value)


def corpus(
    out: Path, split_of_labels: dict[str, list[str | None]], **how: object
) -> tuple[list[str], dict[str, int], list[str]]:
    """Class names, labelled items by split, and remarks of items with these labels."""
    items = [
        Item(f"{split}{n}", f"{split}{n}".encode(), label, split)
        for split, labels in split_of_labels.items()
        for n, label in enumerate(labels)
    ]
    report = ingest(source_of(items), read, ("length",), out, {}, 2**20, 0.5, **how)  # type: ignore[arg-type]
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["split"]] = counts.get(row["split"], 0) + (row["label"] is not None)
    assert sum(report.splits.values()) == len(items) == len(rows)
    return report.class_names, counts, report.remarks


@pytest.mark.parametrize(
    ("train", "other", "classes"),
    [
        (["0", "1"], ["-1", "-1"], ["0", "1"]),
        (["0", "1", "-1"], [], ["-1", "0", "1"]),
        (["-1", "1"], ["-1", "1"], ["-1", "1"]),
        (["0", "1", "2", "-1"], [], ["0", "1", "2"]),
        (["a", "-1"], [], ["a"]),
        (["-1", "-1"], [], []),
    ],
)
def test_minus_one(tmp_path: Path, train: list[str | None], other: list[str | None], classes: list[str]) -> None:
    names, _, remarks = corpus(tmp_path / "c", {"train": train, "test": other} if other else {"train": train})
    assert names == classes
    assert any("-1" in remark for remark in remarks)


def test_the_recipe_says_what_means_none(tmp_path: Path) -> None:
    names, counts, _ = corpus(tmp_path / "c", {"train": ["0", "1", "-1", "none"]}, no_label=("-1", "none"))
    assert (names, counts) == (["0", "1"], {"train": 2})
    names, counts, _ = corpus(tmp_path / "d", {"train": ["0", "1", "2", "-1"]}, no_label=())
    assert (names, counts) == (["-1", "0", "1", "2"], {"train": 4})


def test_without_labels_in_the_test_split_the_validation_split_is_measured_on(tmp_path: Path) -> None:
    splits = {"train": ["0", "1"], "val": ["0", "1", "1"], "test": ["-1"] * 4}
    names, counts, remarks = corpus(tmp_path / "c", splits)
    assert (names, counts) == (["0", "1"], {"train": 2, "test": 3, "unlabelled": 0})
    assert "the test split has no labels: the validation split is the test split" in remarks


def test_without_labels_beside_train_a_share_of_train_is_measured_on(tmp_path: Path) -> None:
    _, counts, remarks = corpus(tmp_path / "c", {"train": ["a", "b"] * 20, "test": [None] * 5})
    assert counts["unlabelled"] == 0
    assert counts["train"] > 5
    assert counts["test"] > 5
    assert any("ingest.test_fraction of the train split" in remark for remark in remarks)


def test_corpora_without_labels_stay_as_they_are(tmp_path: Path) -> None:
    names, counts, remarks = corpus(tmp_path / "c", {"train": [None] * 3, "val": [None], "test": [None]})
    assert (names, counts, remarks) == ([], {"train": 0, "val": 0, "test": 0}, [])


def test_classes_that_only_the_test_split_has_are_named(tmp_path: Path) -> None:
    _, _, remarks = corpus(tmp_path / "c", {"train": ["a", "b"], "test": ["a", "d", "d", "e"]})
    assert [remark for remark in remarks if "train split lacks: d, e (3 items)" in remark]


def test_an_item_in_two_classes_is_named(tmp_path: Path) -> None:
    items = [
        Item("a/1", b"same", "a"),
        Item("b/1", b"same", "b"),
        Item("b/2", b"same", "b"),
        Item("c", b"same"),
        Item("d", b"d", "a"),
    ]
    report = run(tmp_path / "c", items)
    with (tmp_path / "c" / "duplicates.csv").open(newline="") as file:
        said = {row["key"]: row["contradiction"] for row in csv.DictReader(file)}
    assert said == {"b/1": "b here, a there", "b/2": "b here, a there", "c": ""}
    assert report.contradictions == 2
    assert "2 in two classes" in str(report)


def test_an_item_of_two_classes_in_two_splits_is_named(tmp_path: Path) -> None:
    run(
        tmp_path / "c",
        [Item("a", b"same", "a", "train"), Item("b", b"same", "b", "test"), Item("c", b"c", "a", "train")],
    )
    with (tmp_path / "c" / "duplicates.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row == {"key": "a", "duplicate_of": "b", "across_splits": "yes", "contradiction": "a here, b there"}


def test_items_without_a_transcript_are_counted(tmp_path: Path) -> None:
    items = [Item(f"{n}", b"%d" % n, texts={"transcript": "x"} if n else {}) for n in range(3)]
    report = ingest(source_of(items), read, ("length",), tmp_path / "c", {}, 2**20, 0.1, ("transcript",))
    assert report.remarks == ["1 of 3 items have no transcript, though others have one"]


# ------------------------------------------------------------------------------------------- groups


def grouped(splits: bool) -> list[Item]:
    return [
        Item(f"{n}", b"%d" % n, "ab"[n % 2], ("train", "test")[n % 2] if splits else None, group=f"speaker {n % 10}")
        for n in range(200)
    ]


def test_no_group_is_in_two_splits(tmp_path: Path) -> None:
    run(tmp_path / "c", grouped(splits=False))
    found: dict[str, set[str]] = {}
    for row in pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist():
        found.setdefault(f"speaker {int(row['key']) % 10}", set()).add(row["split"])
    assert len(found) == 10
    assert all(len(splits) == 1 for splits in found.values())
    assert set.union(*found.values()) == {"train", "test"}


def parted() -> list[Item]:
    """Speakers 0 to 2 in train and test, 3 in train and val, 4 in train alone."""
    items = [Item(f"{n}", b"%d" % n, "ab"[n % 2], ("train", "test")[n % 2], group=f"s{n % 3}") for n in range(12)]
    items += [Item(f"v{n}", b"v%d" % n, "a", ("train", "val")[n % 2], group="s3") for n in range(4)]
    return [*items, Item("t", b"t", "b", "train", group="s4")]


def test_groups_that_the_source_itself_parts_are_named(tmp_path: Path) -> None:
    report = run(tmp_path / "c", parted())
    assert report.splits == {"train": 9, "test": 6, "val": 2}
    (said,) = report.remarks
    assert said.startswith("4 of 5 groups are in more than one of test, train, val: s0, s1, s2, s3, as the source says")
    assert "ingest.parted_groups can move such items or refuse them" in said


def test_parted_groups_are_moved_as_wholes_or_refused(tmp_path: Path) -> None:
    report = run(tmp_path / "c", parted(), parted_groups="move")
    assert report.splits == {"train": 1, "test": 12, "val": 4}
    table = pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist()
    assert {row["key"]: row["split"] for row in table} == {
        **{f"{n}": "test" for n in range(12)},
        **{f"v{n}": "val" for n in range(4)},
        "t": "train",
    }
    assert any(said.endswith("Their training items were moved to the other split") for said in report.remarks)
    with pytest.raises(DataError, match=r"4 of 5 groups .*: s0, s1, s2, s3, as .* set ingest\.parted_groups to move"):
        run(tmp_path / "d", parted(), parted_groups="refuse")
    assert run(tmp_path / "e", grouped(splits=False), parted_groups="refuse").remarks == []


# ------------------------------------------------------------------------------------- earlier corpora


def earlier(folder: Path) -> dict[str, object]:
    """Turn a corpus into one that was made before there were rules."""
    content = json.loads((folder / "corpus.json").read_text())
    del content["rules"], content["report"]["remarks"], content["report"]["contradictions"]
    (folder / "corpus.json").write_text(json.dumps(content))
    return content


def test_an_unchanged_corpus_of_earlier_rules_stays_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [Item("a", b"a", "-1", "train"), Item("b", b"b", "2", "train")]
    run(tmp_path / "c", items)
    content = earlier(tmp_path / "c")
    manifest = (tmp_path / "c" / "manifest.parquet").read_bytes()
    capfd.readouterr()
    run(tmp_path / "c", items)
    said = capfd.readouterr()
    assert f"earlier rules of names, to read it anew remove {tmp_path / 'c'}" in said.out + said.err
    assert json.loads((tmp_path / "c" / "corpus.json").read_text()) == content
    assert (tmp_path / "c" / "manifest.parquet").read_bytes() == manifest


def test_a_changed_source_is_read_by_the_rules_of_today_and_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [Item("a", b"a", "-1", "train"), Item("b", b"b", "2", "train")]
    run(tmp_path / "c", items)
    earlier(tmp_path / "c")
    capfd.readouterr()
    report = run(tmp_path / "c", [*items, Item("c", b"c", "3", "train")], fingerprint="another")
    said = capfd.readouterr()
    assert "classes and splits can differ from it" in said.out + said.err
    assert report.class_names == ["2", "3"]
    assert json.loads((tmp_path / "c" / "corpus.json").read_text())["rules"] == RULES


def test_an_ingest_that_earlier_rules_began_begins_again(tmp_path: Path) -> None:
    items = [Item(f"{n}", b"%d" % n, "a", "train") for n in range(1000)]

    def stops(start: int) -> Iterator[Item]:
        yield from items[start:900]  # far more than threads read ahead
        raise KeyboardInterrupt

    source = replace(source_of(items), items=stops)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, read, ("length",), tmp_path / "c", parameters={"p": 1}, shard_bytes=1, test_fraction=0.25)
    journal = tmp_path / ".c.partial" / "journal.json"
    content = json.loads(journal.read_text())
    assert content["next_item"] > 0
    journal.write_text(json.dumps({key: value for key, value in content.items() if key not in ("rules", "groups")}))
    assert run(tmp_path / "c", items).kept == 1000
