"""Text where people have it: files, folders, archives, JSON lines, tables and GLUE tasks."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.text.config import TextIngestConfig
from d2v.modalities.text.modality import Text
from d2v.modalities.text.reading import PAIR
from d2v.modalities.text.sources import open_source

TEXT = b"First line\nof one.\r\n\n  \nSecond paragraph.\n\n\n\nThird \xc3\xa9.\nEnd"
COLA = ["src\t1\t\tIt is good.", 'src\t0\t*\t"Is good it.', "src\t1\t\tA good one.", ""]
SCORED = "index\tsentence1\tsentence2\tscore\n0\tA a.\tB b.\t3.500\n1\tC c.\tD d.\t0.2\n2\tC c.\tE e.\tno\n"
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
}


def source_of(path: Path | str, **values: Any) -> Source:
    return open_source(TextIngestConfig(source=str(path), **values))


def read(path: Path | str, **values: Any) -> list[Item]:
    source = source_of(path, **values)
    items = list(source.items(0))
    assert source.total in (None, len(items))
    for start in (1, len(items) - 1, len(items)):
        assert list(source.items(start)) == items[start:]
    return items


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def labels_and_splits(items: list[Item]) -> dict[str, tuple[str | None, str | None]]:
    return {item.key: (item.split, item.label) for item in items}


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("ending", PACK)
def test_what_a_document_is(tmp_path: Path, ending: str) -> None:
    path = write(tmp_path, {f"a.txt{ending}": PACK[ending](TEXT)}) / f"a.txt{ending}"
    (whole,) = read(path)
    assert (whole.key, whole.data, whole.split) == (path.name, TEXT, None)
    paragraphs = [(item.key, item.data) for item in read(path, document="paragraph")]
    assert paragraphs == [
        (f"{path.name}#1", b"First line\nof one.\r\n"),
        (f"{path.name}#5", b"Second paragraph.\n"),
        (f"{path.name}#9", b"Third \xc3\xa9.\nEnd"),
    ]
    lines = [(item.key.split("#")[1], item.data.strip()) for item in read(path, document="line")]
    assert [number for number, _ in lines] == ["1", "2", "5", "9", "10"]
    assert lines[3][1].decode() == "Third é."


def test_lines_of_wide_encodings(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.txt": "eins\nzweiĊ\n\ndrei".encode("utf-16")}) / "a.txt"
    assert [item.data.decode() for item in read(path, document="line")] == ["eins\n", "zweiĊ\n", "drei"]
    assert len(read(path, document="paragraph")) == 2
    path.write_bytes(path.read_bytes()[:-1])
    refused = read(path, document="line")[-1].refused
    assert "damaged or cut off behind line" in refused


def test_a_line_too_long_is_refused_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.txt": b"x" * 5000 + b"\nshort\n\n" + b"y" * 600 + b"\n" + b"z" * 600}) / "a.txt"
    limit = {"max_item_bytes": 1000}
    lines = read(path, document="line", **limit)
    assert [item.key for item in lines if item.refused] == ["a.txt#1"]
    assert "5,001 bytes are more than text.ingest.max_item_bytes = 1,000" in lines[0].refused
    assert [item.data for item in lines[1:2]] == [b"short\n"]
    assert [bool(item.refused) for item in read(path, document="paragraph", **limit)] == [True, True]
    assert read(path, **limit)[0].refused


def test_a_packed_file_that_breaks_off(tmp_path: Path) -> None:
    whole = b"".join(b"%d is a line.\n" % (n * 7919) for n in range(60_000))
    for ending in (".gz", ".bz2", ".xz", ".zst"):
        packed = PACK[ending](whole)
        path = write(tmp_path, {f"a.txt{ending}": packed[: len(packed) // 2]}) / f"a.txt{ending}"
        (item,) = [item for item in source_of(path, document="line").items(0) if item.refused]
        assert "damaged or cut off behind line" in item.refused
        assert read(path)[0].refused


def test_memory_does_not_hold_a_file(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "a.txt.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(4):
            file.write(b"some words of a line\n" * 50_000)
    tracemalloc.start()
    count = sum(1 for _ in source_of(path, document="line").items(0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 2e6


# -------------------------------------------------------------------------------------------- folders


def test_splits_and_classes_of_folders(tmp_path: Path) -> None:
    tree = {
        f"{split}/{name}/{n}.txt": f"{split} {name} {n}" for split in ("train", "test") for name in "ab" for n in "12"
    }
    folder = write(tmp_path, {**tree, "README.md": "about", "table.csv": "1,2"})
    found = labels_and_splits(read(folder))
    assert found == {key: (key.split("/")[0], key.split("/")[1]) for key in tree}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.txt.gz", "valid.txt.gz", "test.txt.gz"), {"train", "val", "test"}),
        (("train.txt", "dev.txt"), {"train", "test"}),
        (("wiki.train.tokens", "wiki.valid.tokens"), {"train", "test"}),
        (("news-train-0001.txt", "news-train-0002.txt", "news_test.txt"), {"train", "test"}),
        (("train-00000-of-00002.txt", "train-00001-of-00002.txt"), {None}),
        (("emma.txt", "protest.txt", "constrain.md"), {None}),
        (("train.txt",), {None}),
    ],
)
def test_splits_in_file_names(tmp_path: Path, names: tuple[str, ...], splits: set[str | None]) -> None:
    packed = {name: gzip.compress(name.encode()) if name.endswith(".gz") else name for name in names}
    folder = write(tmp_path, packed)
    items = read(folder)
    assert {item.split for item in items} == splits
    assert next(item.data for item in items if item.key == names[0]) == names[0].encode()


def test_hidden_files_papers_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path, {"LICENSE": "x", "readme.txt": "x", ".hidden.txt": "x", "a.txt": "a", "b.py": "b", "c": b"\0\xff"})
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    items = read(tmp_path)
    assert [item.key for item in items] == ["a.txt", "b.py", "c", "gone.txt"]
    assert "unreadable" in items[-1].refused
    if os.geteuid():
        (tmp_path / "a.txt").chmod(0)
        assert "unreadable" in read(tmp_path)[0].refused


@pytest.mark.parametrize("kind", ["a.tar.gz", "a.zip"])
def test_archives(tmp_path: Path, kind: str) -> None:
    files = {
        "set/train/neg/1.txt": b"one\n\ntwo",
        "set/train/pos/2.txt.gz": gzip.compress(b"three"),
        "set/test/neg/3.jsonl": b'{"text": "four"}\n{"text": "five", "label": 7}\n',
        "set/README.md": b"about",
    }
    path = (write_tar if kind.endswith("gz") else write_zip)(tmp_path / kind, files)
    items = read(path, document="paragraph")
    assert [(item.key, item.data.strip(), item.split, item.label) for item in items] == [
        ("train/neg/1.txt#1", b"one", "train", "neg"),
        ("train/neg/1.txt#3", b"two", "train", "neg"),
        ("train/pos/2.txt.gz#1", b"three", "train", "pos"),
        ("test/neg/3.jsonl#1", b"four", "test", "neg"),
        ("test/neg/3.jsonl#2", b"five", "test", "7"),
    ]
    flat = {"w/train.txt": b"a", "w/dev.txt": b"b"}
    path = (write_tar if kind.endswith("gz") else write_zip)(tmp_path / f"flat-{kind}", flat)
    assert [item.split for item in read(path)] == ["train", "test"]


def test_what_is_not_there_or_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        source_of(tmp_path / "nowhere")
    with pytest.raises(DataError, match="embedded corpus pydocs"):
        source_of("pydoc")
    with pytest.raises(ConfigError, match="options"):
        source_of("pydocs", options={"a": 1})
    with pytest.raises(DataError, match=r"Cannot tell the format of .* text, jsonl, parquet, glue"):
        source_of(write(tmp_path, {"x.bin": "x"}) / "x.bin")
    assert read(tmp_path / "x.bin", format="text")[0].data == b"x"
    with pytest.raises(DataError, match="is no GLUE task"):
        source_of(tmp_path, format="glue")
    papers = write(tmp_path / "papers", {"README.md": "x", "LICENSE": "x"})
    with pytest.raises(DataError, match="no files but papers"):
        source_of(papers)
    write_zip(papers / "a.zip", {"a.txt": "a"})
    assert [item.key for item in read(papers)] == ["a.txt"]
    write_zip(papers / "b.zip", {"b.txt": "b"})
    with pytest.raises(DataError, match=r"2 archives \(a\.zip, b\.zip\)"):
        source_of(papers)


# ------------------------------------------------------------------------------------- JSON and tables


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        '{"text": "plain", "label": 1}',
        '{"content": "other name", "category": "news"}',
        '"a bare string"',
        "",
        '{"sentence1": "A", "sentence2": "B", "label": null}',
        '{"text": 3}',
        "{broken",
        "[1]",
    ]
    items = read(write(tmp_path, {"a.jsonl.gz": gzip.compress("\n".join(rows).encode())}) / "a.jsonl.gz")
    assert [(item.data, item.label) for item in items[:4]] == [
        (b"plain", "1"),
        (b"other name", "news"),
        (b"a bare string", None),
        (b"A" + PAIR + b"B", None),
    ]
    reasons = [item.refused for item in items[4:]]
    assert [item.key.split("#")[1] for item in items] == ["1", "2", "3", "5", "6", "7", "8"]
    assert ["set text.ingest.text_field" in reasons[0], "no JSON" in reasons[1], "JSON list" in reasons[2]] == [
        True
    ] * 3


def test_fields_by_name_and_splits_of_json_files(tmp_path: Path) -> None:
    row = json.dumps({"text": "no", "body": "yes é", "label": "no", "kind": "k"})
    folder = write(tmp_path, {"train.jsonl": row, "test.jsonl": row.replace("yes", "also")})
    items = read(folder, text_field="body", label_field="kind")
    assert [(item.data.decode(), item.label, item.split) for item in items] == [
        ("also é", "k", "test"),
        ("yes é", "k", "train"),
    ]
    write(tmp_path / "other", {"data.json": row})
    assert read(tmp_path / "other" / "data.json", format="jsonl", text_field="body")[0].data.decode() == "yes é"


def test_an_array_in_an_archive_is_read_unless_it_speaks_of_texts_beside_it(tmp_path: Path) -> None:
    array = json.dumps([{"text": "one", "label": "a"}, {"text": "two", "label": "b"}]).encode()
    for path in (
        write_zip(tmp_path / "a.zip", {"d/all.json": array, "d/README.md": "a paper"}),
        write_tar(tmp_path / "a.tar", {"d/all.json": array, "d/LICENSE": b"a paper"}),
    ):
        assert [(item.data, item.label) for item in read(path)] == [(b"one", "a"), (b"two", "b")]
    beside = write_zip(tmp_path / "b.zip", {"d/all.json": array, "d/text.txt": "a text"})
    assert [item.data for item in read(beside)] == [b"a text"]


def test_parquet(tmp_path: Path) -> None:
    for split in ("train", "test"):
        table = pa.table({"premise": [f"{split} é", "b", None], "hypothesis": ["x", "y", "z"], "label": [1, 0, 1]})
        pq.write_table(table, tmp_path / f"{split}-00000-of-00001.parquet")
    items = read(tmp_path)
    assert [(item.data, item.split, item.label) for item in items[:2]] == [
        ("test é".encode() + PAIR + b"x", "test", "1"),
        (b"b" + PAIR + b"y", "test", "0"),
    ]
    assert items[2].refused
    assert [item.data for item in read(tmp_path, text_field="hypothesis")][:2] == [
        b"x" + PAIR + b"x",
        b"y" + PAIR + b"y",
    ]
    with pytest.raises(DataError, match="none of them with text"):
        source_of(tmp_path, text_field="nothing")


# ----------------------------------------------------------------------------------------------- GLUE


def glue_items(tmp_path: Path, files: dict[str, bytes | str]) -> list[Item]:
    """The same from a folder and from a zip."""
    items = read(write(tmp_path / "Task", files))
    assert read(write_zip(tmp_path / "Task.zip", {f"Task/{name}": data for name, data in files.items()})) == items
    return items


def test_cola_has_no_header_and_quotes_mean_nothing(tmp_path: Path) -> None:
    files = {
        "train.tsv": "\n".join(COLA),
        "dev.tsv": "\r\n".join(COLA[:2]),
        "test.tsv": "index\tsentence\n0\tUnknown.\n",
    }
    items = glue_items(tmp_path, files)
    assert [(item.key, item.data, item.split, item.label) for item in items[1:]] == [
        ("train/000001", b'"Is good it.', "train", "unacceptable"),
        ("train/000002", b"A good one.", "train", "acceptable"),
        ("dev/000000", b"It is good.", "test", "acceptable"),
        ("dev/000001", b'"Is good it.', "test", "unacceptable"),
        ("test/000000", b"Unknown.", "unlabelled", None),
    ]
    assert source_of(tmp_path / "Task").class_names == ("unacceptable", "acceptable")


@pytest.mark.parametrize(
    ("header", "rows", "labels", "second"),
    [
        ("sentence\tlabel", ["Good film\t1", "Bad film\t0"], ["positive", "negative"], False),
        ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", ["1\t7\t8\tA\tB"], ["equivalent"], True),
        ("index\tsentence1\tsentence2\tlabel", ["0\tA\tB\tnot_entailment"], ["not_entailment"], True),
        ("index\tsentence1\tsentence2\tlabel", ["0\tA\tB\t1"], ["entailment"], True),
        ("index\tquestion\tsentence\tlabel", ["0\tA\tB\tentailment"], ["entailment"], True),
        ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", ["0\t1\t2\tA\tB\t0"], ["not_duplicate"], True),
        ("index\tgenre\tsentence1\tsentence2\tlabel1\tgold_label", ["0\tx\tA\tB\tneutral\tneutral"], ["neutral"], True),
    ],
    ids=["SST-2", "MRPC", "RTE", "WNLI", "QNLI", "QQP", "MNLI"],
)
def test_tasks_by_their_headers(tmp_path: Path, header: str, rows: list[str], labels: list[str], second: bool) -> None:
    text = "\n".join([header, *rows])
    dev = "dev_matched.tsv" if "gold_label" in header else "dev.tsv"
    items = glue_items(tmp_path, {"train.tsv": text, dev: text, "notes.txt": "x"})
    assert [item.label for item in items] == labels * 2
    assert [item.split for item in items] == ["train"] * len(rows) + ["test"] * len(rows)
    assert items[0].data == (b"A" + PAIR + b"B" if second else b"Good film")


def test_mismatched_genres_are_a_split_of_their_own(tmp_path: Path) -> None:
    text = "index\tsentence1\tsentence2\tgold_label\n0\tA\tB\tneutral\n"
    items = glue_items(tmp_path, {"train.tsv": text, "dev_matched.tsv": text, "dev_mismatched.tsv": text})
    assert [item.split for item in items] == ["train", "test", "mismatched"]


def test_scores_are_kept_and_rounded_to_classes(tmp_path: Path) -> None:
    items = glue_items(tmp_path, {"train.tsv": SCORED, "dev.tsv": SCORED + "3\ttoo few\n"})
    assert [(item.label, item.texts.get("score")) for item in items[:2]] == [("4", "3.500"), ("0", "0.2")]
    assert source_of(tmp_path / "Task").class_names == tuple("012345")
    assert "not a number" in items[2].refused
    assert "2 columns, not the 4" in items[-1].refused


def test_several_tasks_and_other_tables_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {f"{task}/{name}.tsv": "sentence\tlabel\nx\t1\n" for task in "AB" for name in ("train", "dev")})
    with pytest.raises(DataError, match=r"several GLUE tasks: .* A, B"):
        source_of(tmp_path)
    write(tmp_path / "C", {"train.tsv": "a\tb\n", "dev.tsv": "a\tb\n"})
    with pytest.raises(DataError, match=r"train\.tsv has the columns a, b"):
        source_of(tmp_path / "C")


# ---------------------------------------------------------------------------------------------- ingest


def test_pairs_are_duplicates_only_of_the_same_pair(tmp_path: Path) -> None:
    rows = [("A", "B"), ("A", "C"), ("A", "B")]
    text = "".join(json.dumps({"sentence1": one, "sentence2": two}) + "\n" for one, two in rows)
    report = Text().ingest(TextIngestConfig(source=str(write(tmp_path / "s", {"a.jsonl": text}))), tmp_path / "corpus")
    assert (report.kept, report.duplicates) == (2, 1)
    table = pq.read_table(tmp_path / "corpus" / "manifest.parquet").to_pylist()
    assert [row["second"] for row in table] == ["B", "C"]
    assert table[0].keys() >= {"characters", "bytes", "score", "note"}


@pytest.mark.data
@pytest.mark.parametrize(
    ("task", "splits", "names"),
    [
        ("CoLA", {"train": 8497, "test": 1039, "unlabelled": 1055}, ["unacceptable", "acceptable"]),
        ("MRPC", {"train": 3668, "test": 408, "unlabelled": 1725}, ["not_equivalent", "equivalent"]),
        ("RTE", {"train": 2488, "test": 277, "unlabelled": 3000}, ["entailment", "not_entailment"]),
        ("STS-B", {"train": 5693, "test": 1498, "unlabelled": 1376}, list("012345")),
    ],
)
def test_real_glue_tasks(
    shared_data: Path, tmp_path: Path, task: str, splits: dict[str, int], names: list[str]
) -> None:
    """Official counts less the rows that come twice (CoLA: 19 within train, 16 of dev and 19 of test in train too)."""
    config = TextIngestConfig(source=str(shared_data / "text" / "glue" / f"{task}.zip"))
    report = Text().ingest(config, tmp_path / "corpus")
    assert report.splits == splits
    assert report.class_names == names
    assert report.quarantined == 0


@pytest.mark.data
def test_real_books(shared_data: Path, tmp_path: Path) -> None:
    config = TextIngestConfig(source=str(shared_data / "text" / "classic-books"))
    report = Text().ingest(config, tmp_path / "corpus")
    assert report.splits == {"train": 1, "val": 1, "test": 1}
    table = pq.read_table(tmp_path / "corpus" / "manifest.parquet").to_pylist()
    assert {row["split"]: row["characters"] for row in table}["train"] > 12_500_000


# ----------------------------------------------------------------------------------- lines and splits


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_only_line_ends_end_lines(tmp_path: Path, end: str, encoding: str) -> None:
    lines = ["one\u2028two", "three\x0c\x85four", "five"]
    write(tmp_path, {"a.txt": end.join(lines).encode(encoding)})
    assert [
        item.data.decode().rstrip("\r\n").lstrip("\ufeff") for item in read(tmp_path / "a.txt", document="line")
    ] == lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_end_where_lines_end(tmp_path: Path, end: str) -> None:
    lines = [json.dumps({"text": f"{word}\u2028\x85{word}"}, ensure_ascii=False) for word in ("one", "two")]
    write(tmp_path, {"a.jsonl": end.join(lines)})
    assert [item.data.decode() for item in read(tmp_path / "a.jsonl")] == ["one\u2028\x85one", "two\u2028\x85two"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train.jsonl", "eval.jsonl"), {"train.jsonl": "train", "eval.jsonl": "test"}),
        (("train.txt", "dev.txt", "test.txt"), {"train.txt": "train", "dev.txt": "val", "test.txt": "test"}),
        (("training_set.txt", "test_set.txt"), {"training_set.txt": "train", "test_set.txt": "test"}),
        (("how-to-train.md", "test-driven.md"), {"how-to-train.md": None, "test-driven.md": None}),
        (
            ("20news-train.txt", "20news-test.txt", "more.txt"),
            {"20news-train.txt": "train", "20news-test.txt": "test", "more.txt": "train"},
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_splits_of_file_names(tmp_path: Path, kind: str, names: tuple[str, ...], splits: dict[str, str | None]) -> None:
    files = dict.fromkeys(names, b'{"text": "one"}\n')
    if kind == "folder":
        path = write(tmp_path / "d", files)
    else:
        path = (write_zip if kind == "zip" else write_tar)(tmp_path / ("d.zip" if kind == "zip" else "d.tar.gz"), files)
    assert {item.key.partition("#")[0]: item.split for item in read(path)} == splits


def test_lists_of_labels_are_refused_and_of_one_are_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"a.jsonl": '{"text": "a", "label": [1, 2]}\n{"text": "b", "label": ["x"]}\n{"text": "c", "label": NaN}\n'},
    )
    several, one, none = read(tmp_path / "a.jsonl")
    assert "2 labels (1, 2), and an item is of one class: set text.ingest.columns.label" in str(several.refused)
    assert (one.label, none.label) == ("x", None)


# ------------------------------------------------------------------------------------------------ CSV

REVIEWS = [("good, very", "pos"), ("two\nlines", "neg"), ('so "so"', "pos")]


def csv_of(delimiter: str, header: bool = True, quoting: int = csv.QUOTE_MINIMAL, end: str = "\r\n") -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=quoting, lineterminator=end)  # type: ignore[arg-type]
    writer.writerows([("Text", "Label")] if header else [])
    writer.writerows(REVIEWS)
    return file.getvalue()


def pairs(items: list[Item]) -> list[tuple[str, str | None]]:
    return [(item.data.decode(), item.label) for item in items]


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "|"), ("a.tsv", "\t"), ("a.csv", "\t")]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csv_of_many_writers(tmp_path: Path, pack: str, name: str, delimiter: str, encoding: str) -> None:
    write(tmp_path, {name + pack: PACK[pack](csv_of(delimiter).encode(encoding))})
    assert pairs(read(tmp_path / (name + pack))) == REVIEWS


def test_tsv_in_which_quotation_marks_mean_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"a.tsv": 'sentence\tlabel\n"Well, it is.\t1\nA "b" c\t0\n"d"\t1\n'})
    assert pairs(read(tmp_path / "a.tsv")) == [('"Well, it is.', "1"), ('A "b" c', "0"), ('"d"', "1")]


def test_csv_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.csv": csv_of(",", header=False)}) / "a.csv"
    with pytest.raises(DataError, match=r"none is known to hold texts: set text\.ingest\.columns\.text"):
        read(path)
    assert pairs(read(path, header=False, columns={"text": "1", "label": "2"})) == REVIEWS


def test_columns_of_the_recipe(tmp_path: Path) -> None:
    rows = "v1,v2,Notes,who\nham,hello,x,ann\nspam,win,y,bob\n"
    path = write(tmp_path, {"a.csv": rows}) / "a.csv"
    columns = {"text": "v2", "label": "V1", "second": "notes", "group": "who"}
    items = read(path, columns=columns)
    assert [(item.data, item.label, item.texts, item.group) for item in items] == [
        (b"hello" + PAIR + b"x", "ham", {"second": "x"}, "ann"),
        (b"win" + PAIR + b"y", "spam", {"second": "y"}, "bob"),
    ]
    with pytest.raises(DataError, match=r"none is topic: set ingest\.columns\.label to one of them"):
        read(path, columns={"text": "v2", "label": "topic"})
    same = write(tmp_path, {"a.jsonl": '{"v1": "ham", "v2": "hello", "notes": "x", "who": "ann"}\n'}) / "a.jsonl"
    (item,) = read(same, columns=columns)
    assert (item.data, item.label, item.group) == (items[0].data, "ham", "ann")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "z.zip"])
def test_a_split_column_of_rows(tmp_path: Path, name: str) -> None:
    rows = [("one", "training"), ("two", "dev"), ("three", "test"), ("four", "")]
    table = "text,split\n" + "".join(f"{text},{split}\n" for text, split in rows)
    lines = "".join(json.dumps({"text": text, "split": split}) + "\n" for text, split in rows)
    write(tmp_path, {"a.csv": table, "a.jsonl": lines})
    write_zip(tmp_path / "z.zip", {"a.jsonl": lines})
    assert [item.split for item in read(tmp_path / name)] == ["train", "val", "test", "train"]


def test_a_column_that_is_called_set_may_say_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.csv": "text,set\na,red\nb,train\n"}) / "a.csv"
    assert [item.split for item in read(path)] == [None, None]
    with pytest.raises(DataError, match="column set has 'red', which names no split"):
        read(path, columns={"split": "set"})


def test_rows_that_cannot_be_texts_are_refused_and_open_quotes_named(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "text,label\nhello, world,1\nfine,0\n"})
    first, second = read(tmp_path / "a.csv")
    assert "it has 3 cells, and the table 2 columns" in str(first.refused)
    assert (second.data, second.label) == (b"fine", "0")
    write(tmp_path, {"b.csv": 'text,label\nfine,0\n"open,1\nlost,0\n'})
    with pytest.raises(DataError, match=r"Line 3 of b\.csv opens a quotation mark"):
        read(tmp_path / "b.csv")


def test_folders_of_csv(tmp_path: Path) -> None:
    table = "text,label\n{0},1\n"
    files = {"train.csv": table.format("a"), "eval.csv": table.format("b"), "README.md": "about"}
    assert labels_and_splits(read(write(tmp_path / "d", files))) == {
        "eval.csv#2": ("test", "1"),
        "train.csv#2": ("train", "1"),
    }
    write(tmp_path / "d", {"more.txt": "a text"})
    assert [item.key for item in read(tmp_path / "d")] == ["more.txt"]


@pytest.mark.parametrize("label", ["", "nan", "NaN", "null", "unsup"])
def test_cells_that_mean_no_label(tmp_path: Path, label: str) -> None:
    write(tmp_path, {"a.csv": f"text,label\na,{label}\nb,x\n"})
    assert [item.label for item in read(tmp_path / "a.csv")] == [None, "x"]


def test_shards_of_texts(tmp_path: Path) -> None:
    for shard in range(2):
        files = {f"{shard}{n}.{end}": f"{end}{n}".encode() for n in range(2) for end in ("txt", "cls")}
        (tmp_path / "d").mkdir(exist_ok=True)
        write_tar(tmp_path / "d" / f"train-{shard}.tar.gz", files)
    write_tar(tmp_path / "d" / "test-0.tar.gz", {"x.txt": b"hello", "x.json": b'{"label": 3, "language": "en"}'})
    assert [(item.label, item.split, item.data) for item in read(tmp_path / "d")] == [
        ("3", "test", b"hello"),
        *[(f"cls{n}", "train", b"txt%d" % n) for _ in range(2) for n in range(2)],
    ]
