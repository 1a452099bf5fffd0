"""`d2v bench-input`: its files, its loaders beside the peers', and its document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from d2v import cli
from d2v.bench.document import Document, Row
from d2v.bench.input import CASES, Options, by_case, to_markdown
from d2v.bench.input.job import Job, given, made
from d2v.bench.input.measure import OURS, Taken, What, our_batches, peak_bytes, run_jobs
from d2v.bench.input.peers import PEERS
from d2v.bench.input.suite import rows_of
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


def test_memory_of_both_steps_is_told_in_bytes(tmp_path: Path) -> None:
    job = made("vision_32", 40, tmp_path).job(40, "job")
    assert 50e6 < peak_bytes(job, "ingest") <= peak_bytes(job, "prepare") < 50e9
    assert len(list((job.corpus / "shards").iterdir())) == 1


def test_a_job_takes_files_from_all_over_the_folder(tmp_path: Path) -> None:
    material = made("vision_32", 40, tmp_path)
    few = material.job(10, "few")
    assert len(few.files) == 10
    assert {file.parent.name for file in few.files} == {"class_0", "class_1"}


def test_a_folder_without_such_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"no file for vision_32.*\.png"):
        given("vision_32", tmp_path, tmp_path / "scratch").job(1, "job")


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
    peaks = [Row.of(f"vision_224/prepare/peak/{items}", "MB", [300.0]) for items in (40, 120, 400)]
    return Document("input", {}, [*rows_of("vision_224", rounds), *peaks])


def test_tables_show_what_there_is(document: Document) -> None:
    text = to_markdown(document, {"vision_224": 6.0})
    assert "| vision_224 | ingest by d2v | 100 (100 to 100) | 1 (1 to 1) | 200 |" in text
    assert (
        "| vision_224 | 0 | 300 (300 to 300) | 100 (100 to 100) | 3 (3 to 3) | torchvision ImageFolder | 50 |" in text
    )
    assert "| vision_224 | prepare | 40 / 120 / 400 | 300 / 300 / 300 |" in text
    assert "times what a step takes" not in to_markdown(document, {})


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
    arguments = "bench-input --cases text_128 --repeats 1 --items 40 --seconds 0.1 --json"
    monkeypatch.setattr("sys.argv", ["d2v", *arguments.split(), str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 0
    assert json.loads(out.read_text())["kind"] == "input"
    shown = capsys.readouterr().out
    assert "| text_128 | tokenise by tokenizers |" in shown
    assert "| text_128 | ingest | 40 / 120 / 400 |" in shown
    assert {row.name for row in Document.read(out).rows} >= {f"text_128/load/d2v/{n} workers" for n in (0, 2)}
