"""An ingest on a cluster, whose workers are threads of this process. Real processes, and their deaths, are in
test_cluster_processes.py."""

import csv
import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from d2v.config import ClusterConfig, read_recipe
from d2v.data import prepared
from d2v.data.cluster import client, files, machine, pieces
from d2v.data.cluster import ingest as cluster_ingest_module
from d2v.data.cluster import prepare as cluster_prepare
from d2v.data.cluster.ingest import ClusterIngest
from d2v.data.cluster.prepare import ClusterRowWriter
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import IngestReport, ingest
from d2v.data.prepared import Corpus
from d2v.data.sources import listing
from d2v.data.sources.layout import Annotation, Wanted, find_layout
from d2v.data.sources.listing import Found
from d2v.data.sources.locations import FileRange
from d2v.data.sources.source import Item, Source
from d2v.data.store import ShardReader
from d2v.errors import ConfigError, DataError, LaunchError
from d2v.modalities import registry
from d2v.modalities.registry import get
from d2v.modalities.text import encoding as text_encoding
from d2v.modalities.text import packing as text_packing
from d2v.modalities.text import preparation as text_preparation
from d2v.modalities.text.config import TextIngestConfig, TextPrepareConfig
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.progress import Progress
from tests.conftest import ROOT
from tests.data.cluster_helpers import contents, threads_of_this_process
from tests.data.ingest_helpers import make_items, read, source_of


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> Iterator[str]:
    with threads_of_this_process(tmp_path_factory.mktemp("dask")) as address:
        yield address


def both(tmp_path: Path, scheduler: str, make: partial, **further) -> tuple[IngestReport, IngestReport]:
    """Reports of one process and of the cluster, whose corpora have the same bytes."""
    further = {"shard_bytes": 300, "test_fraction": 0.25, "facts": ("length",), "parameters": {"p": 1}} | further
    here = ingest(make(), read, out=tmp_path / "here", **further)
    remote = Remote(make, ClusterConfig(scheduler=scheduler, piece_items=16))
    there = ingest(make(), read, out=tmp_path / "there", remote=remote, **further)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["here", "there"]
    return here, there


def test_a_cluster_writes_the_bytes_of_one_process(tmp_path, scheduler):
    here, there = both(tmp_path, scheduler, partial(source_of, make_items(400)))
    assert here == there
    assert there.total == 400 == there.kept + there.quarantined + there.duplicates
    assert min(there.quarantined, there.duplicates, there.across_splits) > 0


def of_unknown_length(items: list[Item]) -> Source:
    return replace(source_of(items), total=None, cuts=lambda: [50, 90])


@pytest.mark.parametrize("count", [1, 160, 170])
def test_a_source_that_does_not_know_its_length_is_read_to_its_end(tmp_path, scheduler, count):
    _, there = both(tmp_path, scheduler, partial(of_unknown_length, make_items(count)))
    assert there.total == count


def grouped_items() -> list[Item]:
    splits = ("train", "train", "test", None)
    return [
        Item(f"k{n}", b"item %d" % n, split=splits[n % 4], group=f"g{n % 9}", texts={"said": f"no. {n}"}, fold="1")
        for n in range(100)
    ]


def test_groups_move_and_texts_come_along(tmp_path, scheduler):
    make = partial(source_of, grouped_items())
    here, _ = both(tmp_path, scheduler, make, parted_groups="move", texts=("said",))
    assert "were moved" in " ".join(here.remarks)


def odd_items() -> list[Item]:
    """Names that are no valid text, refusals, and a decoder that says nothing good."""
    refused = [Item(f"{n}\udce4", None, refused="it is a \udcff link") for n in range(100)]
    return [*make_items(20), *refused, Item("half", b"half", label="\ud800"), Item("none", None), *make_items(90)[20:]]


def test_names_that_are_no_text_are_quarantined_alike(tmp_path, scheduler):
    both(tmp_path, scheduler, partial(source_of, odd_items()))


def test_the_rest_of_a_damaged_table_is_listed_as_one_process_lists_it(tmp_path, scheduler):
    """The first rows of a row group that cannot be read are listed, and the rest is counted, whoever meets them."""
    path = tmp_path / "source" / "train.parquet"
    path.parent.mkdir()
    table = pa.table({"text": [f"sentence number {n}, and some more words" for n in range(600)]})
    pq.write_table(table, path, row_group_size=150, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    at = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    here = get("text").ingest(TextIngestConfig(source=str(path)), tmp_path / "a")
    cluster = ClusterConfig(scheduler=scheduler, piece_items=40)
    there = get("text").ingest(TextIngestConfig(source=str(path), engine="dask", cluster=cluster), tmp_path / "b")
    assert (here.total, here.quarantined) == (there.total, there.quarantined) == (600, 150)
    with (tmp_path / "a" / "quarantine.csv").open() as file:
        assert [row["items"] for row in csv.DictReader(file)] == ["1"] * 64 + ["86"]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def small_ingest(modality: str, folder: Path) -> dict:
    """Keys of an ingest block of some items."""
    recipe = read_recipe(ROOT / "conf", "base", modality)["ingest"]
    if modality != "text":
        return recipe | {"options": recipe.get("options", {}) | {"count": 40, "test_count": 20}, "shard_bytes": 50_000}
    folder.mkdir()
    for split, lines in (("train", 70), ("test", 35)):
        (folder / f"{split}.txt").write_text("".join(f"line {n % 30} of {split}\n" for n in range(lines)))
    return {"source": str(folder), "document": "line", "shard_bytes": 500}


@pytest.mark.parametrize("modality", ["vision", "speech", "text"])
def test_every_modality_has_the_same_bytes(tmp_path, scheduler, modality):
    keys = small_ingest(modality, tmp_path / "source")
    block = registry.recipe_type(modality).model_fields["ingest"].annotation
    cluster = {"scheduler": scheduler, "piece_items": 30}
    for engine in ("local", "dask"):
        get(modality).ingest(block(**keys, engine=engine, cluster=cluster), tmp_path / engine)
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert len(list((tmp_path / "dask" / "shards").iterdir())) > 1


# --------------------------------------------------------------------------------------------- faults


def failing(items: list[Item], log: Path, fails: int, at: int, error: Exception) -> Source:
    """Notes the items that it gives, and fails at one of them so many times."""

    def stream(start: int) -> Iterator[Item]:
        for number, item in enumerate(items[start:], start):
            with log.open("a") as file:
                file.write(f"{number}\n")
            if number == at and log.read_text().splitlines().count(str(at)) <= fails:
                raise error
            yield item

    return replace(source_of(items), items=stream)


def cluster_ingest(out: Path, make: partial, scheduler: str, **keys) -> IngestReport:
    remote = Remote(make, ClusterConfig(scheduler=scheduler, piece_items=16, **keys))
    return ingest(make(), read, ("length",), out, {"p": 1}, 300, 0.25, remote=remote)


def test_an_ingest_that_failed_goes_on_with_the_pieces_that_are_missing(tmp_path, scheduler):
    items, log = make_items(400), tmp_path / "log"
    make = partial(failing, items, log, 1, 300, ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cluster_ingest(tmp_path / "there", make, scheduler)
    before = log.read_text().splitlines()
    whole = {int(path.stem) for path in tmp_path.glob(".there.cluster/*/pieces/*.json")}
    assert 0 in whole
    assert 288 not in whole
    cluster_ingest(tmp_path / "there", make, scheduler)
    again = {int(number) // 16 * 16 for number in log.read_text().splitlines()[len(before) :]}
    assert not again & whole
    ingest(source_of(items), read, ("length",), tmp_path / "here", {"p": 1}, 300, 0.25)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_an_ingest_that_was_killed_before_its_last_step_reads_and_writes_nothing_again(
    tmp_path, scheduler, monkeypatch
):
    make = partial(source_of, make_items(100))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClusterIngest, "swap_in", killed)
        with pytest.raises(KeyboardInterrupt):
            cluster_ingest(tmp_path / "there", make, scheduler)
    monkeypatch.setattr(ClusterIngest, "read_task", None)
    monkeypatch.setattr(ClusterIngest, "write_task", None)
    cluster_ingest(tmp_path / "there", make, scheduler)
    ingest(make(), read, ("length",), tmp_path / "here", {"p": 1}, 300, 0.25)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_one_process_removes_what_a_cluster_began(tmp_path, scheduler):
    make = partial(failing, make_items(100), tmp_path / "log", 1, 60, ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cluster_ingest(tmp_path / "c", make, scheduler)
    assert list(tmp_path.glob(".c.cluster/*/pieces/*.json"))
    ingest(make(), read, ("length",), tmp_path / "c", {"p": 1}, 300, 0.25)
    assert not (tmp_path / ".c.cluster").exists()


def test_storage_that_fails_is_tried_again_with_a_limit(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(files, "FIRST_WAIT_S", 0.01)
    items = make_items(50)
    make = partial(failing, items, tmp_path / "log", 2, 20, OSError("the network is away"))
    assert cluster_ingest(tmp_path / "there", make, scheduler).total == 50
    make = partial(failing, items, tmp_path / "other", 9, 20, OSError("the network is away"))
    with pytest.raises(DataError, match=r"Items 16 to 31: tried 3 times: the network is away"):
        cluster_ingest(tmp_path / "again", make, scheduler, retries=2)


def away(seen: Path, fails: int) -> Source:
    """A source that cannot be opened so many times, after the driver has opened it."""
    with seen.open("a") as file:
        file.write("x")
    if 1 < seen.stat().st_size <= 1 + fails:
        raise DataError("Reading it failed") from OSError("the network is away")
    return source_of(make_items(30))


def test_storage_that_fails_while_a_source_is_opened_is_tried_again_too(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(files, "FIRST_WAIT_S", 0.01)
    assert cluster_ingest(tmp_path / "c", partial(away, tmp_path / "seen", 2), scheduler).total == 30


def test_a_worker_of_other_versions_is_refused_by_name(tmp_path):
    (tmp_path / machine.SEEN).write_text("token")
    machine.check(machine.versions(), tmp_path, "token")
    with pytest.raises(DataError, match=r"pillow is .* here and 1\.0 there.*same versions"):
        machine.check(machine.versions() | {"pillow": "1.0"}, tmp_path, "token")
    with pytest.raises(DataError, match=r"does not see the folder .*D2V_DATA"):
        machine.check(machine.versions(), tmp_path / "elsewhere", "token")


def changing(seen: Path) -> Source:
    """A source that is another one each time it is opened."""
    with seen.open("a") as file:
        file.write("x")
    return source_of(make_items(9), fingerprint=str(seen.stat().st_size))


def test_workers_that_see_other_data_are_refused(tmp_path, scheduler):
    with pytest.raises(DataError, match="sees other data"):
        cluster_ingest(tmp_path / "c", partial(changing, tmp_path / "seen"), scheduler)


def test_workers_do_not_list_a_folder_again(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    known: dict = {}
    with listing.listed(known):
        found = listing.list_files(LocalFileSystem(), str(tmp_path))
    (tmp_path / "b.txt").write_text("b")
    with listing.listed(known):
        assert listing.list_files(LocalFileSystem(), str(tmp_path)) == found
    assert len(listing.list_files(LocalFileSystem(), str(tmp_path))) == 2
    (tmp_path / "a.txt").write_text("changed")
    with listing.listed(known), pytest.raises(DataError, match=r"a\.txt is not as it was"):
        listing.list_files(LocalFileSystem(), str(tmp_path))


def folder_of_images(folder: Path) -> Path:
    """Images in folders of splits and classes, one of which is none."""
    for number in range(40):
        inside = folder / ("test" if number % 4 == 0 else "train") / f"class{number % 3}"
        inside.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 10, 3), 6 * number, np.uint8)).save(inside / f"{number}.png")
    (folder / "train" / "class1" / "none.png").write_bytes(b"no image")
    return folder


def test_a_worker_reads_a_list_of_its_own_files_and_not_the_folder(tmp_path, scheduler, monkeypatch):
    keys = {"source": str(folder_of_images(tmp_path / "images")), "shard_bytes": 3_000}
    get("vision").ingest(VisionIngestConfig(**keys), tmp_path / "local")
    monkeypatch.setattr(pieces._Worker, "_open", None)
    cluster = ClusterConfig(scheduler=scheduler, piece_items=7)
    get("vision").ingest(VisionIngestConfig(**keys, engine="dask", cluster=cluster), tmp_path / "dask")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")


class Locked(MemoryFileSystem):
    """Opens with a secret alone."""

    protocol = "locked"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    def __init__(self, secret: str = "", **options) -> None:
        super().__init__(**options)
        if secret != SECRET:
            raise ValueError("another secret")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("locked://"))

    def info(self, path: str, **options) -> dict:
        """With the time as listings have it: fsspec's own gives a number there, and a date here."""
        found = super().info(path, **options)
        return found | ({"created": found["created"].timestamp()} if found["type"] == "file" else {})


SECRET = "a-secret-key"


@pytest.mark.parametrize("of", ["options", "environment"])
def test_a_list_of_files_holds_no_secret_and_a_worker_has_it_all_the_same(tmp_path, scheduler, monkeypatch, of):
    fsspec.register_implementation("locked", Locked, clobber=True)
    keys = {"source": "locked://images", "shard_bytes": 3_000}
    if of == "options":
        keys["options"] = {"secret": SECRET}
    else:  # FSSPEC_LOCKED_SECRET, which fsspec reads when it is imported
        monkeypatch.setitem(fsspec.config.conf, "locked", {"secret": SECRET})
    fs = Locked(secret=SECRET)
    fs.put(f"{folder_of_images(tmp_path / 'images')}/", "/images/", recursive=True)
    get("vision").ingest(VisionIngestConfig(**keys), tmp_path / "local")
    lists, write = list[bytes](), cluster_ingest_module.write_range

    def written(path: Path, items: FileRange) -> None:
        write(path, items)
        lists.append(path.read_bytes())

    monkeypatch.setattr(cluster_ingest_module, "write_range", written)
    cluster = ClusterConfig(scheduler=scheduler, piece_items=7)
    report = get("vision").ingest(VisionIngestConfig(**keys, engine="dask", cluster=cluster), tmp_path / "dask")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert (report.total, report.quarantined, len(lists)) == (41, 1, 6)
    assert SECRET.encode() in pickle.dumps(fs), "a list with its file system would hold it"
    assert not any(SECRET.encode() in one for one in lists)


def test_a_file_that_changed_since_it_was_listed_is_refused(tmp_path, scheduler, monkeypatch):
    images = folder_of_images(tmp_path / "images")
    mark, changed = machine.mark, images / "train" / "class2" / "5.png"

    def later(folder: Path) -> str:
        changed.write_bytes(b"another one")
        return mark(folder)

    monkeypatch.setattr(machine, "mark", later)
    cluster = ClusterConfig(scheduler=scheduler, piece_items=1)
    with pytest.raises(DataError, match=r"sees other data .*5\.png is not as it was"):
        get("vision").ingest(VisionIngestConfig(source=str(images), engine="dask", cluster=cluster), tmp_path / "dask")


def test_a_list_of_files_says_what_the_whole_folder_says(tmp_path):
    """Splits in the names of files, and what a table beside them says, for any part of the files."""
    names = [f"{'train' if n % 3 else 'test'}{n:02d}.png" for n in range(12)]
    files = tuple(Found(name, f"/away/{name}", 9, "1") for name in names)
    wanted = Wanted(modality="vision", noun="images", suffixes=frozenset({".png"}), max_item_bytes=99)
    for said in (None, {name: Annotation(label=f"c{n % 4}", split="val") for n, name in enumerate(names)}.get):
        whole = find_layout(names, wanted, said=said)
        some = FileRange("/away", files[5:8], whole.of(names[5:8]), wanted)
        there = pickle.loads(pickle.dumps(some))
        found = [there.layout.item(name) for name in names[5:8]]
        assert found == [whole.item(name) for name in names[5:8]]
        assert {item.split for item in found} == ({"test"} if said else {"train", "test"})


def test_other_versions_begin_the_work_anew(tmp_path, scheduler, monkeypatch):
    make = partial(failing, make_items(400), tmp_path / "log", 1, 300, ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cluster_ingest(tmp_path / "c", make, scheduler)
    (before,) = (tmp_path / ".c.cluster").iterdir()
    found = machine.versions() | {"pillow": "other"}
    monkeypatch.setattr(machine, "versions", lambda: found)
    make = partial(failing, make_items(400), tmp_path / "other", 1, 300, ValueError("a defect"))
    with pytest.raises(ValueError, match="a defect"):
        cluster_ingest(tmp_path / "c", make, scheduler)
    (after,) = (tmp_path / ".c.cluster").iterdir()
    assert before != after


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install 'd2v\[cluster\]'"):
        cluster_ingest(tmp_path / "c", partial(source_of, make_items(9)), "tcp://127.0.0.1:1")


def test_a_scheduler_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "CONNECT_S", 1)
    with pytest.raises(LaunchError, match=r"no dask scheduler at tcp://127\.0\.0\.1:1 .*DASK_SCHEDULER_ADDRESS"):
        cluster_ingest(tmp_path / "c", partial(source_of, make_items(9)), "tcp://127.0.0.1:1")


def test_a_task_whose_result_went_with_its_worker_is_done(scheduler, monkeypatch):
    """What it left lies in files."""
    with client.Cluster(ClusterConfig(scheduler=scheduler), "try") as cluster:
        cluster.submit("one", abs, -1)
        (future,) = cluster._tasks
        future.result(10)
        monkeypatch.setattr(type(future), "status", property(lambda self: "lost"))
        assert cluster.next_done() == ("one", None)


def test_the_engine_is_no_part_of_what_a_corpus_is(tmp_path, scheduler):
    keys = small_ingest("text", tmp_path / "source")
    first = get("text").ingest(TextIngestConfig(**keys), tmp_path / "c")
    written = (tmp_path / "c" / "corpus.json").stat().st_mtime_ns
    config = TextIngestConfig(**keys, engine="dask", cluster=ClusterConfig(scheduler=scheduler))
    assert get("text").ingest(config, tmp_path / "c") == first
    assert (tmp_path / "c" / "corpus.json").stat().st_mtime_ns == written


# -------------------------------------------------------------------------------------------- prepare


@pytest.mark.parametrize("modality", ["vision", "speech"])
def test_prepared_folders_have_the_same_bytes(tmp_path, scheduler, modality, monkeypatch):
    monkeypatch.setattr(prepared, "SHARD_BYTES", 60_000)
    monkeypatch.setattr(cluster_prepare, "SHARD_BYTES", 60_000)
    recipe = registry.recipe_type(modality)
    ingest_block, prepare_block = (recipe.model_fields[name].annotation for name in ("ingest", "prepare"))
    get(modality).ingest(ingest_block(**small_ingest(modality, tmp_path / "source")), tmp_path / "corpus")
    keys = {"cluster": {"scheduler": scheduler, "piece_items": 15}}
    keys |= {"min_seconds": 0.5} if modality == "speech" else {}
    for engine in ("local", "dask"):
        get(modality).prepare(prepare_block(engine=engine, **keys), tmp_path / "corpus", tmp_path / engine)
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert len(list((tmp_path / "dask" / "train").iterdir())) > 1
    assert not list(tmp_path.glob(".*.cluster"))
    written = (tmp_path / "local" / "prepared.json").stat().st_mtime_ns
    get(modality).prepare(prepare_block(engine="dask", **keys), tmp_path / "corpus", tmp_path / "local")
    assert (tmp_path / "local" / "prepared.json").stat().st_mtime_ns == written


NAMES = ["Ada", "Ben", "Cleo", "Dora", "Emil", "Fritz", "Gwen", "Hugo", "Ida", "Jan", "Kim", "Lena", "Max", "Nora"]
SAYINGS = (
    "went down to the river to see the boats.",
    "have never been told about it before today.",
    "like long walks in the woods, where it is quiet and where nobody asks them anything at all.",
    "came home late.",
)


def corpus_of_texts(folder: Path, has_labels: bool) -> Path:
    """Documents of some lines, or labelled sentences of which some are pairs."""
    source = folder / "texts.jsonl"
    rows = []
    for number in range(120):
        lines = [f"{NAMES[number // 9]} and {NAMES[number % 9]} {SAYINGS[line]}" for line in range(4)]
        labelled = {"label": number % 3, "second": f"and {number}" if number % 4 else None}
        rows.append({"text": lines[number % 4], **labelled} if has_labels else {"text": "\n".join(lines)})
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"text": "text", **({"label": "label", "second": "second"} if has_labels else {})}
    get("text").ingest(TextIngestConfig(source=str(source), columns=columns, test_fraction=0.3), folder / "corpus")
    return folder / "corpus"


@pytest.mark.parametrize(
    ("packing", "has_labels"),
    [("contiguous", False), ("contiguous", True), ("documents", False), ("sentences", False), ("pairs", False)],
)
def test_texts_have_the_same_tokens(tmp_path, scheduler, packing, has_labels, monkeypatch):
    monkeypatch.setattr(text_packing, "BATCH_CHARACTERS", 700)  # several records in a piece
    corpus = corpus_of_texts(tmp_path, has_labels)
    keys = {"packing": packing, "vocab_size": 300, "block_tokens": 40, "probe_train_items": 20, "probe_test_items": 10}
    for engine in ("local", "dask"):
        config = TextPrepareConfig(
            **keys, engine=engine, cluster=ClusterConfig(scheduler=scheduler, piece_items=25, retries=0)
        )
        about = get("text").prepare(config, corpus, tmp_path / engine)
        assert about["train_items"] > 10
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")
    assert about["probe"] == ("labels" if has_labels else "acceptability")
    assert not list(tmp_path.glob(".*.cluster"))


def test_texts_that_were_tokenized_are_not_again(tmp_path, scheduler, monkeypatch):
    corpus = corpus_of_texts(tmp_path, False)
    cluster = ClusterConfig(scheduler=scheduler, piece_items=25, retries=0)
    config = TextPrepareConfig(vocab_size=300, block_tokens=40, engine="dask", cluster=cluster)
    with monkeypatch.context() as patch:
        patch.setattr(text_preparation, "_find_probe", failing_at_once)
        with pytest.raises(ValueError, match="a defect"):
            get("text").prepare(config, corpus, tmp_path / "dask")
    monkeypatch.setattr(text_encoding, "documents_to_records", failing_at_once)
    get("text").prepare(config, corpus, tmp_path / "dask")
    get("text").prepare(TextPrepareConfig(vocab_size=300, block_tokens=40), corpus, tmp_path / "local")
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")


def failing_at_once(*_: object) -> None:
    raise ValueError("a defect")


def shout(data: bytes, log: Path, fails_at: bytes) -> tuple[bytes, dict[str, int]]:
    with log.open("ab") as file:
        file.write(data + b"\n")
    if data == fails_at:
        raise ValueError("a defect")
    return data.upper(), {"length": len(data)}


def test_a_prepare_that_failed_goes_on_with_what_is_missing(tmp_path, scheduler):
    ingest(source_of(make_items(100)), read, ("length",), tmp_path / "corpus", {"p": 1}, 300, 0.25)
    corpus, log = Corpus(tmp_path / "corpus"), tmp_path / "log"
    stored = list(corpus.data(range(len(corpus))))
    config = ClusterConfig(scheduler=scheduler, piece_items=10)
    schema = pa.schema([("label", pa.int64()), ("length", pa.int64()), ("data", pa.large_binary())])

    def write(fails_at: bytes) -> list[int]:
        folder = tmp_path / ".p.partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        found: list[int] = []
        with ClusterRowWriter(corpus, folder, config, {}) as writer, Progress("prepare", None) as progress:
            for part, items in (("train", np.arange(30)), ("test", np.arange(30, len(corpus)))):
                make = partial(shout, log=log, fails_at=fails_at)
                rows = writer.write(part, schema, items, make, lambda item: {"label": item}, progress)
                found += [facts["length"] for facts in rows]
        return found

    with pytest.raises(ValueError, match="a defect"):
        write(stored[-1])
    before = set(log.read_bytes().splitlines())
    log.unlink()
    assert write(b"none") == [len(data) for data in stored]
    again = set(log.read_bytes().splitlines())
    assert stored[-1] in again
    assert not again & set(stored[:30])
    assert before | again == set(stored)
    shards = {part: ShardReader(tmp_path / ".p.partial" / part) for part in ("train", "test")}
    assert [*shards["train"].column("data"), *shards["test"].column("data")] == [data.upper() for data in stored]
    assert [*shards["train"].integers("label"), *shards["test"].integers("label")] == list(range(len(corpus)))
