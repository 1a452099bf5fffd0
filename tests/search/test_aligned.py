"""One index of pictures, recordings and texts in a space that their encoders share."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from typer.testing import CliRunner

import d2v
from d2v.alignment.space import save_space
from d2v.alignment.train import Heads
from d2v.cli import app
from d2v.config import parse
from d2v.config.alignment import AlignConfig
from d2v.errors import CheckpointError, DataError
from d2v.interchange.aligned import AlignedModels
from d2v.search.index import Index
from d2v.search.query import question_of, search, vector_of
from tests.interchange.test_load import model_of

pytest.importorskip("lancedb")
KINDS = {"a": {"first": "vision", "second": "text"}, "b": {"first": "speech", "second": "text"}}
RECIPE = parse(AlignConfig, {"pairs": KINDS, "width": 16, "hidden": 16})


def write_space(folder: Path, encoders: Path, seed: int = 0) -> Path:
    """A space whose heads are random: distances mean nothing, and an item is still nearest to itself."""
    models = {name: d2v.load(encoders / name, device="cpu") for name in ("vision", "speech", "text")}
    torch.manual_seed(seed)
    heads = Heads({name: model.num_layers * model.width for name, model in models.items()}, RECIPE).eval()
    fingerprints = {name: model.fingerprint() for name, model in models.items()}
    save_space(folder, heads, RECIPE, {name: encoders / name for name in models}, fingerprints)
    return folder


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("space")
    for name in ("vision", "speech", "text"):
        model_of(folder / "encoders", name)
    return write_space(folder / "space", folder / "encoders")


@pytest.fixture(scope="module")
def models(space: Path) -> AlignedModels:
    return d2v.load_aligned(space, device="cpu")


@pytest.fixture
def items(tmp_path: Path) -> Path:
    """Two pictures, two recordings, a text of two lines, and a file that is none of these."""
    folder = tmp_path / "items"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a.png", "below/b.jpg")):
        noise = np.random.default_rng(number).integers(0, 255, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
        soundfile.write(folder / f"{number}.wav", np.sin(np.arange(6000) * 0.02 * (number + 1)) * 0.3, 16_000)
    (folder / "lines.txt").write_text("to be or not\nthat is the question\n")
    (folder / "nothing.bin").write_bytes(bytes(range(256)) * 4)
    return folder


def names(hits: list) -> list[str]:
    return [Path(hit.file).name + (f":{hit.line}" if hit.line else "") for hit in hits]


def test_a_folder_of_everything_is_one_index_and_each_item_is_read_by_its_own_encoder(
    models: AlignedModels, items: Path, tmp_path: Path
) -> None:
    index, built = Index.build(models, [items], tmp_path / "index")
    assert (built.items, built.added, built.problems) == (6, 6, 1)
    assert "nothing.bin" in built.first
    picture = np.asarray(Image.open(items / "a.png"))
    asked = [(items / "a.png", "a.png"), (picture, "a.png"), (items / "1.wav", "1.wav")]
    for question, expected in [*asked, ("that is the question", "lines.txt:2")]:
        hits = search(index, models, question, 6)
        assert names(hits)[0] == expected
        assert hits[0].similarity == pytest.approx(1.0, abs=1e-4)
        assert len(hits) == 6
    mixed = vector_of(index, models, [(1.0, picture), (2.0, "that is the question")])
    parts = (
        models["vision"].encode(picture, space="aligned"),
        models["text"].encode("that is the question", space="aligned"),
    )
    np.testing.assert_allclose(mixed, (parts[0] + 2 * parts[1]) / np.linalg.norm(parts[0] + 2 * parts[1]), atol=1e-5)
    vector = models["speech"].encode(items / "0.wav", space="aligned")
    assert names(search(index, models, vector, 1)) == ["0.wav"]


def test_a_second_build_takes_what_changed_of_each_modality(models: AlignedModels, items: Path, tmp_path: Path) -> None:
    Index.build(models, [items], tmp_path / "index")
    _, built = Index.build(models, [items], tmp_path / "index")
    assert (built.items, built.added, built.changed, built.removed) == (6, 0, 0, 0)
    (items / "a.png").unlink()
    soundfile.write(items / "0.wav", np.cos(np.arange(7000) * 0.05) * 0.2, 16_000)
    (items / "new.txt").write_text("brevity is the soul of wit\n")
    index, built = Index.build(models, [items], tmp_path / "index")
    assert (built.items, built.added, built.changed, built.removed) == (6, 1, 1, 1)
    assert "a.png" not in names(search(index, models, "anything", 9))
    shutil.rmtree(items / "below")
    (items / "lines.txt").unlink()
    (items / "new.txt").unlink()
    _, built = Index.build(models, [items], tmp_path / "index")
    assert (built.items, built.removed) == (2, 4)


def test_a_folder_of_one_modality_alone_has_no_problems(models: AlignedModels, items: Path, tmp_path: Path) -> None:
    for name in ("lines.txt", "nothing.bin", "0.wav", "1.wav"):
        (items / name).unlink()
    _, built = Index.build(models, [items], tmp_path / "index")
    assert (built.items, built.problems) == (2, 0)


def test_another_space_and_a_single_encoder_are_refused(
    space: Path, models: AlignedModels, items: Path, tmp_path: Path
) -> None:
    index, _ = Index.build(models, [items], tmp_path / "index")
    other = d2v.load_aligned(write_space(tmp_path / "other", space / "encoders", seed=1), device="cpu")
    assert other.fingerprint() != models.fingerprint()
    for wrong in (other, models["text"]):
        with pytest.raises(CheckpointError, match="another encoder"):
            search(index, wrong, "to be")
    with pytest.raises(CheckpointError, match="another encoder"):
        Index.build(other, [items], tmp_path / "index")


def test_what_no_encoder_takes_has_all_reasons(models: AlignedModels, items: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"vision: .*speech: .*text: "):
        models.model_of(items / "nothing.bin")
    assert question_of(models, str(items / "lines.txt")) == "to be or not\nthat is the question\n"
    assert question_of(models, str(items / "a.png")) == items / "a.png"
    assert question_of(models, "long words " * 100) == "long words " * 100


def test_the_commands_take_a_space_in_place_of_a_model(space: Path, items: Path, tmp_path: Path) -> None:
    run, index, page = CliRunner(), str(tmp_path / "index"), tmp_path / "found.html"
    with_space = ["--aligned", str(space), "--device", "cpu"]
    built = run.invoke(app, ["index", str(items), "--out", index, *with_space])
    assert built.exit_code == 0, built.output
    assert "6 items (6 added" in built.output
    asked = run.invoke(app, ["search", index, "that is the question", "--html", str(page), *with_space])
    assert asked.exit_code == 0, asked.output
    assert "lines.txt:2" in next(line for line in asked.output.splitlines() if "1.000" in line)
    html = page.read_text()
    assert all(one in html for one in ("<blockquote>that is the question", "<audio controls", "data:image/"))
    for arguments in (["search", index, "to be"], ["search", index, "to be", "--model", "x", *with_space]):
        refused = run.invoke(app, arguments)
        assert "give --model or --aligned" in str(refused.exception)
