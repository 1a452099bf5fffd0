"""`d2v index` of folders that `d2v encode --engine dask` has written: nothing is encoded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.config import ClusterConfig
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.interchange.encode_cluster import How, encode_on_cluster
from d2v.search import index as index_module
from d2v.search.index import Index
from tests.data.cluster_helpers import threads_of_this_process
from tests.interchange.test_load import model_of
from tests.search.test_search import COLOURS, picture, write_pictures

pytest.importorskip("lancedb")
VECTOR = "vector"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with threads_of_this_process(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    folder = tmp_path_factory.mktemp("model")
    model_of(folder, "vision")
    return folder / "vision"


@pytest.fixture
def model(source: Path) -> d2v.Model:
    return d2v.load(source, device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Eighteen pictures of three colours, and a file that is none."""
    folder = write_pictures(tmp_path / "pictures")
    (folder / "red" / "broken.png").write_bytes(b"no picture")
    return folder


def encode(source: Path, files: list[Path], out: Path, scheduler: str, **how: object) -> Path:
    """Six pictures in a partition."""
    given = How(str(source), "cpu", **({"for_index": True} | how))
    encode_on_cluster(given, files, out, {}, ClusterConfig(scheduler=scheduler, piece_items=6, retries=0))
    return out


def rows(index: Index) -> list[dict]:
    return index._table.search().limit(1000).to_arrow().sort_by("id").to_pylist()


def test_partitions_give_the_index_that_the_files_give(
    tmp_path, scheduler, source, model, pictures, monkeypatch
) -> None:
    direct, built = Index.build(model, [pictures], tmp_path / "direct")
    features = encode(source, [pictures], tmp_path / "features", scheduler)
    assert len(list(features.glob("part-*"))) == 4
    monkeypatch.setattr(model, "features", None)
    taken, did = Index.build(model, [features], tmp_path / "taken")
    assert (did.items, did.added, did.problems) == (built.items, built.added, built.problems) == (18, 18, 1)
    assert did.first == built.first
    wanted, found = rows(direct), rows(taken)
    vectors = [[row.pop(VECTOR) for row in some] for some in (found, wanted)]
    assert found == wanted
    np.testing.assert_allclose(*vectors, atol=1e-5)
    again, did = Index.build(model, [features], tmp_path / "taken")
    assert (len(again), did.added, did.changed) == (18, 0, 0)
    again, did = Index.build(model, [pictures], tmp_path / "taken")
    assert (len(again), did.added, did.changed) == (18, 0, 0), "a walk over the files finds nothing new"


@pytest.mark.parametrize("is_written", [False, True])
def test_what_was_killed_goes_on_with_the_next_partition(
    tmp_path, scheduler, source, model, pictures, monkeypatch, is_written
) -> None:
    features = encode(source, [pictures], tmp_path / "features", scheduler)
    add, seen = index_module._Building._add, []

    def killed(self: object, some: pa.RecordBatchReader, are_new: bool) -> None:
        seen.append(are_new)
        if len(seen) == 3 and not is_written:
            raise KeyboardInterrupt
        add(self, some, are_new)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(index_module._Building, "_add", killed)
        with pytest.raises(KeyboardInterrupt):
            Index.build(model, [features], tmp_path / "index")
    index, built = Index.build(model, [features], tmp_path / "index")
    ids = [row["id"] for row in rows(index)]
    assert len(ids) == len(set(ids)) == 18
    assert built.added == 18 - 6 * (3 if is_written else 2)
    assert seen == [True] * 3


def test_items_that_are_there_are_written_over_and_not_twice(tmp_path, scheduler, source, model, pictures) -> None:
    Index.build(model, [pictures / "red"], tmp_path / "index")
    picture(COLOURS["blue"], 50).save(pictures / "red" / "0.png")
    features = encode(source, [pictures], tmp_path / "features", scheduler)
    index, built = Index.build(model, [features], tmp_path / "index")
    assert (built.items, built.added, built.changed) == (18, 12, 6)
    blue = model.encode(picture(COLOURS["blue"], 51))
    assert any(hit.file.endswith("red/0.png") for hit in index.nearest(blue, 7))
    _, built = Index.build(model, [], tmp_path / "index", drop=[pictures / "red"])
    assert built.removed == 6
    index, built = Index.build(model, [features], tmp_path / "index")
    assert (len(index), built.added) == (18, 6), "what was dropped can be taken again"


def test_paths_in_one_another_give_an_item_once(tmp_path, scheduler, source, model, pictures) -> None:
    features = encode(source, [pictures, pictures / "red"], tmp_path / "features", scheduler)
    index, _ = Index.build(model, [features], tmp_path / "index")
    assert len({row["id"] for row in rows(index)}) == len(index) == 18


def test_what_was_not_encoded_for_an_index_is_taken_without_classes(
    tmp_path, scheduler, source, model, pictures
) -> None:
    features = encode(source, [pictures], tmp_path / "features", scheduler, for_index=False)
    index, _ = Index.build(model, [features], tmp_path / "index")
    assert {(row["label"], row["sha256"], row["root"]) for row in rows(index)} == {(None, None, str(pictures))}
    index, built = Index.build(model, [pictures], tmp_path / "index")
    assert (len(index), built.changed) == (18, 18), "a walk over the files knows them by their names"
    assert {row["label"] for row in rows(index)} == set(COLOURS)


def test_vectors_of_another_encoder_space_or_pooling_are_refused(tmp_path, scheduler, source, model, pictures) -> None:
    features = encode(source, [pictures], tmp_path / "features", scheduler)
    other = model_of(tmp_path / "other", "vision")
    with torch.no_grad():
        next(other.encoder.parameters()).add_(0.01)
    with pytest.raises(CheckpointError, match=r"of another encoder .*--for-index"):
        Index.build(other, [features], tmp_path / "others")
    first = encode(source, [pictures], tmp_path / "first", scheduler, for_index=False, pool="first")
    with pytest.raises(ConfigError, match="pool first and not mean"):
        Index.build(model, [first], tmp_path / "index")
    blocks = encode(source, [pictures], tmp_path / "blocks", scheduler, for_index=False, layers=[0])
    with pytest.raises(ConfigError, match=r"layers \[0\] and not None"):
        Index.build(model, [blocks], tmp_path / "index")
    path = sorted(features.glob("part-*"))[-1]
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"d2v"])
    del about["fingerprint"]
    pq.write_table(table.replace_schema_metadata({"d2v": json.dumps(about)}), path)
    with pytest.raises(CheckpointError, match="of a model that it does not name"):
        Index.build(model, [features], tmp_path / "index")
    path.write_bytes(b"cut off")
    with pytest.raises(DataError, match="cannot be read"):
        Index.build(model, [features], tmp_path / "index")
    (features / ".work").mkdir()
    (features / "encode.json").rename(features / ".work" / "encode.json")
    with pytest.raises(DataError, match="lacks partitions"):
        Index.build(model, [features], tmp_path / "index")
    assert len(Index(tmp_path / "index")) == 0


def test_the_commands(tmp_path, scheduler, source, pictures) -> None:
    features = str(tmp_path / "features")
    said = ["encode", str(pictures), "--model", str(source), "--out", features, "--device", "cpu", "--for-index"]
    assert "is of --engine dask" in str(CliRunner().invoke(app, said).exception)
    dask = [*said, "--engine", "dask", "--scheduler", scheduler]
    assert "leave --layers" in str(CliRunner().invoke(app, [*dask, "--pool", "first"]).exception)
    assert CliRunner().invoke(app, dask).exit_code == 0
    told = CliRunner().invoke(
        app, ["index", features, "--model", str(source), "--out", str(tmp_path / "i"), "--device", "cpu"]
    )
    assert told.exit_code == 0, told.output
    assert "18 items (18 added" in told.output
