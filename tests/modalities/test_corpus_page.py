"""The page of a corpus: what it says against the files of the corpus, for every modality."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from d2v.cli import app
from d2v.config import parse
from d2v.data.ingest import CORPUS, DUPLICATES, MANIFEST
from d2v.errors import ConfigError, DataError
from d2v.modalities import corpus_counts, corpus_page, registry
from d2v.modalities.base import Modality, Preview
from d2v.modalities.corpus_page import is_page_of, modality_of, write_corpus_page
from d2v.modalities.registry import MODALITIES
from tests.modalities.contract import find_case

VISION: Any = registry.get("vision")
SCRIPT = "<script>alert(1)<b>"
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div", "span", "b", "ul", "li", "small"),
    *(
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "i",
        "figure",
        "figcaption",
        "img",
        "audio",
        "blockquote",
    ),
    *("svg", "rect"),
}


class Page(HTMLParser):
    """Tags, addresses, rows of tables and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.rows: list[list[str]] = []
        self.said: list[str] = []
        self.html = path.read_text()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.in_cell = tag in ("td", "th") or (self.in_cell and tag in ("i", "div")) if self.rows else False

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data: str) -> None:
        self.said.append(data)
        if self.rows and self.in_cell:
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.said)

    def row(self, first: str) -> list[str]:
        """The one row that begins with a cell."""
        (found,) = [row for row in self.rows if row[:1] == [first]]
        return found

    def tile(self, name: str) -> str:
        """The number over a name."""
        return self.said[self.said.index(name) - 1]

    def files(self) -> list[tuple[str, bytes]]:
        """(media type, content) of everything inlined."""
        parted = [source.removeprefix("data:").split(";base64,") for source in self.sources]
        return [(kind, base64.b64decode(content, validate=True)) for kind, content in parted]


def picture(seed: int, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def write_images(root: Path) -> None:
    """12 cats, 4 scripts and a bird to train on, 3 cats and a fish to test on; two broken files, three duplicates."""
    for split, name, count in (("train", "cat", 12), ("train", SCRIPT, 4), ("train", "bird", 1), ("test", "cat", 3)):
        folder = root / split / name
        folder.mkdir(parents=True)
        for number in range(count):
            data = picture(hash_of(split, name, number), (40 + number, 30))
            (folder / f"{name[:7]}{number}.png").write_bytes(data)
    (root / "test" / "fish").mkdir()
    (root / "test" / "fish" / "f.jpg").write_bytes(picture(1, (300, 200), format="JPEG", comment=b"drawn <i>by hand"))
    (root / "train" / "cat" / "empty.png").touch()
    (root / "train" / "cat" / "thin.png").write_bytes(picture(2, (2, 30)))
    (root / "train" / "cat" / "thin2.png").write_bytes(picture(3, (1, 30)))
    cat = (root / "train" / "cat" / "cat0.png").read_bytes()
    (root / "train" / "cat" / "twin.png").write_bytes(cat)
    (root / "train" / "bird" / "twin.png").write_bytes(cat)
    (root / "test" / "cat" / "twin.png").write_bytes((root / "train" / "cat" / "cat1.png").read_bytes())


def hash_of(*parts: object) -> int:
    return sum(map(ord, repr(parts)))


def ingest_images(source: Path, out: Path) -> Path:
    config = parse(VISION.recipe.model_fields["ingest"].annotation, {"source": str(source)}, at="vision.ingest")
    VISION.ingest(config, out)
    return out


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_images(folder / "source")
    return ingest_images(folder / "source", folder / "animals")


@pytest.fixture(scope="module")
def page(corpus: Path) -> Page:
    return Page(write_corpus_page(VISION, corpus, corpus.with_name("page") / "report.html"))


def test_classes_and_splits_are_those_of_the_manifest(corpus: Path, page: Page) -> None:
    rows = pq.read_table(corpus / MANIFEST).to_pylist()
    assert page.row("split")[:4] == ["split", "items", "with a class", "classes"]
    for split in ("train", "test"):
        labels = [row["label"] for row in rows if row["split"] == split]
        most = max(set(labels), key=labels.count)
        wanted = [len(labels), len(labels), len(set(labels))]
        assert page.row(split)[1:6] == [*map(str, wanted), most, f"{labels.count(most) / len(labels):.1%}"]
    for name in {row["label"] for row in rows}:
        counts = [sum((row["split"], row["label"]) == (split, name) for row in rows) for split in ("train", "test")]
        assert page.row(name)[1:3] == [str(count) for count in counts]


def test_every_item_of_the_source_is_accounted_for(corpus: Path, page: Page) -> None:
    report = json.loads((corpus / CORPUS).read_text())["report"]
    names = {"items in the source": "total", "kept": "kept", "quarantined": "quarantined", "duplicates": "duplicates"}
    assert {name: int(page.tile(name)) for name in names} == {name: report[key] for name, key in names.items()}
    assert page.row("the file is empty") == ["the file is empty", "1", "train/cat/empty.png"]
    (thin,) = [row for row in page.rows if "min_side_px" in row[0]]
    assert thin[1:] == ["2", "train/cat/thin.png\ntrain/cat/thin2.png"], "numbers do not make other reasons"
    assert page.row("across splits")[1] == "1"
    assert page.row("within a split")[1] == "2"
    assert (
        "bird here, cat there" in page.row("in two classes")[2]
        or "cat here, bird there" in page.row("in two classes")[2]
    )


def test_what_files_are_is_counted(page: Page) -> None:
    assert [page.row(name)[1] for name in ("PNG", "JPEG", "RGB")] == ["20", "1", "21"]
    assert page.row("drawn <i>by hand")[1] == "1"


def test_classes_that_a_split_lacks_are_named(page: Page) -> None:
    assert "classes of the test split that the train split lacks: fish" in page.text
    assert f"classes of the train split that the test split lacks: {SCRIPT}, bird" in page.text


def test_names_are_texts_not_tags(page: Page) -> None:
    assert page.tags <= TAGS
    assert SCRIPT in page.text
    assert "<script" not in page.html
    assert "drawn <i>" not in page.html


def test_the_page_needs_nothing_else(page: Page) -> None:
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?:|url\(|@import", page.html)
    shown = [Image.open(io.BytesIO(content)) for _, content in page.files()]
    assert {image.format for image in shown} == {"PNG", "JPEG"}
    assert max(max(image.size) for image in shown) == 160, "the photo is made small"


def test_the_same_corpus_gives_the_same_bytes(corpus: Path, page: Page, tmp_path: Path) -> None:
    again = ingest_images(corpus.with_name("source"), tmp_path / "animals")
    assert write_corpus_page(VISION, again, tmp_path / "page.html").read_text() == page.html


def test_batches_of_the_manifest_change_nothing(
    corpus: Path, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_counts, "BATCH_ROWS", 3)
    assert write_corpus_page(VISION, corpus, tmp_path / "page.html").read_text() == page.html


def test_examples_are_bounded_and_only_they_are_decoded(
    corpus: Path, page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    preview = type(VISION).preview

    def counted(self: Modality, data: bytes, said: dict[str, object]) -> Preview:
        decoded.append(data)
        return preview(self, data, said)

    monkeypatch.setattr(type(VISION), "preview", counted)
    monkeypatch.setattr(corpus_page, "EXAMPLE_BYTES", 30_000)
    small = Page(write_corpus_page(VISION, corpus, tmp_path / "page.html"))
    assert sum(map(len, small.sources)) < 30_000 + 40 * len(small.sources)
    assert len(decoded) == len(small.sources) + 1 < len(page.sources)
    assert "More would make the page larger than 0.03 MB" in small.text
    assert small.text.count("train, ") >= 3, "each class has its first example before any has a second"


def test_an_item_that_cannot_be_shown_is_no_reason_to_lose_the_page(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(VISION), "preview", lambda *_: 1 / 0)
    assert "cannot be shown: ZeroDivisionError" in Page(write_corpus_page(VISION, corpus, tmp_path / "p.html")).text


def test_a_corpus_of_an_earlier_version_has_a_page_that_says_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    old = tmp_path / "animals"
    old.mkdir()
    about = json.loads((corpus / CORPUS).read_text())
    for name in ("origins", "remarks", "contradictions"):
        del about["report"][name]
    (old / CORPUS).write_text(json.dumps(about))
    pq.write_table(pq.read_table(corpus / MANIFEST).drop_columns(["row", "height"]), old / MANIFEST)
    rows = [line.split(",")[:3] for line in (corpus / DUPLICATES).read_text().splitlines()]
    (old / DUPLICATES).write_text("\n".join(map(",".join, rows)))
    shown = Page(write_corpus_page(VISION, old, tmp_path / "page.html"))
    assert shown.row("across splits")[1] == "1"
    assert shown.row("bird")[1:3] == ["2", "0"]
    assert "the manifest has no height" in shown.text
    assert "formats and writers of its files were not recorded" in shown.text
    assert "no stored items to show" in shown.text
    assert "3 items are quarantined, but their list quarantine.csv is not there" in shown.text


def test_many_classes_are_shown_in_part(tmp_path: Path) -> None:
    """1,000 classes of a long tail: the largest and the rarest have bars, and the rest is a line."""
    counts = {f"c{number:04d}": 1 + 2000 // (number + 1) for number in range(1000)}
    labels = [name for name, count in counts.items() for _ in range(count)]
    table = pa.table({"split": ["train"] * len(labels), "label": labels, "width": [7] * len(labels)})
    pq.write_table(table, tmp_path / MANIFEST, row_group_size=1000)
    (tmp_path / CORPUS).write_text(json.dumps({"source": "s", "report": {"total": len(labels), "kept": len(labels)}}))
    shown = Page(write_corpus_page(VISION, tmp_path, tmp_path / "page.html"))
    assert shown.row("c0000")[1] == "2,001"
    assert shown.row("c0999")[1] == "3"
    assert "960 classes between these" in shown.text
    assert len(shown.html) < 60_000


def test_numbers_of_many_values_have_a_histogram(tmp_path: Path) -> None:
    widths = np.arange(1, 1001)
    rows = {"split": ["train"] * 1000, "label": pa.nulls(1000, pa.string()), "width": widths, "height": widths * 0 + 5}
    pq.write_table(pa.table(rows), tmp_path / MANIFEST)
    (tmp_path / CORPUS).write_text(json.dumps({"source": "s", "report": {"total": 1000, "kept": 1000}}))
    shown = Page(write_corpus_page(VISION, tmp_path, tmp_path / "page.html"))
    counts = [int(count.replace(",", "")) for count in re.findall(r"<title>.*?: ([\d,]+)</title></rect>", shown.html)]
    assert sum(counts) == 1000
    (median,) = re.findall(r"1 px to 1,000 px, median about ([\d.]+), mean 500", shown.html)
    assert abs(float(median) - 500) < 5
    assert shown.row("5 px")[1] == "1,000"


def test_a_page_knows_its_corpus(corpus: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert not is_page_of(corpus, page)
    write_corpus_page(VISION, corpus, page)
    assert is_page_of(corpus, page)
    other = tmp_path / "other"
    other.mkdir()
    (other / CORPUS).write_text((corpus / CORPUS).read_text().replace('"kept": 21', '"kept": 22'))
    assert not is_page_of(other, page)


def test_the_command_writes_it_again(corpus: Path, page: Page, tmp_path: Path) -> None:
    out = tmp_path / "again.html"
    done = CliRunner().invoke(app, ["report", str(corpus), "--out", str(out)])
    assert done.stdout.strip() == str(out)
    assert out.read_text() == page.html


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="give a folder that ingest left"):
        write_corpus_page(VISION, tmp_path, tmp_path / "page.html")
    (tmp_path / CORPUS).write_text("{}")
    with pytest.raises(DataError, match=r"lacks report.*give a folder that ingest left"):
        write_corpus_page(VISION, tmp_path, tmp_path / "page.html")
    (tmp_path / CORPUS).write_text('{"report": {}}')
    pq.write_table(pa.table({"split": ["train"]}), tmp_path / MANIFEST)
    with pytest.raises(ConfigError, match="Say it with --modality"):
        modality_of(tmp_path)


@pytest.mark.parametrize("name", MODALITIES)
def test_every_modality_has_a_page(name: str, tmp_path: Path) -> None:
    """With examples that are what they say, found again without a word on the modality."""
    modality, case = registry.get(name), find_case(name)
    source = {}
    if case.write_source is not None:
        (tmp_path / "source").mkdir()
        case.write_source(tmp_path / "source")
        source = {"source": str(tmp_path / "source")}
    ingest = parse(modality.recipe.model_fields["ingest"].annotation, {**case.ingest, **source}, at=name)
    modality.ingest(ingest, tmp_path / "corpus")
    assert modality_of(tmp_path / "corpus") == modality
    shown = Page(write_corpus_page(modality, tmp_path / "corpus", tmp_path / "page.html"))
    assert shown.tags <= TAGS
    kept = json.loads((tmp_path / "corpus" / CORPUS).read_text())["report"]["kept"]
    assert shown.tile("kept") == f"{kept:,}"
    for quantity in modality.quantities():
        assert quantity.name.capitalize() in shown.text
    for kind, content in shown.files():
        if kind.startswith("image/"):
            Image.open(io.BytesIO(content)).load()
        else:
            assert kind == "audio/flac"
            assert 0 < soundfile.info(io.BytesIO(content)).duration <= 4.0
    assert shown.files() or "blockquote" in shown.tags or "no previews" in shown.text


def test_a_modality_that_says_nothing_of_pages_has_one(corpus: Path, tmp_path: Path) -> None:
    class Plain(type(VISION)):  # type: ignore[misc]
        quantities = Modality.quantities
        preview = Modality.preview

    shown = Page(write_corpus_page(Plain(), corpus, tmp_path / "page.html"))
    assert "no previews" in shown.text
    assert not shown.sources
    assert "Height" in shown.text
