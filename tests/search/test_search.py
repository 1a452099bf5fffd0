"""`d2v index` and `d2v search`: what is found, what a second build does, what a killed one leaves, two reports."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.search_space import SearchSpace
from d2v.search import index as index_module
from d2v.search.console import show_lists
from d2v.search.index import Index, fingerprint, measure_recall
from d2v.search.query import question_of, search, time_of, vector_of
from d2v.search.reports import near_duplicates, outliers
from tests.interchange.test_load import model_of

pytest.importorskip("lancedb")
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-20, 20, (24, 24, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, of_each: int = 6) -> Path:
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(of_each):
            picture(colour, number).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> d2v.Model:
    return model_of(tmp_path_factory.mktemp("model"), "vision")


@pytest.fixture(scope="module")
def made(model: d2v.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pictures` and `index`, made once."""
    folder = tmp_path_factory.mktemp("made")
    Index.build(model, [write_pictures(folder / "pictures")], folder / "index")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; its pictures have the same paths."""
    shutil.copytree(made / "index", tmp_path / "index")
    return tmp_path


# ------------------------------------------------------------------------------------------------ search


def test_an_item_finds_itself_and_then_its_like(made: Path, model: d2v.Model) -> None:
    hits = search(Index(made / "index"), model, made / "pictures" / "red" / "3.png", 6)
    assert hits[0].file.endswith("red/3.png")
    assert hits[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert {hit.label for hit in hits} == {"red"}
    assert [hit.similarity for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


def test_a_picture_in_memory_a_vector_and_a_mix_ask_too(made: Path, model: d2v.Model) -> None:
    index, red, blue = Index(made / "index"), picture(COLOURS["red"], 90), picture(COLOURS["blue"], 91)
    assert {hit.label for hit in search(index, model, red, 6)} == {"red"}
    assert {hit.label for hit in search(index, model, model.encode(blue), 6)} == {"blue"}
    assert {hit.label for hit in search(index, model, [(1.0, red), (0.05, blue)], 6)} == {"red"}
    halves = vector_of(index, model, [(2.0, red), (2.0, blue)])
    np.testing.assert_allclose(halves, vector_of(index, model, [(1.0, blue), (1.0, red)]), atol=1e-6)
    with pytest.raises(DataError, match="cancel"):
        search(index, model, [(1.0, red), (-1.0, red)])


def test_filters_keep_to_paths_and_classes(made: Path, model: d2v.Model) -> None:
    index, red = Index(made / "index"), made / "pictures" / "red" / "3.png"
    assert {hit.label for hit in search(index, model, red, 20, label="green")} == {"green"}
    found = search(index, model, red, 20, path="*/blue/*")
    assert len(found) == 6
    assert all("/blue/" in hit.file for hit in found)
    assert search(index, model, red, path="*/blue/*", label="red") == []
    assert search(index, model, red, path="*/b_ue/*") == [], "only * stands for anything"
    assert search(index, model, red, label="' OR 1=1") == []


def test_another_encoder_is_refused_by_search_and_by_build(made: Path, tmp_path: Path) -> None:
    other = model_of(tmp_path, "vision")
    with torch.no_grad():
        next(other.encoder.parameters()).add_(0.01)
    with pytest.raises(CheckpointError, match="another encoder"):
        search(Index(made / "index"), other, made / "pictures" / "red" / "3.png")
    with pytest.raises(CheckpointError, match="another encoder"):
        Index.build(other, [made / "pictures"], made / "index")


def test_a_new_space_makes_another_encoder(tmp_path: Path) -> None:
    plain = model_of(tmp_path, "text")
    SearchSpace.learned(torch.randn(50, plain.width)).save(tmp_path / "text")
    assert fingerprint(d2v.load(tmp_path / "text", device="cpu")) != fingerprint(plain)


def test_what_is_no_index_and_no_question_is_said(made: Path, model: d2v.Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="d2v index"):
        Index(tmp_path)
    with pytest.raises(DataError, match="not there"):
        Index.build(model, [tmp_path / "nothing"], tmp_path / "index")
    with pytest.raises(ConfigError, match="one or more"):
        search(Index(made / "index"), model, "x.png", 0)
    with pytest.raises(ConfigError, match="one item"):
        search(Index(made / "index"), model, made / "pictures")


# ------------------------------------------------------------------------------------------------ builds


def test_an_item_that_changed_into_one_without_a_vector_is_not_found_by_what_it_was(
    model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 1)
    Index.build(model, [pictures], tmp_path / "index")
    picture(COLOURS["blue"], 77).save(pictures / "red" / "0.png")
    monkeypatch.setattr(model, "features", lambda inputs, **_: [np.full(model.width, np.nan, np.float32)] * len(inputs))
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.items, built.changed, built.removed, built.problems) == (2, 0, 1, 1)
    assert "red/0.png" in built.first
    assert not [hit for hit in index.nearest(np.ones(model.width), 9) if "red" in hit.file]


def test_an_item_whose_features_are_all_zero_is_named(
    model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, features = write_pictures(tmp_path / "pictures", 2), d2v.Model.features

    def zero_alone(self: d2v.Model, inputs: Any, **given: Any) -> list[np.ndarray]:
        found = features(self, inputs, **given)
        return [0 * one for one in found] if len(found) == 1 else [*found[1:], 0 * found[0]]

    monkeypatch.setattr(d2v.Model, "features", zero_alone)
    index, built = Index.build(model, [folder], tmp_path / "index")
    assert (built.items, built.problems) == (0, 6)
    assert "are all zero" in built.first
    assert index.nearest(np.ones(model.width), 9) == []


def test_another_class_of_the_same_item_is_a_change(model: d2v.Model, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 1)
    columns = {"file": "file_name", "label": "label"}
    table = pictures / "metadata.csv"
    for label in ("old", "new"):
        table.write_text(f"file_name,label\nred/0.png,{label}\n")
        index, built = Index.build(model, [pictures], tmp_path / "index", {"columns": columns})
    assert (built.added, built.changed, built.removed) == (0, 1, 0)
    assert {hit.label for hit in index.nearest(np.ones(model.width), 9) if "red" in hit.file} == {"new"}


@pytest.mark.parametrize("part", ["data", "_versions"])
def test_a_table_that_lost_files_is_named(folder: Path, model: d2v.Model, part: str) -> None:
    shutil.rmtree(folder / "index" / "items.lance" / part)
    with pytest.raises(DataError, match="make it again with d2v index"):
        search(Index(folder / "index"), model, picture(COLOURS["red"], 90))
    with pytest.raises(DataError, match="make it again with d2v index"):
        near_duplicates(Index(folder / "index"))


def test_an_index_whose_facts_are_damaged_is_named(folder: Path) -> None:
    (folder / "index" / "index.json").write_text('{"width": "wide"}')
    with pytest.raises(DataError, match="lacks width"):
        Index(folder / "index")


def test_a_second_build_encodes_what_is_new_or_changed_and_removes_what_is_gone(
    model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 3)
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.items, built.added, built.problems) == (9, 9, 0)
    picture((250, 250, 0), 5).save(pictures / "red" / "new.png")
    picture(COLOURS["blue"], 77).save(pictures / "green" / "0.png")
    (pictures / "blue" / "2.png").unlink()
    (pictures / "blue" / "broken.png").write_bytes(b"no picture")
    encoded: list[int] = []
    plain = model.features
    monkeypatch.setattr(
        model, "features", lambda inputs, *more, **named: encoded.append(len(inputs)) or plain(inputs, *more, **named)
    )
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.items, built.added, built.changed, built.removed, built.problems) == (9, 1, 1, 1, 1)
    assert sum(encoded) == 2
    assert "broken.png" in built.first
    assert search(index, model, pictures / "green" / "0.png", 1)[0].similarity == pytest.approx(1.0, abs=1e-4)


def test_a_folder_that_is_gone_keeps_its_items_until_they_are_dropped(
    model: d2v.Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, stays = write_pictures(tmp_path / "gone", 1), write_pictures(tmp_path / "stays", 1)
    Index.build(model, [gone, stays], tmp_path / "index")
    gone.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"not there.*--drop PATH"):
        Index.build(model, [gone], tmp_path / "index")
    index, built = Index.build(model, [stays], tmp_path / "index")
    assert (built.items, built.removed) == (6, 0)
    assert f"{gone} cannot be found, and 3 items" in capsys.readouterr().err
    assert index.lost() == {str(gone): 3}
    gone.mkdir()  # as the folder of a disk that is not mounted
    assert Index.build(model, [gone], tmp_path / "index")[1].items == 6
    assert "all 3 items that the index has of it stay" in capsys.readouterr().err
    index, built = Index.build(model, [], tmp_path / "index", drop=[gone])
    assert (built.items, built.removed, index.lost()) == (3, 3, {})
    with pytest.raises(DataError, match="no items of"):
        Index.build(model, [], tmp_path / "index", drop=[gone])


def test_a_subfolder_that_cannot_be_read_keeps_its_items(
    model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    Index.build(model, [pictures], tmp_path / "index")
    (pictures / "green" / "0.png").unlink()
    scan = os.scandir

    def closed(folder: str) -> object:
        if str(folder).endswith("red"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", closed)
    _, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.items, built.removed, built.problems) == (5, 1, 1)
    assert "Permission denied" in built.first


def test_an_item_has_one_row_whatever_path_led_to_it(
    model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    shutil.make_archive(str(pictures / "packed"), "tar", pictures, "blue")
    Index.build(model, [pictures / "packed.tar", pictures / "red", pictures / "red" / "0.png"], tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    index, built = Index.build(model, [Path("pictures")], tmp_path / "index")
    assert len(index) == 8, "six files and two members of the archive, which the folder around it does not open"
    assert built.removed == 0
    (pictures / "red" / "1.png").unlink()
    assert Index.build(model, [Path("pictures")], tmp_path / "index")[1].removed == 1
    _, built = Index.build(model, [Path("pictures")], tmp_path / "index")
    assert (built.items, built.added, built.changed) == (7, 0, 0)


def test_filters_keep_to_times_of_files(model: d2v.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    for number, file in enumerate(sorted(pictures.rglob("*.png"))):
        os.utime(file, (0, 1_000 * number))
    shutil.make_archive(str(tmp_path / "packed"), "tar", pictures, "red")
    os.utime(tmp_path / "packed.tar", (0, 50_000.5))
    index, _ = Index.build(model, [pictures, tmp_path / "packed.tar"], tmp_path / "index")
    red = picture(COLOURS["red"], 90)

    def found(**filters: Any) -> list[str]:
        return sorted("/".join(Path(hit.file).parts[-2:]) for hit in search(index, model, red, 20, **filters))

    noon = datetime.fromtimestamp(2_000, UTC)
    assert found(before=noon) == ["blue/0.png", "blue/1.png"]
    assert found(after=noon, before=datetime.fromtimestamp(4_000, UTC)) == ["green/0.png", "green/1.png"]
    assert found(after=noon, label="green", path="*/1.png") == ["green/1.png"]
    (packed, _) = search(index, model, red, 20, after=datetime.fromtimestamp(50_000, UTC))
    assert (packed.modified_s, "packed.tar" in packed.file) == (50_000.5, True)

    monkeypatch.setattr(model, "features", lambda *_, **__: pytest.fail("the same content was encoded again"))
    os.utime(pictures / "red" / "0.png", (0, 90_000))
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.added, built.changed, built.removed) == (0, 0, 0)
    monkeypatch.undo()
    assert found(after=datetime.fromtimestamp(60_000, UTC)) == ["red/0.png"]


def test_an_index_without_times_is_searched_and_gets_them(folder: Path, made: Path, model: d2v.Model) -> None:
    index = Index(folder / "index")
    index._table.drop_columns(["modified_s"])
    index, red = Index(folder / "index"), picture(COLOURS["red"], 90)
    assert search(index, model, red, 1)[0].modified_s is None
    with pytest.raises(ConfigError, match="up to date with d2v index"):
        search(index, model, red, after=datetime.fromtimestamp(0, UTC))
    index, built = Index.build(model, [made / "pictures"], folder / "index")
    assert (built.items, built.added, built.changed) == (18, 0, 0)
    assert len(search(index, model, red, 20, after=datetime.fromtimestamp(0, UTC))) == 18


def test_times_are_iso_8601() -> None:
    assert time_of("") is None
    assert time_of("2026-11-30T18:00Z") == datetime(2026, 11, 30, 18, tzinfo=UTC)
    for wrong in ("yesterday", "30.11.2026", "0001-01-01"):
        with pytest.raises(ConfigError, match="give a date"):
            time_of(wrong)


def test_vectors_and_counts_that_make_no_sense(made: Path, model: d2v.Model, tmp_path: Path) -> None:
    index = Index(made / "index")
    for wrong in (np.full(model.width, np.nan), np.full(model.width, np.inf), np.zeros(model.width)):
        with pytest.raises(DataError, match="nothing is near"):
            index.nearest(wrong)
    with pytest.raises(ConfigError, match="shape"):
        index.nearest(np.ones(model.width + 1))
    with pytest.raises(DataError, match="weight"):
        search(index, model, [(float("nan"), picture(COLOURS["red"], 0))])
    assert len(index.nearest(np.ones(model.width), 10**12)) == 18
    (tmp_path / "empty.txt").write_text("no picture")
    empty, built = Index.build(model, [tmp_path / "empty.txt"], tmp_path / "index")
    assert (built.items, built.problems) == (0, 1)
    assert search(empty, model, picture(COLOURS["red"], 0)) == []
    assert (near_duplicates(empty), outliers(empty)) == ([], [])


def test_paths_that_are_not_given_again_keep_their_items(folder: Path, model: d2v.Model) -> None:
    index, built = Index.build(model, [write_pictures(folder / "others", 1)], folder / "index")
    assert (len(index), built.added, built.removed) == (21, 3, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
import d2v
from d2v.search import index
index.WRITTEN_AT_A_TIME = 4
write, writes = index._Building._write, []
def _write(self, *given):
    write(self, *given)
    writes.append(1)
    if len(writes) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
index._Building._write = _write
index.Index.build(d2v.load(sys.argv[1], device="cpu"), [Path(sys.argv[2])], Path(sys.argv[3]))
"""


def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    model = model_of(tmp_path, "vision")
    pictures = write_pictures(tmp_path / "pictures", 4)
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "vision"), str(pictures), str(tmp_path / "index")]
    killed = subprocess.run(arguments, capture_output=True, check=False, env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(Index(tmp_path / "index")) == 8
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (built.items, built.added) == (12, 4)
    rows, ids = index.vectors()
    assert len(set(ids)) == len(rows) == 12


def test_many_items_are_found_by_an_index_whose_recall_is_measured(
    folder: Path, model: d2v.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "EXACT_ITEMS", 300)
    monkeypatch.setattr(index_module, "OUTGROWN", 10**6)
    index = Index(folder / "index")
    table, width = index._table, int(index.about["width"])
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, width))[rng.integers(0, 20, 600)] + 0.3 * rng.standard_normal((600, width))
    rows = [
        {"id": f"x{n}", "root": "x", "file": f"x{n}", "is_small": False, "vector": v.astype(np.float32)}
        for n, v in enumerate(vectors)
    ]
    table.add(index_module.pa.Table.from_pylist(rows, schema=index_module._schema(width)))
    index, built = Index.build(model, [write_pictures(folder / "more", 1)], folder / "index")
    assert index._table.list_indices()
    assert built.recall == index.about["recall"] == pytest.approx(measure_recall(index))
    assert built.recall >= 0.95
    assert index.nearest(vectors[7], 1)[0].file == "x7"
    trained = index.about["trained_on"]
    table.delete("starts_with(file, 'x1')")
    assert 0.8 < measure_recall(index) <= 1.0
    index, _ = Index.build(model, [folder / "more"], folder / "index")
    assert index.about["trained_on"] == trained, "it has not outgrown its index"
    found = {Path(hit.file).name for hit in index.nearest(vectors[7], 20, "label = 'red'")}
    assert found == {hit.file.rpartition("/")[2] for hit in index.nearest(vectors[7], 20, "label = 'red'", exact=True)}


@pytest.mark.parametrize(("recalls", "probed", "recall"), [((0.5, 0.96), 128, 0.96), ((0.1, 0.2, 0.3), 0, 1.0)])
def test_more_parts_are_looked_at_until_enough_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch, recalls: tuple[float, ...], probed: int, recall: float
) -> None:
    index, given = Index(folder / "index"), iter(recalls)
    monkeypatch.setattr(index_module, "measure_recall", lambda index: next(given))
    assert index_module._measured(index) == {"recall": recall, "probed": probed}


def test_an_index_that_shrank_is_searched_exactly_again(
    folder: Path, made: Path, model: d2v.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(folder / "index")
    index_module.write_json(folder / "index" / "index.json", index.about | {"probed": 32, "recall": 0.96})
    index, built = Index.build(model, [made / "pictures"], folder / "index")
    assert (index.about["probed"], built.recall) == (0, 1.0)
    asked: list[bool] = []
    query = type(index._table.search(np.ones(model.width, np.float32)))
    plain = query.bypass_vector_index
    monkeypatch.setattr(query, "bypass_vector_index", lambda self: asked.append(True) or plain(self))
    assert len(index.nearest(np.ones(model.width), 5)) == 5
    assert asked == [True]


@pytest.mark.parametrize("modality", ["speech", "text"])
def test_recordings_and_lines_of_texts_are_found(modality: str, tmp_path: Path) -> None:
    model_of(tmp_path, modality)
    (tmp_path / "files").mkdir()
    if modality == "text":
        (tmp_path / "files" / "a.txt").write_text("to be or not\nthat is the question\nto be\n")
        question, found = "that is the question", "a.txt:2"
    else:
        for number in range(3):
            wave = np.sin(np.arange(6000) * 0.02 * (number + 1)) * 0.3
            soundfile.write(tmp_path / "files" / f"{number}.wav", wave, 16_000)
        question, found = str(tmp_path / "files" / "1.wav"), "1.wav"
    arguments = ["--model", str(tmp_path / modality), "--device", "cpu"]
    run = CliRunner()
    built = run.invoke(app, ["index", str(tmp_path / "files"), "--out", str(tmp_path / "index"), *arguments])
    assert built.exit_code == 0, built.output
    assert "3 items (3 added" in built.output
    page = tmp_path / "found.html"
    asked = run.invoke(app, ["search", str(tmp_path / "index"), question, *arguments, "-k", "2", "--html", str(page)])
    assert asked.exit_code == 0, asked.output
    first = next(line for line in asked.output.splitlines() if "1.000" in line)
    assert found in first
    html = page.read_text()
    assert html.count("<figure") == 2
    assert ("<blockquote>that is the question" if modality == "text" else '<audio controls preload="none"') in html
    assert not re.findall(r'(?:src|href)="(?!data:)', html)


# ------------------------------------------------------------------------------------------------ reports


def test_near_duplicates_are_the_pairs_above_a_threshold_the_most_alike_first(model: d2v.Model, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 2)
    shutil.copy(pictures / "red" / "0.png", pictures / "red" / "again.png")
    index, _ = Index.build(model, [pictures], tmp_path / "index")
    pairs = near_duplicates(index, 0.9)
    assert {Path(pairs[0].first.file).name, Path(pairs[0].second.file).name} == {"0.png", "again.png"}
    assert pairs[0].similarity == pytest.approx(1.0, abs=1e-4)
    rows, _ = index.vectors()
    expected = int((np.triu(rows @ rows.T, 1) >= 0.9).sum())
    assert len(pairs) == expected
    assert len(near_duplicates(index, 0.9, most=1)) == 1


def test_outliers_are_the_items_without_like(model: d2v.Model, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(15):
        picture(COLOURS["red"], number).save(pictures / f"{number}.png")
    picture(COLOURS["blue"], 0).save(pictures / "odd.png")
    index, _ = Index.build(model, [pictures], tmp_path / "index")
    assert Path(outliers(index, 3)[0].file).name == "odd.png"
    page = tmp_path / "look.html"
    show_lists(index, 0.99, 2, page)
    assert "the least typical items" in page.read_text()


# ------------------------------------------------------------------------------------------------ as users do


def test_a_deeper_path_keeps_the_classes_that_a_path_above_it_gave(folder: Path, made: Path, model: d2v.Model) -> None:
    index, built = Index.build(model, [made / "pictures" / "red"], folder / "index")
    assert (built.changed, built.removed) == (0, 0)
    assert len(search(index, model, np.ones(32, np.float32), 18, label="red")) == 6


def test_a_drop_that_names_an_unknown_path_drops_nothing_and_makes_no_index(
    folder: Path, made: Path, model: d2v.Model
) -> None:
    known = made / "pictures" / "red"
    with pytest.raises(DataError, match="no items of"):
        Index.build(model, [], folder / "index", drop=[known, made / "typo"])
    assert len(Index(folder / "index")) == 18
    with pytest.raises(DataError, match="no index at"):
        Index.build(model, [], folder / "other", drop=[known])
    assert not (folder / "other").exists()


def test_an_empty_folder_counts_as_gone(folder: Path, model: d2v.Model) -> None:
    pictures = write_pictures(folder / "mine", 2)
    index, _ = Index.build(model, [pictures], folder / "own")
    pictures.rename(folder / "away")
    pictures.mkdir()
    assert index.lost() == {str(pictures.resolve()): 6}


def test_an_index_inside_of_what_it_indexes_is_no_item(model: d2v.Model, tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", 1)
    for _ in range(2):
        _, built = Index.build(model, [pictures], pictures / "index")
        assert (built.items, built.problems) == (3, 0)


def test_a_folder_is_no_question(made: Path, model: d2v.Model) -> None:
    with pytest.raises(DataError, match="is a folder"):
        question_of(model, str(made / "pictures"))


def test_words_that_look_like_a_file_are_said_and_nothing_is_no_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = model_of(tmp_path, "text")
    assert question_of(words, "holiday.pgn") == "holiday.pgn"
    assert "is no file here" in capsys.readouterr().err
    for empty in ("", " "):
        with pytest.raises(DataError, match="The question is empty"):
            question_of(words, empty)
    for content in (b"\x89PNG\xff", b"", b"a\0b"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match="no text in UTF-8"):
            question_of(words, str(tmp_path / "file"))
