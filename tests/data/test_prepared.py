from pathlib import Path

import numpy as np
import pytest

from d2v.data.ingest import Record, ingest
from d2v.data.prepared import (
    UNLABELLED,
    Corpus,
    PreparedFolder,
    balanced_subset,
    bring_up_to_date,
    log_ingest,
    manifest_columns,
    probe_rows,
)
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError


def make_corpus(folder, splits=("train", "train", "test")):
    items = [
        Item(f"{n}", b"x" * (n + 1), "ab"[n % 2] if n < 4 else None, splits[n % len(splits)], texts={"who": str(n % 3)})
        for n in range(9)
    ]
    source = Source("things", "1", len(items), lambda start: iter(items[start:]))
    ingest(source, lambda data: Record(data, {"size": len(data)}), ("size",), folder, {}, 10, 0.1, texts=("who",))
    return folder


def build(corpus, folder):
    for name in ("train", "test"):
        (folder / name).mkdir()
    return {"train_items": 0, "test_items": 0}


def bring(tmp_path, parameters=None, build=build):
    return bring_up_to_date(tmp_path / "corpus", tmp_path / "out", parameters or {}, build, lambda about: "none")


def test_a_corpus_is_read_by_item(tmp_path):
    corpus = Corpus(make_corpus(tmp_path / "corpus"))
    assert len(corpus) == 9
    assert corpus.integers("size").tolist() == list(range(1, 10))
    assert list(corpus.data([0, 2])) == [b"x", b"xxx"]
    assert {name: rows.tolist() for name, rows in corpus.items_by_split("things").items()} == {
        "train": [0, 1, 3, 4, 6, 7],
        "test": [2, 5, 8],
    }


def test_classes_come_from_labels_or_from_a_column(tmp_path):
    corpus = Corpus(make_corpus(tmp_path / "corpus"))
    names, labels = corpus.classes()
    assert (names, labels.tolist()) == (["a", "b"], [0, 1, 0, 1, *[UNLABELLED] * 5])
    names, labels = corpus.classes("who")
    assert (names, labels.tolist()) == (["0", "1", "2"], [0, 1, 2] * 3)
    with pytest.raises(DataError, match="has no column colour, only key, split, label"):
        corpus.classes("colour")


def test_without_a_test_part_the_val_part_is_tested(tmp_path):
    parts = Corpus(make_corpus(tmp_path / "corpus", splits=("train", "val"))).items_by_split("things")
    assert parts["test"].tolist() == [1, 3, 5, 7]
    with pytest.raises(DataError, match="no train things"):
        Corpus(make_corpus(tmp_path / "other", splits=("test",))).items_by_split("things")


def test_unchanged_is_not_built_again_and_a_change_is(tmp_path):
    make_corpus(tmp_path / "corpus")
    first = bring(tmp_path)
    assert bring(tmp_path, build=None) == first
    assert bring(tmp_path, {"side": 1})["fingerprint"] != first["fingerprint"]


def test_a_failure_leaves_the_earlier_folder(tmp_path):
    make_corpus(tmp_path / "corpus")
    first = bring(tmp_path)

    def fail(corpus, folder):
        raise DataError("no")

    with pytest.raises(DataError):
        bring(tmp_path, {"side": 1}, fail)
    assert PreparedFolder(tmp_path / "out", "things").about == first


def test_errors_name_the_step_to_run(tmp_path):
    with pytest.raises(DataError, match="run the ingest step first"):
        bring(tmp_path)
    with pytest.raises(DataError, match="run the prepare step first"):
        PreparedFolder(tmp_path / "out", "things")
    make_corpus(tmp_path / "corpus")
    bring(tmp_path, build=lambda corpus, folder: {"train_items": 3, "test_items": 0})
    with pytest.raises(DataError, match="lacks shards"):
        PreparedFolder(tmp_path / "out", "things")


def test_balanced_subsets_take_turns_until_classes_run_out():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 50 + [-1] * 20)
    rows = balanced_subset(labels, 23, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [10, 3, 10]
    assert len(balanced_subset(labels, 500, np.random.default_rng(0))) == 103


def test_probe_rows_depend_on_the_seed_alone():
    labels = {"train": np.arange(60) % 3, "test": np.full(5, UNLABELLED)}
    counts = {"train": 6, "test": 3}
    assert probe_rows(labels, counts, 0) == probe_rows(labels, counts, 0) != probe_rows(labels, counts, 1)
    assert (len(probe_rows(labels, counts, 0)["train"]), probe_rows(labels, counts, 0)["test"]) == (6, [])


def test_what_ingest_left_out_is_said_again(tmp_path, capsys):
    items = [Item(f"{n}", bytes([n % 5]), "ab"[n % 2], "train") for n in range(8)]
    items.append(Item("pipe", None, refused="it is a pipe"))
    source = Source("things", "1", len(items), lambda start: iter(items[start:]), remarks=lambda: ["a remark"])
    ingest(source, lambda data: Record(data, {"size": 1}, "scaled"), ("size",), tmp_path / "corpus", {}, 10, 0.1)
    bring(tmp_path)
    capsys.readouterr()
    log_ingest(tmp_path / "out", "finetune")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    counts = "1 quarantined, 3 duplicates, 3 in two classes, 5 read with a note (cut, scaled, turned ...), 2 remarks"
    assert said.startswith(f"finetune: of 9 items ingest counted {counts}: see ")
    assert said.rstrip().endswith(str(tmp_path / "corpus" / "corpus.json"))


def test_nothing_is_said_of_a_corpus_without_remarks_or_of_earlier_versions(tmp_path, capsys):
    make_corpus(tmp_path / "corpus")
    bring(tmp_path)
    capsys.readouterr()
    log_ingest(tmp_path / "out", "finetune")
    (tmp_path / "out" / "ingested.json").unlink()
    log_ingest(tmp_path / "out", "finetune")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"\x80\x81", "cannot be read"),
        (b"[]", "no JSON object"),
        (b"{}", "lacks source, report"),
        (b'{"source": "s", "report": null}', "lacks report"),
        (b'{"source": "s", "report": {}}', "its report lacks fingerprint"),
    ],
)
def test_a_damaged_corpus_json_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "corpus.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"corpus\.json .*{words}.*run the ingest step"):
        Corpus(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"manifest\.parquet cannot be read .*run the ingest step again"):
        manifest_columns(tmp_path)
