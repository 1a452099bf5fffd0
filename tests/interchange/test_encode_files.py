"""`d2v encode` reads files and folders as ingest does, whatever holds the items; long texts lose nothing in silence."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.errors import ConfigError, DataError
from d2v.interchange.encode_files import encode_files, some_items
from d2v.modalities.text.tokenizer import TextTokenizer, train_tokenizer
from d2v.modalities.vision import reading
from tests.interchange import encoders

LINE = "The quick fox jumps over the dog."
LONG = "word " * 500
MAX_TOKENS = 40
TABLE = f'text,label\n"{LINE}",1\n'
OBJECT = json.dumps({"text": LINE})
TOKENIZER = train_tokenizer([LINE, LONG], 300).to_json()
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
WAVE = (0.1 * RNG.standard_normal(4_000)).astype(np.float32)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, d2v.Model]:
    folder = tmp_path_factory.mktemp("models")
    about = {"text": {"tokenizer": TOKENIZER}, "vision": {}, "speech": {}}
    return {name: d2v.load(encoders.save(folder / name, name, 2, about[name]), device="cpu") for name in about}


@pytest.fixture(scope="module")
def text(models: dict[str, d2v.Model]) -> d2v.Model:
    return models["text"]


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def rows(model: d2v.Model, *files: Path, **how: Any) -> list[dict[str, Any]]:
    out = files[0].parent / "out" / "features.parquet"
    written = encode_files(model, list(files), out, **how)
    found = pq.read_table(out).to_pylist()
    assert (len(found), sum(row["problem"] is not None for row in found)) == (written.rows, written.problems)
    return found


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def packed(kind: str, files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(whole, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return whole.getvalue()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return whole.getvalue()


def parquet(columns: dict[str, list[Any]]) -> bytes:
    whole = io.BytesIO()
    pq.write_table(pa.table(columns), whole)
    return whole.getvalue()


# ------------------------------------------------------------------------------------------------ texts


FILES: dict[str, str | bytes] = {
    "plain.txt": LINE + "\n",
    "no_end.txt": LINE,
    "crlf.txt": LINE + "\r\n",
    "cr.txt": LINE + "\r",
    "mark.txt": "\ufeff" + LINE + "\n",
    "utf16.txt": ("\ufeff" + LINE + "\r\n").encode("utf-16-le"),
    "utf16_be.txt": ("\ufeff" + LINE + "\n").encode("utf-16-be"),
    "utf32.txt": ("\ufeff" + LINE + "\n").encode("utf-32-le"),
    "packed.txt.gz": gzip.compress((LINE + "\n").encode()),
    "no_ending": LINE + "\n",
    "other.dat": LINE + "\n",
    "README.md": LINE + "\n",
    "lines.jsonl": OBJECT + "\n",
    "lines.jsonl.gz": gzip.compress(OBJECT.encode()),
    "lines.json": OBJECT + "\n" + OBJECT,
    "array.json": json.dumps([{"text": LINE}] * 2, indent=1),
    "strings.json": json.dumps([LINE]),
    "utf16.json": ("\ufeff" + json.dumps([LINE])).encode("utf-16-le"),
    "array.json.gz": gzip.compress(json.dumps([LINE]).encode()),
    "labels.jsonl": json.dumps({"text": LINE, "label": ["a", "b"]}),
    "table.csv": TABLE,
    "mark.csv": "\ufeff" + TABLE,
    "utf16.csv": ("\ufeff" + TABLE).encode("utf-16-le"),
    "table.csv.gz": gzip.compress(TABLE.encode()),
    "semicolons.csv": f"review;stars\n{LINE};1\n",
    "table.tsv": f"id\ttext\n1\t{LINE}\n",
    "table.parquet": parquet({"text": [LINE, LINE], "label": [["a", "b"], ["a"]]}),
    "texts.zip": packed("zip", {"in/a.txt": LINE.encode(), "in/b.jsonl": OBJECT.encode()}),
    "texts.tar.gz": packed("tar", {"in/a.txt": LINE.encode(), "in/b.txt": LINE.encode()}),
}


@pytest.mark.parametrize("name", FILES)
def test_a_text_has_the_same_features_in_every_form(tmp_path: Path, text: d2v.Model, name: str) -> None:
    found = rows(text, write(tmp_path / name, FILES[name]))
    assert found
    for row in found:
        assert row["problem"] is None
        assert row["file"].startswith(str(tmp_path / name))
        close(row["embedding"], text.encode(LINE))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pdf", b"%PDF-1.4\nhello\nworld\n", "a PDF document"),
        ("pdf.txt", b"%PDF-1.4\nhello\nworld\n", "a PDF document"),
        ("a.docx", packed("zip", {"word/document.xml": b"<a/>"}), "an office document"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0one\ntwo\n", "an office document"),
        ("a.rtf", b"{\\rtf1 hello}\nworld\n", "an RTF document"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)), "binary data"),
        ("utf16.txt", (LINE + "\n" + LINE + "\n").encode("utf-16-le"), "UTF-16 without its byte-order mark"),
        ("object.json", json.dumps({"data": [LINE]}, indent=1), "one JSON object"),
        ("broken.json", '[{"text": "a"}, {"te', "no JSON"),
        ("other.csv", "foo,bar\na,b\n", r"first row: foo, bar.*ingest\.columns\.text"),
        ("latin1.txt", "caf\xe9\n".encode("latin-1"), "no valid UTF-8"),
        ("half.jsonl", '{"text": "a \\ud83d b"}', "no valid UTF-8"),
        ("empty.txt", "", "holds no items"),
    ],
)
def test_what_is_no_text_is_one_row_with_its_reason(
    tmp_path: Path, text: d2v.Model, name: str, content: str | bytes, words: str
) -> None:
    (row,) = rows(text, write(tmp_path / name, content))
    assert row["embedding"] is None
    assert pytest.raises(ValueError, match=words).matches(ValueError(row["problem"]))


def test_lines_keep_their_numbers(tmp_path: Path, text: d2v.Model) -> None:
    found = rows(text, write(tmp_path / "a.csv", f"text\n{LINE}\n\n{LINE}\n"))
    assert [row["line"] for row in found] == [2, 4]
    found = rows(text, write(tmp_path / "a.txt", f"\ufeff{LINE}\n\n{LINE}\n"))
    assert [row["line"] for row in found] == [1, 3]


def test_pairs_are_pairs(tmp_path: Path, text: d2v.Model) -> None:
    pair = {"sentence1": LINE, "sentence2": "or not"}
    (of_lines,) = rows(text, write(tmp_path / "a.jsonl", json.dumps(pair)))
    (of_table,) = rows(text, write(tmp_path / "a.parquet", parquet({name: [one] for name, one in pair.items()})))
    close([of_lines["embedding"], of_table["embedding"]], [text.encode((LINE, "or not"))] * 2)


@pytest.mark.parametrize(
    ("files", "read"),
    [
        (["t.csv"], ["t.csv"]),
        (["t.tsv", "u.csv"], ["t.tsv", "u.csv"]),
        (["t.jsonl"], ["t.jsonl"]),
        (["t.json"], ["t.json"]),
        (["t.json", "u.json"], ["t.json", "u.json"]),
        (["t.json", "a.txt"], ["a.txt"]),
        (["in/a.txt", "README.md"], ["in/a.txt"]),
        (["pos/a.txt", "neg/b.txt", "labels.csv"], ["neg/b.txt", "pos/a.txt"]),
    ],
)
def test_folders_of_texts(tmp_path: Path, text: d2v.Model, files: list[str], read: list[str]) -> None:
    content = {".csv": f"text\n{LINE}\n", ".tsv": f"text\n{LINE}\n", ".jsonl": OBJECT, ".json": json.dumps([LINE])}
    for name in files:
        write(tmp_path / "texts" / name, content.get(Path(name).suffix, LINE))
    found = rows(text, tmp_path / "texts")
    assert [row["file"] for row in found] == [str(tmp_path / "texts" / name) for name in read]
    close([row["embedding"] for row in found], [text.encode(LINE)] * len(read))


def test_a_folder_of_a_table_and_of_shards(tmp_path: Path, text: d2v.Model) -> None:
    write(tmp_path / "tables" / "a.parquet", parquet({"text": [LINE]}))
    write(tmp_path / "tables" / "dataset_info.json", "{}")
    assert [row["file"] for row in rows(text, tmp_path / "tables")] == [f"{tmp_path}/tables/a.parquet/000000"]
    for number in range(2):
        shard = packed("tar", {f"{number}.txt": LINE.encode(), f"{number}.cls": b"1"})
        write(tmp_path / "shards" / f"part-{number}.tar.gz", shard)
    found = rows(text, tmp_path / "shards")
    assert [row["file"] for row in found] == [f"{tmp_path}/shards/part-{n}.tar.gz/{n}.txt" for n in range(2)]
    close([row["embedding"] for row in found], [text.encode(LINE)] * 2)


def test_files_that_are_left_out_are_said(tmp_path: Path, text: d2v.Model, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.txt", "x.pdf", "y.csv", "README.md"):
        write(tmp_path / "texts" / name, LINE)
    assert len(rows(text, tmp_path / "texts")) == 1
    assert "encode: 2 files beside the texts are left out" in capsys.readouterr().err


def test_keys_of_the_ingest_block(tmp_path: Path, text: d2v.Model) -> None:
    file = write(tmp_path / "a.csv", f"foo,bar\n{LINE},x\n")
    (row,) = rows(text, file, ingest={"columns": {"text": "foo"}})
    close(row["embedding"], text.encode(LINE))
    both = write(tmp_path / "a.txt", f"{LINE}\n{LINE}\n\nEnd.\n")
    (whole,) = rows(text, both, ingest={"document": "file"})
    assert whole["line"] is None
    close(whole["embedding"], text.encode(both.read_text()))
    found = rows(text, both, ingest={"document": "paragraph"})
    assert [row["line"] for row in found] == [1, 4]
    close([row["embedding"] for row in found], text.encode([f"{LINE}\n{LINE}", "End."]))
    for wrong, words in (({"colums": {}}, "did you mean columns"), ({"source": "x"}, "leave source out")):
        with pytest.raises(ConfigError, match=words):
            rows(text, both, ingest=wrong)


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path, text: d2v.Model) -> None:
    bad, good = write(tmp_path / "a.csv", "foo,bar\n1,2\n"), write(tmp_path / "b.txt", LINE)
    found = rows(text, bad, good)
    assert [row["problem"] is None for row in found] == [False, True]
    assert found[0]["file"] == str(bad)


# --------------------------------------------------------------------------------------- strings and bytes


@pytest.mark.parametrize("given", ["a \ud83d b", ["fine", "x\udc80"], ("a", "\ud800")])
def test_half_of_a_surrogate_pair_is_refused(text: d2v.Model, given: Any) -> None:
    with pytest.raises(DataError, match=r"half of a surrogate pair, U\+D.*give"):
        text.encode(given)


def test_strings_are_read_as_files_are(text: d2v.Model) -> None:
    close(text.encode("\ufeff" + LINE), text.encode(LINE))
    close(text.encode("one\r\ntwo\rthree"), text.encode("one\ntwo\nthree"))
    close(text.encode(("\ufeff" + LINE).encode("utf-16-le")), text.encode(LINE))
    with pytest.raises(DataError, match="no valid UTF-8"):
        text.encode(b"caf\xe9")


# ------------------------------------------------------------------------------------------- long texts


def test_what_is_cut_off_is_said_once(text: d2v.Model, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = len(TextTokenizer.from_json(TOKENIZER).encode_batch([LONG])[0]) + 2
    cut = text.encode([LONG, LINE, LONG])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"2 of 3 items are longer than the encoder takes: {2 * (tokens - MAX_TOKENS):,} tokens" in said
    assert text.encode(LONG, pool="none").shape[0] == MAX_TOKENS
    close(cut[0], text.encode(LONG))
    capsys.readouterr()
    text.encode([LINE, "short"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("pool", ["mean", "first"])
@pytest.mark.parametrize("layers", [None, "all"])
def test_windows_are_averaged_by_tokens(
    text: d2v.Model, capsys: pytest.CaptureFixture[str], layers: Any, pool: Any
) -> None:
    """Window by window by hand: adjoining, of as many tokens as fit beside <s> and </s>."""
    tokenizer = TextTokenizer.from_json(TOKENIZER)
    ids, room = tokenizer.encode_batch([LONG])[0], MAX_TOKENS - 2
    texts = [tokenizer.decode(ids[start : start + room]) for start in range(0, len(ids), room)]
    lengths = [len(text.encode(one, pool="none")) for one in texts]
    assert lengths[:-1] == [MAX_TOKENS] * (len(texts) - 1)
    layers = [1] if pool == "mean" and layers else None
    expected = np.average([text.encode(one, layers=layers, pool=pool) for one in texts], axis=0, weights=lengths)
    capsys.readouterr()
    short = text.encode(LINE, layers=layers, pool=pool)
    found = text.encode([LINE, LONG, LINE], long="windows", layers=layers, pool=pool)
    for row, right in zip(found, (short, expected, short), strict=True):
        np.testing.assert_allclose(row, right, atol=1e-4)
    tokens = text.encode(LONG, long="windows", pool="none")
    assert len(tokens) == sum(lengths)
    assert capsys.readouterr().err == ""


def test_long_texts_can_be_refused(text: d2v.Model) -> None:
    with pytest.raises(DataError, match=r"item 33 \(from 0\), 'word word .*' \.\.\., has 4\d\d tokens more"):
        text.encode([LINE] * 33 + [LONG], long="error")
    close(text.encode(LINE, long="error"), text.encode(LINE))
    with pytest.raises(ConfigError, match="cut, windows, error"):
        text.encode(LINE, long="both")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="a pair cannot be cut into windows"):
        text.encode((LONG, LINE), long="windows")


def test_texts_of_many_lengths_come_back_in_their_order(tmp_path: Path, text: d2v.Model) -> None:
    texts = ["word " * (1 + 7 * number % 11) for number in range(40)]
    alone = np.stack([text.encode(one) for one in texts])
    np.testing.assert_allclose(text.encode(texts), alone, atol=1e-5)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    encode_files(text, [tmp_path / "texts.txt"], tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found["line"].to_pylist() == list(range(1, 41))
    np.testing.assert_allclose(np.stack(found["embedding"].to_pylist()), alone, atol=1e-5)


def test_the_text_that_is_too_long_is_named_wherever_its_batch_is(text: d2v.Model) -> None:
    with pytest.raises(DataError, match=r"item 2 \(from 0\)"):
        text.encode(["a b", "c d e", "word " * 500, "f"], long="error")


def test_predictions_of_windows(tmp_path: Path) -> None:
    encoders.save_finetuned(tmp_path / "model", "text", 2, {"name": "classification"}, plain={"tokenizer": TOKENIZER})
    model = d2v.load(tmp_path / "model", device="cpu")
    tokenizer = TextTokenizer.from_json(TOKENIZER)
    ids, room = tokenizer.encode_batch([LONG])[0], MAX_TOKENS - 2
    texts = [tokenizer.decode(ids[start : start + room]) for start in range(0, len(ids), room)]
    lengths = [min(room, len(ids) - start) + 2 for start in range(0, len(ids), room)]
    outputs = model.outputs([LINE, LONG], long="windows")
    np.testing.assert_allclose(outputs[1], np.average(model.outputs(texts), axis=0, weights=lengths), atol=1e-4)
    assert model.predict(LONG, long="windows") == "abc"[outputs[1].argmax()]


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["encode", *map(str, arguments), "--device", "cpu"])


def test_the_command(tmp_path: Path) -> None:
    model, out = encoders.save(tmp_path / "model", "text", 2, {"tokenizer": TOKENIZER}), tmp_path / "out.parquet"
    long, table = write(tmp_path / "long.txt", LONG), write(tmp_path / "a.csv", f"foo,bar\n{LINE},x\n")
    cut = call(long, "--model", model, "--out", out)
    assert "1 of 1 items are longer than the encoder takes" in cut.output
    whole = call(long, table, "--model", model, "--out", out, "--long", "windows", "--ingest", "columns.text=foo")
    assert "longer" not in whole.output
    assert "2 rows of 32 numbers, 0 with a problem" in whole.output
    close(pq.read_table(out)["embedding"][0].as_py(), d2v.load(model, device="cpu").encode(LONG, long="windows"))
    assert "1 with a problem" in call(long, "--model", model, "--out", out, "--long", "error").output
    refused = call(table, "--model", model, "--out", out)
    assert "ingest.columns.text" in refused.output
    assert "--ingest KEY=VALUE" in refused.output
    assert isinstance(call(long, "--model", model, "--out", out, "--ingest", "columns").exception, ConfigError)
    assert isinstance(call(long, "--model", model, "--out", out, "--long", "all").exception, ConfigError)


# ------------------------------------------------------------------------------------- images and recordings


def image_file() -> bytes:
    whole = io.BytesIO()
    Image.fromarray(PHOTO).save(whole, "PNG")
    return whole.getvalue()


def sound() -> bytes:
    whole = io.BytesIO()
    soundfile.write(whole, WAVE, 16_000, format="WAV", subtype="FLOAT")
    return whole.getvalue()


def arrays(folder: Path) -> Path:
    np.savez(folder / "a.npz", x_train=PHOTO[None], y_train=[1])
    return folder / "a.npz"


def manifest(folder: Path) -> Path:
    write(folder / "wavs" / "a.wav", sound())
    return write(folder / "train.tsv", f"{folder}/wavs\na.wav\t{len(WAVE)}\n")


def beside(name: str, data: Callable[[], bytes], table: str) -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        write(folder / "items" / "class" / name, data())
        write(folder / "items" / "metadata.csv", table)
        return folder / "items"

    return made


def one_file(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    return lambda folder: write(folder / name, data())


SOURCES: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "image": ("vision", one_file("a.png", image_file)),
    "image without ending": ("vision", one_file("a", image_file)),
    "zip": ("vision", one_file("a.zip", lambda: packed("zip", {"x/a.png": image_file(), "x/labels.csv": b"a,b"}))),
    "tar": ("vision", one_file("a.tar.gz", lambda: packed("tar", {"x/a.png": image_file()}))),
    "shard": ("vision", lambda folder: write(folder / "s/a-0.tar", packed("tar", {"a.png": image_file()})).parent),
    "parquet": ("vision", one_file("a.parquet", lambda: parquet({"image": [image_file()], "labels": [["a", "b"]]}))),
    "arrays": ("vision", arrays),
    "table": ("vision", beside("a.png", image_file, "file_name,label\nclass/a.png,x\n")),
    "open quote": ("vision", beside("a.png", image_file, 'file_name,label\nclass/a.png,"x\n')),
    "recording": ("speech", one_file("a.wav", sound)),
    "recordings in parquet": ("speech", one_file("a.parquet", lambda: parquet({"audio": [sound()]}))),
    "recordings in tar": ("speech", one_file("a.tar.gz", lambda: packed("tar", {"a.wav": sound(), "a.txt": b"one"}))),
    "transcripts": ("speech", beside("a.wav", sound, "file_name,transcription\nclass/a.wav,one two\n")),
    "broken transcripts": ("speech", beside("a.wav", sound, 'file_name,transcription\nclass/a.wav,"one\n')),
    "manifest": ("speech", manifest),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_an_item_has_the_same_features_wherever_it_is(tmp_path: Path, models: dict[str, d2v.Model], name: str) -> None:
    modality, make = SOURCES[name]
    model = models[modality]
    (row,) = rows(model, make(tmp_path))
    assert row["problem"] is None
    file = write(tmp_path / "bytes", image_file() if modality == "vision" else sound())
    for expected in (model.encode(PHOTO if modality == "vision" else WAVE), model.encode(file.read_bytes())):
        close(row["embedding"], expected)


def test_a_decoder_that_fails_is_a_reason(
    tmp_path: Path, models: dict[str, d2v.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        pass

    def fail(*_: object) -> None:
        raise Panic("out of luck")

    monkeypatch.setattr(reading, "_from_file", fail)
    file = write(tmp_path / "a.png", image_file())
    (row,) = rows(models["vision"], file)
    assert "its decoder failed: Panic: out of luck" in row["problem"]
    with pytest.raises(DataError, match="its decoder failed: Panic: out of luck"):
        models["vision"].encode(file)


def test_some_items_of_many_lie_at_equal_distances(tmp_path: Path, text: d2v.Model) -> None:
    (tmp_path / "many.txt").write_text("".join(f"line {number}\n" for number in range(99)))
    assert [*some_items(text, [tmp_path / "many.txt"], 200)] == [f"line {number}" for number in range(99)]
    pictures = encoders.save(tmp_path / "vision", "vision", 2)
    (tmp_path / "photos").mkdir()
    for number in range(7):
        Image.new("RGB", (8, 8), (30 * number,) * 3).save(tmp_path / "photos" / f"{number}.png")
    chosen = [*some_items(d2v.load(pictures, device="cpu"), [tmp_path / "photos"], 4)]
    assert [int(np.asarray(one)[0, 0, 0]) for one in chosen] == [0, 30, 90, 150]
