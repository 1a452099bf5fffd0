"""Bytes that changed on the disk are seen, wherever they lie."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.data import digests, prepared
from d2v.data.prepared import Corpus, PreparedFolder, bring_up_to_date
from d2v.errors import CheckpointError, D2vError, DataError
from d2v.evaluation.metrics_file import measured_before, write_measured
from d2v.interchange.encode_files import encode_files
from d2v.lifecycle.verify import lines, verify_dvc_cache, verify_folders, verify_registry
from d2v.model_folder import CONFIG, ENCODER, TEACHER, load_encoder
from d2v.tracking.registry import register_encoder
from tests.data.test_prepared import make_corpus
from tests.tracking.test_registry import save


def flip_a_bit(file: Path, at: int) -> None:
    """Keep size and time of change, as a disk does."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[at // 8 % len(content)] ^= 1 << at % 8
    file.write_bytes(content)
    digests._known.clear()  # another process
    assert file.stat().st_size == before.st_size


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model") / "encoder", seed=0)


def test_every_flipped_bit_of_the_weights_is_seen(encoder: Path, tmp_path: Path) -> None:
    draws = random.Random(0)
    size = 8 * (encoder / ENCODER).stat().st_size
    for number in range(60):
        folder = Path(shutil.copytree(encoder, tmp_path / str(number)))
        flip_a_bit(folder / ENCODER, draws.randrange(size))
        with pytest.raises(CheckpointError, match=r"is not what was written.*train again, restore the file"):
            load_encoder(folder)


@pytest.mark.parametrize(("file", "teacher"), [(CONFIG, False), (TEACHER, True)])
def test_so_are_those_of_other_files(encoder: Path, tmp_path: Path, file: str, teacher: bool) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "encoder"))
    flip_a_bit(folder / file, 8 * 40)
    with pytest.raises(CheckpointError, match=f"{file} is not what was written"):
        load_encoder(folder, teacher)


def test_a_folder_of_an_earlier_version_is_read_as_before(encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "encoder"))
    (folder / digests.DIGESTS).unlink()
    load_encoder(folder)


def build(corpus: Corpus, folder: Path) -> dict[str, object]:
    for name in ("train", "test"):
        shutil.copytree(corpus.folder / "shards", folder / name)
    (folder / "tokenizer.json").write_text('{"types": 4}')
    return {"train_items": 9, "test_items": 9, "class_names": []}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A corpus and its prepared folder."""
    corpus, out = make_corpus(tmp_path / "corpus"), tmp_path / "out"
    bring_up_to_date(corpus, out, {}, build, lambda about: "none")
    return corpus, out


@pytest.mark.parametrize(
    ("place", "name", "opens"),
    [
        (0, "manifest.parquet", Corpus),
        (0, "corpus.json", Corpus),
        (1, "train/part-00000.arrow", lambda folder: PreparedFolder(folder, "things")),
        (1, "tokenizer.json", lambda folder: PreparedFolder(folder, "things")),
    ],
)
def test_data_that_changed_is_refused(
    folders: tuple[Path, Path], place: int, name: str, opens: Callable[[Path], object]
) -> None:
    folder = folders[place]
    opens(folder)
    flip_a_bit(folder / name, 8 * 9 + 3)
    with pytest.raises(D2vError, match=rf"{name} is not what was written.*Remove .* and run the (ingest|prepare) step"):
        opens(folder)


def test_shards_of_a_large_folder_are_left_to_verify(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = folders
    monkeypatch.setattr(prepared, "CHECKED_BYTES", 10)
    shard = out / "train" / "part-00000.arrow"
    flip_a_bit(shard, 8 * shard.read_bytes().index(b"x"))  # in the content of the item
    PreparedFolder(out, "things")
    assert digests.changed(out) == ["train/part-00000.arrow"]
    flip_a_bit(out / "tokenizer.json", 8 * 9)
    with pytest.raises(DataError, match=r"tokenizer\.json is not what was written"):
        PreparedFolder(out, "things")


def test_a_report_that_changed_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "predictions.parquet").write_bytes(b"right")
    write_measured(tmp_path, {"probe/linear": 0.5}, {"weights": "abc"})
    written = ("predictions.parquet",)
    assert measured_before(tmp_path, {"weights": "abc"}, written) == {"probe/linear": 0.5}
    assert measured_before(tmp_path, {"weights": "other"}, written) is None
    flip_a_bit(tmp_path / "predictions.parquet", 3)
    assert measured_before(tmp_path, {"weights": "abc"}, written) is None
    assert "predictions.parquet in" in capsys.readouterr().err
    old = {"probe/linear": 0.5, "belongs_to": {"weights": "abc"}}
    (tmp_path / "metrics.json").write_text(json.dumps(old))
    assert measured_before(tmp_path, {"weights": "abc"}, written) == {"probe/linear": 0.5}, "of an earlier version"


def test_a_file_is_read_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("content")
    first = digests.of_file(tmp_path / "a")
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert digests.of_file(tmp_path / "a") == first


def test_features_that_are_not_finite_are_refused(encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "encoder"))
    weights = load_file(folder / ENCODER)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    save_file(weights | {name: torch.full_like(weights[name], float("nan"))}, folder / ENCODER)
    digests.seal(folder)
    model = d2v.load(folder)
    with pytest.raises(DataError, match=r"item 0 has features that are not finite.*d2v verify"):
        model.encode([np.zeros((16, 16, 3), np.uint8)] * 2)
    Image.new("RGB", (16, 16)).save(tmp_path / "black.png")
    written = encode_files(model, [tmp_path / "black.png"], tmp_path / "out.parquet", None, "mean")
    assert (written.rows, written.problems) == (1, 1)
    assert "not finite" in written.first


def test_verify_walks_folders_the_registry_and_dvcs_cache(
    client: MlflowClient,
    encoder: Path,
    folders: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    with mlflow.start_run():
        register_encoder("vision", encoder, {})
    cache = tmp_path / ".dvc/cache/files/md5"
    for content in (b"one", b"two"):
        digest = hashlib.md5(content).hexdigest()
        (cache / digest[:2]).mkdir(parents=True, exist_ok=True)
        (cache / digest[:2] / digest[2:]).write_bytes(content)
    found = [*verify_folders(folders), *verify_registry(), *verify_dvc_cache(tmp_path)]
    (said,) = lines(found)
    assert said.endswith("in 4 places were checked")
    flip_a_bit(folders[1] / "tokenizer.json", 8 * 3)
    (folders[0] / "quarantine.csv").unlink()
    flip_a_bit(next((tmp_path / "artifacts").rglob(ENCODER)), 9000)
    flip_a_bit(sorted(cache.rglob("*/*"))[0], 1)
    found = [*verify_folders(folders), *verify_registry(), *verify_dvc_cache(tmp_path)]
    said = list(lines(found))
    assert len(said) == 5, said
    for part in ("corpus: quarantine.csv", "out: tokenizer.json", f"version 1: {ENCODER}", "dvc pull or dvc repro"):
        assert any(part in line for line in said), part
    done = CliRunner().invoke(app, ["verify", str(tmp_path), "--no-registry", "--no-dvc"])
    assert done.exit_code == 4
    assert "CHANGED" in done.output
