"""An ingest on a cluster of processes from a bucket: the test suite's own S3 server."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from d2v.errors import DataError
from d2v.modalities import registry
from d2v.modalities.registry import get
from tests.data.cluster_helpers import bucket_server, contents, processes

pytestmark = pytest.mark.slow
RNG = np.random.default_rng(0)


def png(number: int) -> bytes:
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (20 + number % 5, 24, 3), dtype=np.uint8)).save(whole, "PNG")
    return whole.getvalue()


def recordings() -> bytes:
    """A zip archive of recordings in folders of speakers."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for number in range(30):
            wave = io.BytesIO()
            soundfile.write(wave, 0.1 * RNG.standard_normal(8_000), 16_000, format="WAV")
            archive.writestr(f"speaker{number % 3}/{number:03d}.wav", wave.getvalue())
    return whole.getvalue()


def table() -> bytes:
    whole = io.BytesIO()
    columns = {"text": [f"sentence number {n % 70}" for n in range(90)], "label": [n % 2 for n in range(90)]}
    pq.write_table(pa.table(columns), whole, row_group_size=25)
    return whole.getvalue()


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The name of a bucket with images, recordings and texts."""
    with bucket_server("raw") as s3:
        for number in range(60):
            content = b"no image" if number == 7 else png(number)
            s3.put_object(Bucket="raw", Key=f"photos/class{number % 4}/{number:03d}.png", Body=content)
        s3.put_object(Bucket="raw", Key="speech.zip", Body=recordings())
        s3.put_object(Bucket="raw", Key="texts.parquet", Body=table())
        yield "raw"


@pytest.fixture(scope="module")
def scheduler(bucket: str, tmp_path_factory) -> Iterator[str]:
    with processes(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        yield cluster.address


@pytest.mark.parametrize(
    ("modality", "source"), [("vision", "photos"), ("speech", "speech.zip"), ("text", "texts.parquet")]
)
def test_a_bucket_is_read_by_two_workers(tmp_path: Path, scheduler: str, modality: str, source: str) -> None:
    block = registry.recipe_type(modality).model_fields["ingest"].annotation
    cluster = {"scheduler": scheduler, "piece_items": 8}
    reports = [
        get(modality).ingest(
            block(source=f"s3://raw/{source}", engine=engine, cluster=cluster, shard_bytes=20_000), tmp_path / engine
        )
        for engine in ("local", "dask")
    ]
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert reports[0] == reports[1]
    assert reports[0].kept + reports[0].quarantined + reports[0].duplicates == reports[0].total > 8


@pytest.mark.parametrize(
    ("modality", "source"), [("vision", "photos"), ("speech", "speech.zip"), ("text", "texts.parquet")]
)
def test_workers_on_other_disks_prepare_by_a_bucket(
    tmp_path: Path, bucket: str, tmp_path_factory: pytest.TempPathFactory, modality: str, source: str
) -> None:
    """They cannot open a file of the command's data folder, and share a bucket with it."""
    recipe = registry.recipe_type(modality)
    ingest_block, prepare_block = (recipe.model_fields[name].annotation for name in ("ingest", "prepare"))
    keys = {"speech": {"min_seconds": 0.4}, "text": {"vocab_size": 300, "block_tokens": 16}}.get(modality, {})
    with processes(tmp_path_factory.mktemp("machines") / "cluster", unseen=tmp_path) as machines:
        cluster = {"scheduler": machines.address, "piece_items": 8, "exchange": f"s3://{bucket}/work"}
        for engine in ("local", "dask"):
            ingest = ingest_block(source=f"s3://{bucket}/{source}", engine=engine, cluster=cluster, shard_bytes=150_000)
            (folder := tmp_path / engine).mkdir()
            get(modality).ingest(ingest, folder / "corpus")
            prepare = prepare_block(engine=engine, cluster=cluster, **keys)
            get(modality).prepare(prepare, folder / "corpus", folder / "out")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")


def test_without_an_exchange_workers_on_other_disks_say_what_to_set(
    tmp_path: Path, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    block = registry.recipe_type("vision").model_fields["ingest"].annotation
    with processes(tmp_path_factory.mktemp("machines") / "cluster", unseen=tmp_path) as machines:
        cluster = {"scheduler": machines.address, "retries": 0}
        with pytest.raises(DataError, match=r"does not see the folder .*cluster\.exchange"):
            get("vision").ingest(block(source=f"s3://{bucket}/photos", engine="dask", cluster=cluster), tmp_path / "c")
