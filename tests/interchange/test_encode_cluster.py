"""`d2v encode --engine dask`: partitioned Parquet, whose workers are threads of this process."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.config import ClusterConfig
from d2v.errors import ConfigError, DataError
from d2v.interchange import encode_cluster
from d2v.interchange.encode_cluster import How, encode_on_cluster
from d2v.interchange.encode_files import encode_files
from d2v.modalities.text.tokenizer import train_tokenizer
from tests.data.cluster_helpers import threads_of_this_process
from tests.interchange import encoders

TOKENIZER = train_tokenizer(["some words of many lines"], 300).to_json()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> Iterator[str]:
    with threads_of_this_process(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return encoders.save(tmp_path_factory.mktemp("models") / "text", "text", 2, {"tokenizer": TOKENIZER})


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """A folder whose number of items is not known, a file of lines, and one that cannot be read."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text("".join(f"line {'word ' * (n % 7)}{n}\n" for n in range(45)))
    (tmp_path / "alone.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "bad.parquet").write_bytes(b"no table")
    return [folder, tmp_path / "alone.txt", tmp_path / "bad.parquet"]


def table_of(out: Path) -> list[dict]:
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_partitions_hold_the_rows_of_one_file(tmp_path, scheduler, model, files):
    whole = encode_files(d2v.load(model, device="cpu"), files, tmp_path / "one.parquet")
    config = ClusterConfig(scheduler=scheduler, piece_items=20)
    how = How(str(model), device="cpu")
    written = encode_on_cluster(how, files, tmp_path / "parts", {}, config)
    assert written == whole
    assert (written.rows, written.problems) == (94, 1)
    one, parts = pq.read_table(tmp_path / "one.parquet").to_pylist(), table_of(tmp_path / "parts")
    assert [(row["file"], row["line"], row["problem"]) for row in parts] == [
        (row["file"], row["line"], row["problem"]) for row in one
    ]
    vectors = [[row["embedding"] for row in rows if row["embedding"]] for rows in (parts, one)]
    np.testing.assert_allclose(*vectors, rtol=1e-5, atol=1e-5)
    assert {path.name.split(".")[-1] for path in (tmp_path / "parts").iterdir()} == {"parquet", "json"}
    assert encode_on_cluster(how, files, tmp_path / "parts", {}, config) == whole
    with pytest.raises(ConfigError, match="other files, another model or other settings"):
        encode_on_cluster(how, files[:2], tmp_path / "parts", {}, config)


def test_an_encoding_that_failed_goes_on_with_the_partitions_that_are_missing(
    tmp_path, scheduler, model, files, monkeypatch
):
    config, how, out = (
        ClusterConfig(scheduler=scheduler, piece_items=20, retries=0),
        How(str(model), "cpu"),
        tmp_path / "p",
    )
    write = encode_cluster.write_features
    seen: list[str] = []

    def failing(asked, items, part, cuts, advance):
        seen.append(part.name)
        if "000000000060" in part.name:
            raise ValueError("a defect")
        return write(asked, items, part, cuts, advance)

    with monkeypatch.context() as patch:
        patch.setattr(encode_cluster, "write_features", failing)
        with pytest.raises(ValueError, match="a defect"):
            encode_on_cluster(how, files, out, {}, config)
    done = {path.name for path in out.glob("part-*")}
    assert 1 <= len(done) < 6
    seen.clear()

    def counted(asked, items, part, cuts, advance):
        seen.append(part.name)
        return write(asked, items, part, cuts, advance)

    monkeypatch.setattr(encode_cluster, "write_features", counted)
    assert encode_on_cluster(how, files, out, {}, config).rows == len(table_of(out)) == 94
    assert not done & set(seen)


def test_a_folder_of_something_else_is_not_written_into(tmp_path, scheduler, model, files):
    config, how = ClusterConfig(scheduler=scheduler), How(str(model), "cpu")
    with pytest.raises(ConfigError, match="holds no features"):
        encode_on_cluster(how, files, files[0], {}, config)
    with pytest.raises(DataError, match="is not there"):
        encode_on_cluster(how, [tmp_path / "nothing"], tmp_path / "p", {}, config)


def test_the_command(tmp_path, scheduler, model, files):
    said = ["encode", *map(str, files), "--model", str(model), "--out", str(tmp_path / "parts"), "--device", "cpu"]
    told = CliRunner().invoke(app, [*said, "--engine", "dask", "--scheduler", scheduler])
    assert told.exit_code == 0, told.output
    assert "94 rows, 1 with a problem" in told.output
    assert json.loads((tmp_path / "parts" / "encode.json").read_text())["rows"] == 94
    assert isinstance(CliRunner().invoke(app, [*said, "--engine", "ray"]).exception, ConfigError)
