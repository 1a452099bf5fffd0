"""`python -m benchmarks input`: its files, its loaders beside the peers', and its document."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch

from benchmarks import __main__ as cli
from benchmarks.document import Document, Row
from benchmarks.input import CASES, Options, by_case, measure_input, to_markdown
from benchmarks.input.figure import growth_figure, growth_picture
from benchmarks.input.job import Job, given, made
from benchmarks.input.measure import OURS, STEPS, Taken, What, our_batches, run_jobs, run_step
from benchmarks.input.peers import PEERS
from benchmarks.input.suite import growth_rows_of, rows_of
from benchmarks.input.tables import by_items, growth_table
from d2v.errors import ConfigError, DataError

ITEMS = {"vision_32": 60, "vision_224": 24, "speech_4s": 16, "text_128": 20}


@pytest.fixture(scope="module", params=list(CASES))
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A case on a few files."""
    name = request.param
    return made(name, ITEMS[name], tmp_path_factory.mktemp(name)).job(ITEMS[name], "job")


@pytest.mark.parametrize("name", list(CASES))
def test_files_follow_from_the_seed_and_differ_from_one_another(name: str, tmp_path: Path) -> None:
    contents = []
    for folder in ("first", "again"):
        CASES[name].write(tmp_path / folder, 6, 5)
        contents.append([file.read_bytes() for file in sorted((tmp_path / folder).rglob("*.*"))])
    assert contents[0] == contents[1]
    assert len(set(contents[0])) == 6


def test_everything_is_measured_once(job: Job) -> None:
    taken = run_jobs([job], workers=(0,), seconds=0.01)
    loads = {What("load", OURS, 0), What("load", PEERS[job.case.modality].name, 0)}
    assert {What("ingest"), What("prepare")} | loads <= set(taken)
    assert taken[What("ingest")].items == ITEMS[job.name]
    assert taken[What("ingest")].bytes == sum(file.stat().st_size for file in job.source.rglob("*.*"))
    assert all(one.wall_s > 0 and one.items > 0 for one in taken.values())
    assert (What("tokenise", "tokenizers") in taken) == (job.case.modality == "text")


def test_a_peer_makes_batches_like_ours(job: Job) -> None:
    job.modality.ingest(job.ingest_block(), job.corpus)
    job.modality.prepare(job.prepare_block(), job.corpus, job.prepared)
    ours, theirs = next(our_batches(job, 0)), next(PEERS[job.case.modality].batches(job, 0))
    assert isinstance(ours, torch.Tensor)
    assert isinstance(theirs, torch.Tensor)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if ours.is_floating_point():
        assert 0.5 < theirs.std() < 2.0


def test_steps_tell_their_seconds_and_peaks_in_small_shards(tmp_path: Path) -> None:
    material = made("vision_224", 60, tmp_path)
    jobs = material.job(4, "few"), material.job(60, "many")
    taken = {step: run_step(jobs, step, 0.01) for step in STEPS}
    assert all(50e6 < peak < 50e9 for _, peak in taken.values())
    assert [taken[step][0].items for step in ("ingest", "prepare")] == [60, 60]
    assert taken["load"][0].items % jobs[1].train_block().batch_unit == 0
    assert all(one.wall_s > 0 and one.cpu_s > 0 for one, _ in taken.values())
    for folder in (jobs[1].corpus / "shards", jobs[1].prepared / "train"):
        assert len(list(folder.iterdir())) > 1


def test_batches_are_no_larger_than_the_data(tmp_path: Path) -> None:
    job = made("text_128", 1, tmp_path).job(1, "job")
    for step in ("ingest", "prepare"):
        run_step([job], step, 0.0)
    assert 0 < len(next(our_batches(job, 0))) < job.train_block().batch_unit


def test_a_job_takes_files_from_all_over_the_folder(tmp_path: Path) -> None:
    material = made("vision_32", 40, tmp_path)
    few = material.job(10, "few")
    assert len(few.files) == 10
    assert {file.parent.name for file in few.files} == {"class_0", "class_1"}


def test_a_folder_without_such_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"no file for vision_32.*\.png"):
        given("vision_32", tmp_path, tmp_path / "scratch").job(1, "job")


def test_a_folder_with_too_few_files_is_named(tmp_path: Path) -> None:
    CASES["text_128"].write(tmp_path / "texts", 9, 0)
    with pytest.raises(DataError, match=r"texts holds 9 file\(s\) for text_128: give at least 10"):
        measure_input(Options(["text_128"], sources={"text_128": tmp_path / "texts"}))


def test_pictures_without_classes_are_nothing_for_torchvision(tmp_path: Path) -> None:
    CASES["vision_32"].write(tmp_path / "photos", 4, 0)
    job = given("vision_32", tmp_path / "photos" / "class_0", tmp_path / "scratch").job(2, "job")
    with pytest.raises(DataError, match="a folder for each class"):
        next(PEERS["vision"].batches(job, 0))


# ------------------------------------------------------------------------------------------- figures


def test_rows_hold_medians_and_ratios_of_pairs() -> None:
    peer = PEERS["speech"].name
    ours, theirs = What("load", OURS, 0), What("load", peer, 0)
    rounds = [
        {ours: Taken(100, 0, 1.0, 0.5), theirs: Taken(50, 0, 1.0, 1.0)},
        {ours: Taken(100, 0, 2.0, 1.0), theirs: Taken(50, 0, 2.0, 2.0)},  # a slow minute, for both
        {ours: Taken(100, 0, 1.0, 0.5), theirs: Taken(25, 0, 1.0, 1.0)},
    ]
    rows = {row.name: row for row in rows_of("speech_4s", rounds)}
    assert rows["speech_4s/load/d2v/0 workers"] == Row("speech_4s/load/d2v/0 workers", "items/s", 100.0, 50.0, 100.0)
    assert rows["speech_4s/load/d2v/0 workers/core"].median == 200.0
    ratio = rows["speech_4s/load/d2v/0 workers/ratio"]
    assert (ratio.median, ratio.least, ratio.most) == (2.0, 2.0, 4.0)


def test_other_processes_have_no_figure_for_a_core() -> None:
    what = What("load", OURS, 2)
    names = [row.name for row in rows_of("text_128", [{what: Taken(10, 0, 1.0, 0.1)}])]
    assert names == ["text_128/load/d2v/2 workers"]


@pytest.fixture
def document() -> Document:
    """Figures of a case."""
    peer = PEERS["vision"].name
    rounds = [
        {
            What("ingest"): Taken(100, 10**6, 1.0, 0.5),
            What("prepare"): Taken(100, 10**6, 2.0, 2.0),
            What("load", OURS, 0): Taken(300, 0, 1.0, 1.0),
            What("load", peer, 0): Taken(100, 0, 1.0, 1.0),
        }
    ]
    growth = [
        row
        for items, seconds in ((40, 0.1), (120, 0.3), (400, 2.0))
        for step in STEPS
        for row in growth_rows_of("vision_224", step, items, [(Taken(items, 0, seconds, 0.1), 300_000_000 + items)])
    ]
    return Document("input", {}, [*rows_of("vision_224", rounds), *growth])


def test_tables_show_what_there_is(document: Document) -> None:
    text = to_markdown(document, {"vision_224": 6.0})
    assert "| vision_224 | ingest by d2v | 100 (100 to 100) | 1 (1 to 1) | 200 |" in text
    assert (
        "| vision_224 | 0 | 300 (300 to 300) | 100 (100 to 100) | 3 (3 to 3) | torchvision ImageFolder | 50 |" in text
    )
    assert "| vision_224 | prepare | 40 / 120 / 400 | 300 / 300 / 300 | 2.5 / 2.5 / 5 | 2.00 |" in text
    assert "times what a step takes" not in to_markdown(document, {})


def test_growth_is_told_by_step_and_items(document: Document) -> None:
    assert growth_table(document).rows == (
        ("vision_224", "ingest", "40 / 120 / 400", "300 / 300 / 300", "2.5 / 2.5 / 5", "2.00"),
        ("vision_224", "prepare", "40 / 120 / 400", "300 / 300 / 300", "2.5 / 2.5 / 5", "2.00"),
        ("vision_224", "load", "40 / 120 / 400", "", "2.5 / 2.5 / 5", "2.00"),
    )
    assert by_items(document, "peak")["vision_224", "ingest"] == {40: 300.00004, 120: 300.00012, 400: 300.0004}


def test_rows_of_growth_are_costs_and_of_what_stores_peaks() -> None:
    taken = [(Taken(100, 0, wall_s, 0.1), 2 * 10**8) for wall_s in (0.4, 0.1, 0.2)]
    assert list(growth_rows_of("text_128", "ingest", 100, taken)) == [
        Row("text_128/ingest/growth/100", "ms an item", 2.0, 1.0, 4.0),
        Row("text_128/ingest/growth/100/core", "ms an item", 1.0, 1.0, 1.0),
        Row("text_128/ingest/peak/100", "MB", 200.0, 200.0, 200.0),
    ]
    assert not [row for row in growth_rows_of("text_128", "load", 100, taken) if "/peak/" in row.name]


def test_the_picture_has_panels_for_each_case_that_was_measured(document: Document, tmp_path: Path) -> None:
    other = [replace(row, name=row.name.replace("vision_224", "text_128")) for row in document.rows]
    both = Document("input", {}, [*document.rows, *other])
    panels = growth_figure(both).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["vision_224", "text_128", "", "", "", ""]
    seconds, memory, loading = panels[::2]
    drawn = {line.get_label(): line.get_ydata() for line in seconds.lines}
    assert drawn["prepare"] == pytest.approx([0.1, 0.3, 2.0])
    assert drawn["in proportion"] == pytest.approx([0.2, 0.6, 2.0])
    assert loading.lines[0].get_ydata() == pytest.approx([2500, 2500, 5000])
    assert memory.get_ylim()[0] == loading.get_ylim()[0] == 0
    growth_picture(both, tmp_path / "new" / "input.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "new" / "input.png").shape
    assert width > height > 300


# ------------------------------------------------------------------------------------------- options


def test_unknown_cases_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no case vision_33: give some of vision_32"):
        Options(cases=["vision_33"])
    with pytest.raises(ConfigError, match="--source vision_32=FOLDER"):
        Options(sources={"vision_32": tmp_path / "nope"})


@pytest.mark.parametrize("entry", ["vision_32", "vision_32=many", "vision_33=4"])
def test_entries_that_do_not_fit_are_named(entry: str) -> None:
    with pytest.raises(ConfigError, match="write CASE=VALUE"):
        by_case([entry], float)


@pytest.mark.slow
def test_the_command_writes_its_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "input.json"
    arguments = f"input --cases text_128 --repeats 1 --items 40 --seconds 0.1 --json {out} --picture"
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments.split(), str(out.with_suffix(".png"))])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 0
    assert json.loads(out.read_text())["kind"] == "input"
    shown = capsys.readouterr().out
    assert "| text_128 | tokenise by tokenizers |" in shown
    assert "| text_128 | ingest | 40 / 120 / 400 |" in shown
    names = {row.name for row in Document.read(out).rows}
    assert names >= {f"text_128/load/d2v/{n} workers" for n in (0, 2)}
    assert names >= {f"text_128/{step}/growth/{items}" for step in STEPS for items in (40, 120, 400)}
    assert names >= {f"text_128/{step}/peak/{items}" for step in ("ingest", "prepare") for items in (40, 120, 400)}
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
