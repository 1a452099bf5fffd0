"""Steps on a cluster whose machines do not see one another's disks: files are exchanged behind a URL."""

import errno
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import Mock

import pyarrow as pa
import pytest

from d2v.config import ClusterConfig
from d2v.data import prepared
from d2v.data.cluster import files
from d2v.data.cluster import prepare as cluster_prepare
from d2v.data.cluster.files import mirror_of, put_shards, take_shards, work_root
from d2v.data.cluster.prepare import FetchedShards
from d2v.data.prepared import Corpus
from d2v.data.store import ShardReader, ShardWriter
from d2v.data.url_paths import inside, place_of, written_whole
from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.registry import get
from tests.data.cluster_helpers import contents, run, threads_of_this_process
from tests.data.test_cluster import corpus_of_texts, small_ingest

SHARD_BYTES = 60_000


@dataclass(frozen=True)
class Step:
    """Whose files are exchanged."""

    config: ClusterConfig = field(default_factory=lambda: ClusterConfig(retries=2, exchange="file:///exchange"))


@dataclass(frozen=True)
class StepJob(Step):
    """What its tasks are told."""

    folder: Path = Path()
    token: str = "token"
    versions: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with threads_of_this_process(tmp_path_factory.mktemp("dask"), workers=2) as address:
        yield address


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared, "SHARD_BYTES", SHARD_BYTES)
    monkeypatch.setattr(cluster_prepare, "SHARD_BYTES", SHARD_BYTES)


@pytest.fixture
def exchange(tmp_path: Path) -> str:
    """Behind a URL, as a bucket is."""
    return f"file://{tmp_path}/exchange"


def names_of(place: Path) -> list[str]:
    return [one.name for one in inside(place)]


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("modality", ["vision", "speech", "text"])
def test_ingest_and_prepare_have_the_bytes_of_one_process(
    tmp_path: Path, scheduler: str, modality: str, exchange: str, is_folder: bool
) -> None:
    exchange = exchange.removeprefix("file://") if is_folder else exchange
    recipe = registry.recipe_type(modality)
    ingest_block, prepare_block = (recipe.model_fields[name].annotation for name in ("ingest", "prepare"))
    cluster = {"scheduler": scheduler, "piece_items": 15, "exchange": exchange}
    ingest = small_ingest(modality, tmp_path / "source") | {"cluster": cluster, "shard_bytes": 150_000}
    keys = {"speech": {"min_seconds": 0.5}, "text": {"vocab_size": 300, "block_tokens": 16}}.get(modality, {})
    for engine in ("local", "dask"):
        folder = tmp_path / engine
        folder.mkdir()
        get(modality).ingest(ingest_block(**ingest | {"engine": engine}), folder / "corpus")
        get(modality).prepare(prepare_block(engine=engine, cluster=cluster, **keys), folder / "corpus", folder / "out")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    left = names_of(place_of(exchange))
    assert [name.partition("-")[0] for name in left] == ["corpus"]  # the mirror, and no work
    assert left[0].endswith(".shards")


def test_the_next_step_finds_the_shards_that_ingest_left(
    tmp_path: Path, scheduler: str, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = registry.recipe_type("vision").model_fields["ingest"].annotation
    cluster = {"scheduler": scheduler, "piece_items": 15, "exchange": exchange}
    source = small_ingest("vision", tmp_path / "source")
    get("vision").ingest(block(**source, engine="dask", cluster=cluster), tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    step = Step()
    mirror = mirror_of(ClusterConfig(**cluster), corpus.folder, corpus.fingerprint)
    shards = tmp_path / "corpus" / "shards"
    assert names_of(mirror) == names_of(shards)
    put: list[str] = []
    monkeypatch.setattr(files, "put", lambda local, place: put.append(place.name))
    put_shards(step, shards, mirror)
    assert put == []
    (mirror / names_of(shards)[0]).unlink()
    put_shards(step, shards, mirror)
    assert put == names_of(shards)[:1]


def test_a_corpus_of_another_content_takes_the_place_of_its_mirror(tmp_path: Path, exchange: str) -> None:
    config = ClusterConfig(exchange=exchange)
    old, new = (mirror_of(config, tmp_path / "corpus", name * 16) for name in "ab")
    put_shards(Step(), corpus_of_texts(tmp_path, False) / "shards", old)
    files.only(new.parent, new.name)
    assert names_of(old) == []


def test_a_prepare_that_failed_goes_on_in_the_exchange(
    tmp_path: Path, scheduler: str, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = registry.recipe_type("text").model_fields["prepare"].annotation
    corpus = corpus_of_texts(tmp_path, False)
    keys = {"vocab_size": 300, "block_tokens": 40, "probe_train_items": 20, "probe_test_items": 10}
    cluster = {"scheduler": scheduler, "piece_items": 25, "exchange": exchange, "retries": 0}
    get("text").prepare(block(**keys), corpus, tmp_path / "local")
    made: list[int] = []
    real = cluster_prepare.write_said

    def counted(job: object, piece: files.Piece) -> None:
        made.append(piece.start)
        if len(made) == 3:
            raise ValueError("this worker has a bad day")
        real(job, piece)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster_prepare, "write_said", counted)
    with pytest.raises(ValueError, match="bad day"):
        get("text").prepare(block(**keys, engine="dask", cluster=cluster), corpus, tmp_path / "dask")
    root = work_root(ClusterConfig(**cluster), tmp_path / ".dask.partial")
    assert len(names_of(root)) == 1
    before, made[:] = len(made), range(100, 103)
    get("text").prepare(block(**keys, engine="dask", cluster=cluster), corpus, tmp_path / "dask")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert before >= 3
    assert names_of(root) == []


def test_a_shard_that_arrives_with_another_content_is_refused(tmp_path: Path, exchange: str) -> None:
    work = place_of(f"{exchange}/x")
    (work / "shards").mkdir(parents=True)
    (work / "digests").mkdir()
    (work / "shards" / "part-00000.arrow").write_bytes(b"damaged on its way")
    (work / "digests" / "part-00000.arrow").write_text("0" * 64)
    with pytest.raises(DataError, match=r"part-00000\.arrow arrived with another content: remove file://"):
        take_shards(Step(), work, tmp_path / "shards")


def test_late_work_does_not_make_a_removed_folder_anew(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with (
        pytest.raises(FileNotFoundError),
        written_whole(gone / "pieces" / "x.json", gone / "unfinished" / "x.json") as temporary,
    ):
        temporary.write_text("said too late")
    assert not gone.exists()


def test_folders_of_one_name_have_work_of_their_own(tmp_path: Path, exchange: str) -> None:
    config = ClusterConfig(exchange=exchange)
    one, other = (work_root(config, tmp_path / name / ".corpus.partial") for name in "ab")
    assert one != other
    assert one == work_root(config, tmp_path / "a" / "corpus")


def exchange_of_shards(exchange: str, count: int) -> Path:
    """A work folder behind a URL with shards and their digests."""
    work = place_of(f"{exchange}/x")
    for name in ("shards", "digests"):
        (work / name).mkdir(parents=True)
    for number in range(count):
        content = f"content {number}".encode()
        (work / "shards" / f"part-{number:05d}.arrow").write_bytes(content)
        (work / "digests" / f"part-{number:05d}.arrow").write_text(hashlib.sha256(content).hexdigest())
    return work


def test_shards_that_were_fetched_before_a_kill_are_not_fetched_again(
    tmp_path: Path, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, into = exchange_of_shards(exchange, 6), tmp_path / ".corpus.partial" / "shards"
    into.parent.mkdir()
    brought: list[str] = []
    real = files.bring

    def bring(place: Path, local: Path) -> None:
        if place.name == "part-00004.arrow" and not brought.count("killed"):
            local.write_bytes(b"a part of it")
            brought.append("killed")
            raise KeyboardInterrupt
        brought.append(place.name)
        real(place, local)

    monkeypatch.setattr(files, "AT_A_TIME", 1)
    monkeypatch.setattr(files, "bring", bring)
    with pytest.raises(KeyboardInterrupt):
        take_shards(Step(), work, into)
    assert not into.exists()
    take_shards(Step(), work, into)
    assert brought.count("part-00000.arrow") == 1
    assert [(into / name).read_text() for name in names_of(into)] == [f"content {number}" for number in range(6)]
    assert names_of(tmp_path) == [".corpus.partial", "exchange"]


def test_an_error_of_the_storage_is_tried_again_and_then_named(
    tmp_path: Path, exchange: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, into = exchange_of_shards(exchange, 2), tmp_path / ".corpus.partial" / "shards"
    into.parent.mkdir()
    errors = [ConnectionError("reset by peer")] * 2
    real = files.bring

    def bring(place: Path, local: Path) -> None:
        if errors:
            raise errors.pop()
        real(place, local)

    monkeypatch.setattr(files, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(files, "AT_A_TIME", 1)
    monkeypatch.setattr(files, "bring", bring)
    take_shards(Step(), work, into)
    assert len(names_of(into)) == 2
    errors += [ConnectionError("reset by peer")] * 3
    with pytest.raises(DataError, match=r"part-00000\.arrow: tried 3 times: reset by peer"):
        take_shards(Step(), work, into.parent / "again")


def test_threads_of_a_worker_read_their_own_shards(tmp_path: Path, exchange: str) -> None:
    shards, rows = tmp_path / "shards", 40
    writer = ShardWriter(shards, pa.schema([("data", pa.large_binary())]), 200)
    for row in range(rows):
        writer.append({"data": f"{row} ".encode() * 20})
    writer.flush()
    mirror = place_of(f"{exchange}/mirror")
    put_shards(Step(), shards, mirror)
    fetched_shards = FetchedShards(mirror, ShardReader(shards).starts)

    def read(first: int) -> bool:
        every = [(row * 7 + first) % rows for row in range(rows)]
        return all(fetched_shards.binary("data", row) == f"{row} ".encode() * 20 for row in every)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))


def test_a_shard_waits_for_a_piece_that_this_machine_does_not_see_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = StepJob(folder=tmp_path)
    files.make_folders(tmp_path)
    with files.data_file(files.data_path(tmp_path, 0)) as append:
        append(b"one")
    files.write_said(job, files.Piece(0, 1, True, 0.1, [{"name": "first"}]))
    hidden, read = iter([True, True]), files.read_said
    monkeypatch.setattr(files, "UNSEEN_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(files, "read_said", lambda path: None if next(hidden, False) else read(path))
    schema = pa.schema([("name", pa.string()), ("data", pa.large_binary())])

    def columns(piece: files.Piece, rows: slice) -> dict[str, list[str]]:
        return {"name": [row["name"] for row in piece.rows[rows]]}

    files.save_shard(job, 0, schema, [(0, 0, 1)], columns)
    assert files.digest_of_shard(tmp_path, 0) is not None
    files.data_path(tmp_path, 0).unlink()
    with pytest.raises(DataError, match="is gone: remove"):
        files.save_shard(job, 1, schema, [(0, 0, 1)], columns)


def test_an_exchange_on_another_disk_and_a_command_that_is_killed_behind_its_last_shard(
    tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, rename = tmp_path / "shared", Path.rename

    def on_one_disk(self: Path, target: Path) -> Path:
        if self.is_relative_to(shared) != Path(target).is_relative_to(shared):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", on_one_disk)
    run(tmp_path / "local", 60, None)
    with monkeypatch.context() as killed:
        killed.setattr("d2v.data.ingest.IngestPass.finish", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out", 60, scheduler, exchange=str(shared))
    assert names_of(tmp_path / ".out.partial" / "shards")
    copied = Mock(side_effect=files.bring)
    monkeypatch.setattr(files, "bring", copied)
    run(tmp_path / "out", 60, scheduler, exchange=str(shared))
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert not copied.called
