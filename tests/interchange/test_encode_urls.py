"""Items, models and features behind URLs, in the test suite's own S3 server."""

from __future__ import annotations

import errno
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.config import ClusterConfig
from d2v.data import url_cache
from d2v.data.url_paths import place_of
from d2v.errors import ConfigError, DataError
from d2v.interchange import encode_cluster
from d2v.interchange.encode_cluster import How, encode_on_cluster
from d2v.interchange.encode_files import encode_files
from tests.data.cluster_helpers import bucket_server, threads_of_this_process
from tests.interchange.test_load import model_of
from tests.search.test_search import write_pictures


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A client, and a local folder that holds what the bucket `own` has: `pictures` and the model folder `vision`."""
    folder = tmp_path_factory.mktemp("local")
    write_pictures(folder / "pictures", 4)
    model_of(folder, "vision")
    with bucket_server("own") as s3:
        for file in folder.rglob("*"):
            if file.is_file():
                s3.upload_file(str(file), "own", file.relative_to(folder).as_posix())
        yield s3, folder


@pytest.fixture(scope="module")
def scheduler(bucket: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with threads_of_this_process(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(url_cache.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows_of(url: str) -> list[dict]:
    return [row for path in sorted(place_of(url).glob("part-*")) for row in pq.read_table(path.open("rb")).to_pylist()]


def keys_below(s3: Any, prefix: str) -> set[str]:
    return {one["Key"] for one in s3.list_objects_v2(Bucket="own", Prefix=prefix).get("Contents", [])}


def test_everything_lies_in_a_bucket(bucket, scheduler, tmp_path, monkeypatch) -> None:
    s3, local = bucket
    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": "testing", "secret": "a-secret-key"})  # FSSPEC_S3_SECRET
    encode_files(d2v.load(local / "vision", device="cpu"), [local / "pictures"], tmp_path / "here.parquet")
    config = ClusterConfig(scheduler=scheduler, piece_items=5, retries=0)
    out, pictures, how = "s3://own/features", [place_of("s3://own/pictures")], How("s3://own/vision", "cpu")
    write = encode_cluster.write_features

    def failing(asked: Any, items: Any, part: Path, cuts: Any, advance: Any) -> Any:
        if "000000000010" in part.name:
            raise ValueError("a defect")
        return write(asked, items, part, cuts, advance)

    with monkeypatch.context() as patch:
        patch.setattr(encode_cluster, "write_features", failing)
        with pytest.raises(ValueError, match="a defect"):
            encode_on_cluster(how, pictures, place_of(out), {}, config)
    assert "features/encode.json" not in keys_below(s3, "features/")
    left = keys_below(s3, "features/.work/")
    assert any(key.endswith(".pickle") for key in left)
    assert not any(b"a-secret-key" in s3.get_object(Bucket="own", Key=key)["Body"].read() for key in left)
    monkeypatch.setattr(encode_cluster._Loaded, "opened", None)  # the bucket is listed by the command alone
    written = encode_on_cluster(how, pictures, place_of(out), {}, config)
    assert (written.rows, written.problems) == (12, 0)
    assert {key.split("/")[1][:4] for key in keys_below(s3, "features/")} == {"part", "enco"}, "no work is left"
    here, there = pq.read_table(tmp_path / "here.parquet").to_pylist(), rows_of(out)
    assert [row["file"] for row in there] == [row["file"].replace(str(local), "s3://own") for row in here]
    vectors = [np.array([row["embedding"] for row in rows]) for rows in (here, there)]
    np.testing.assert_allclose(*vectors, atol=1e-5)
    assert encode_on_cluster(how, pictures, place_of(out), {}, config) == written
    with pytest.raises(ConfigError, match="other files, another model or other settings"):
        encode_on_cluster(how, pictures, place_of(out), {}, ClusterConfig(scheduler=scheduler, piece_items=4))


@pytest.mark.slow
def test_the_commands_take_urls(bucket, scheduler, tmp_path) -> None:
    pytest.importorskip("lancedb")
    _, local = bucket
    said = ["s3://own/pictures", "--model", "s3://own/vision", "--device", "cpu"]
    dask = ["--engine", "dask", "--scheduler", scheduler, "--for-index", "--piece-items", "7"]
    told = CliRunner().invoke(app, ["encode", *said, *dask, "--out", "s3://own/for-index"])
    assert told.exit_code == 0, told.output
    index = ["--model", str(local / "vision"), "--device", "cpu", "--out", str(tmp_path / "index")]
    told = CliRunner().invoke(app, ["index", "s3://own/for-index", *index])
    assert "12 items (12 added" in told.output, told.output
    assert isinstance(CliRunner().invoke(app, ["index", "s3://own/pictures", *index]).exception, ConfigError)
    told = CliRunner().invoke(app, ["encode", *said, "--out", "s3://own/one.parquet"])
    assert told.exit_code == 0, told.output
    assert len(pq.read_table(place_of("s3://own/one.parquet").open("rb"))) == 12


def test_a_model_is_fetched_once_and_again_when_it_changes(bucket, cache, monkeypatch) -> None:
    s3, local = bucket
    model = d2v.load("s3://own/vision", device="cpu")
    assert model.fingerprint() == d2v.load(local / "vision", device="cpu").fingerprint()
    opened: list[str] = []
    filesystem = type(place_of("s3://own/vision").fs)
    real = filesystem.open
    monkeypatch.setattr(
        filesystem, "open", lambda self, path, *a, **k: opened.append(path) or real(self, path, *a, **k)
    )
    d2v.load("s3://own/vision", device="cpu")
    assert opened == []
    s3.upload_file(str(local / "vision" / "config.json"), "own", "vision/notes.json")
    d2v.load("s3://own/vision", device="cpu")
    assert opened == ["own/vision/notes.json"]
    s3.delete_object(Bucket="own", Key="vision/notes.json")
    assert not list(cache.glob("use-*"))


def test_the_cache_keeps_to_its_limit_and_loses_what_was_used_longest_ago(bucket, cache, monkeypatch) -> None:
    s3, _ = bucket
    monkeypatch.setenv(url_cache.LIMIT_GB, "0.001")
    for number in range(6):
        s3.put_object(Bucket="own", Key=f"large/{number}", Body=bytes([number]) * 300_000)
    for number in (0, 1, 0, 2, 0, 3, 0, 4, 0, 5):
        with url_cache.fetched(f"s3://own/large/{number}") as file:
            assert file.read_bytes() == bytes([number]) * 300_000
    assert sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) < 1_300_000
    with monkeypatch.context() as patch:
        patch.setattr(type(place_of("s3://own/large").fs), "open", None)
        for number in (0, 4, 5):
            with url_cache.fetched(f"s3://own/large/{number}") as file:
                assert file.stat().st_size == 300_000
        with pytest.raises(TypeError), url_cache.fetched("s3://own/large/3"):
            pass
    s3.put_object(Bucket="own", Key="large/whole", Body=bytes(2_000_000))
    with url_cache.fetched("s3://own/large/whole") as file:
        assert file.stat().st_size == 2_000_000, "larger than the limit"
    with monkeypatch.context() as patch:
        patch.setattr(type(place_of("s3://own/large").fs), "open", None)
        with url_cache.fetched("s3://own/large/0") as file:
            assert file.stat().st_size == 300_000, "what is too large takes no place"
    assert sum(file.stat().st_size for file in cache.rglob("*") if file.is_file()) < 1_300_000


class Cut(io.BytesIO):
    """A download that breaks off."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 4_000_000:
            raise ConnectionError("reset by peer")
        return super().read(size)


@pytest.fixture
def archive() -> MemoryFileSystem:
    filesystem = MemoryFileSystem()
    filesystem.pipe_file("/large.tar", b"x" * 9_000_000)
    return filesystem


def test_a_download_that_breaks_off_leaves_nothing(archive: MemoryFileSystem, cache: Path, monkeypatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(MemoryFileSystem, "open", lambda *_, **__: Cut(b"x" * 9_000_000))
        with pytest.raises(ConnectionError), url_cache.opened_near(archive, "/large.tar"):
            raise AssertionError("a part of it was given")
    assert not list(cache.rglob("*.val"))
    with url_cache.opened_near(archive, "/large.tar") as stream:
        assert len(stream.read()) == 9_000_000
    assert len(list(cache.rglob("*.val"))) == 1


def test_a_download_that_ends_too_early_is_not_kept(archive: MemoryFileSystem, cache: Path, monkeypatch) -> None:
    with monkeypatch.context() as short:
        short.setattr(MemoryFileSystem, "open", lambda *_, **__: io.BytesIO(b"x" * 4_000_000))
        with pytest.raises(ConnectionError, match=r"4,000,000 of 9,000,000 bytes of memory:///?large\.tar arrived"):
            url_cache.opened_near(archive, "/large.tar").__enter__()
    assert not list(cache.rglob("*.val"))
    with url_cache.opened_near(archive, "/large.tar") as stream:
        assert len(stream.read()) == 9_000_000


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), sqlite3.OperationalError("locked")])
def test_an_archive_for_which_the_caches_disk_has_no_room_is_read_from_afar(
    error: Exception, archive: MemoryFileSystem, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("diskcache.Cache.set", Mock(side_effect=error))
    with url_cache.opened_near(archive, "/large.tar") as stream:
        assert len(stream.read()) == 9_000_000
    assert "/large.tar is read from afar each time" in capsys.readouterr().err


def test_a_model_for_which_the_caches_disk_has_no_room_is_refused(bucket, monkeypatch) -> None:
    monkeypatch.setattr("diskcache.Cache.set", Mock(side_effect=OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(DataError, match="make room, or set D2V_CACHE to a folder on a larger disk"):
        d2v.load("s3://own/vision", device="cpu")


def test_what_is_not_there_is_named(bucket, tmp_path, monkeypatch) -> None:
    with pytest.raises(DataError, match="s3://own/nothing cannot be fetched"):
        d2v.load("s3://own/nothing", device="cpu")
    for limit in ("much", "inf", "nan", "-1"):
        monkeypatch.setenv(url_cache.LIMIT_GB, limit)
        with pytest.raises(ConfigError, match=f"D2V_CACHE_GB={limit} is no size"):
            d2v.load("s3://own/vision", device="cpu")
    monkeypatch.setenv(url_cache.LIMIT_GB, "1")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(url_cache.FOLDER, str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"cannot hold the cache .*: set D2V_CACHE to a folder"):
        d2v.load("s3://own/vision", device="cpu")
    with pytest.raises(ConfigError, match="check the part before ://"):
        place_of("nowhere://own/vision")
