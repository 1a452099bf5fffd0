"""Tables and files of one item each beside the items, as labels for images and in shards."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from d2v.data.sources.source import Item
from d2v.errors import DataError
from d2v.modalities.speech.config import SpeechIngestConfig
from d2v.modalities.speech.sources import open_source as open_recordings
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.modality import Vision
from d2v.modalities.vision.sources import open_source as open_images
from tests.data.source_files import write_any
from tests.modalities.speech.sounds import sound_file, tone


def image(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def read(path: Path, **values: object) -> list[Item]:
    source = open_images(VisionIngestConfig(source=str(path), **values))  # type: ignore[arg-type]
    items = list(source.items(0))
    for start in (1, len(items) - 1, len(items)):
        assert list(source.items(start)) == items[start:]
    return sorted(items, key=lambda item: item.key)


def facts(items: list[Item]) -> list[tuple[str, str | None, str | None]]:
    return [(item.key, item.label, item.split) for item in items]


IMAGES = ["0.png", "1.png", "2.png"]
TABLES = {
    "metadata.csv": b"file_name,label\n0.png,a\n1.png,b\n2.png,\n",
    "labels.csv": "image_id;label\r\n0;a\r\n1;b\r\n2;\r\n".encode("utf-16"),
    "mine.tsv": b"path\tclass\n./0.png\ta\n1\tb\n2.png\tnan\n",
    "metadata.jsonl": b'{"file_name": "0.png", "label": "a"}\n{"file_name": "1.png", "label": ["b"]}\n'
    b'{"file_name": "2.png", "label": null}\n',
}


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("table", TABLES)
def test_tables_label_images(tmp_path: Path, kind: str, table: str) -> None:
    assert facts(read(write_any(kind, tmp_path, IMAGES, {table: TABLES[table]}))) == [
        ("0.png", "a", None),
        ("1.png", "b", None),
        ("2.png", None, None),
    ]


def test_parquet_labels_images(tmp_path: Path) -> None:
    path = write_any("folder", tmp_path, ["all/0.png", "all/1.png"])
    pq.write_table(
        pa.table({"file_name": ["0.png", "1.png"], "label": [1.0, float("nan")], "split": ["train", "test"]}),
        path / "all" / "metadata.parquet",
    )
    assert facts(read(path)) == [("all/0.png", "1", "train"), ("all/1.png", None, "test")]


def test_columns_of_the_recipe(tmp_path: Path) -> None:
    table = b"picture,species,fold,patient,label\n0.png,x,1,p,no\n1.png,y,2,q,no\n2.png,x,1,p,no\n"
    path = write_any("folder", tmp_path, IMAGES, {"any.csv": table})
    columns = {"file": "picture", "label": "Species", "group": "patient"}
    items = read(path, columns=columns)
    assert [(item.label, item.split, item.group) for item in items] == [
        ("x", "train", "p"),
        ("y", "test", "q"),
        ("x", "train", "p"),
    ]
    with pytest.raises(DataError, match=r"none is colour: set ingest\.columns\.label"):
        read(path, columns={**columns, "label": "colour"})


def test_groups_stay_together_in_a_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    rows = ["file_name,patient"]
    for n in range(40):
        (folder / f"{n}.png").write_bytes(image(n))
        rows.append(f"{n}.png,{n % 8}")
    (folder / "metadata.csv").write_text("\n".join(rows))
    config = VisionIngestConfig(source=str(folder), columns={"group": "patient"}, test_fraction=0.4)  # type: ignore[arg-type]
    Vision().ingest(config, tmp_path / "c")
    splits: dict[int, set[str]] = {}
    for row in pq.read_table(tmp_path / "c" / "manifest.parquet").to_pylist():
        splits.setdefault(int(row["key"].removesuffix(".png")) % 8, set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "test"}


def test_lists_of_several_labels_are_counted(tmp_path: Path) -> None:
    table = b'{"file_name": "0.png", "label": ["a", "b"]}\n{"file_name": "1.png", "label": "a"}\n'
    path = write_any("folder", tmp_path, IMAGES[:2], {"metadata.jsonl": table})
    source = open_images(VisionIngestConfig(source=str(path)))
    assert [item.label for item in source.items(0)] == [None, "a"]
    assert list(source.remarks()) == [
        "1 rows list several labels, and an item is of one class: they are taken for none"
    ]


def test_tables_that_speak_of_something_else_stay_out_of_the_way(tmp_path: Path) -> None:
    path = write_any("folder", tmp_path, ["cat/0.png", "dog/1.png"], {"prices.csv": b"name,price\nx,1\n"})
    assert facts(read(path)) == [("cat/0.png", "cat", None), ("dog/1.png", "dog", None)]


# -------------------------------------------------------------------------------------------- shards


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("order", [1, -1])
def test_shards_are_one_corpus(tmp_path: Path, order: int) -> None:
    for shard in range(3):
        members = {}
        for n in range(2):
            key = f"{shard}{n}"
            members |= {f"{key}.png": image(10 * shard + n), f"{key}.cls": b"%d\n" % n, f"{key}.txt": b"a caption"}
            members[f"{key}.json"] = json.dumps({"label": "no", "width": 8}).encode()
        write_shard(tmp_path / "d" / f"{shard:06d}.tar", dict(list(members.items())[::order]))
    (tmp_path / "d" / "README.md").write_text("about")
    items = read(tmp_path / "d")
    assert facts(items) == [(f"{shard:06d}/{shard}{n}.png", str(n), None) for shard in range(3) for n in range(2)]
    assert [item.data for item in items] == [image(10 * shard + n) for shard in range(3) for n in range(2)]


def test_shards_tell_splits_and_folders_classes(tmp_path: Path) -> None:
    write_shard(tmp_path / "train-0.tar", {"cat/1.png": image(1), "cat/2.png": image(2)})
    write_shard(tmp_path / "train-1.tar", {"dog/1.png": image(3)})
    write_shard(tmp_path / "val-0.tar", {"dog/2.png": image(4)})
    assert facts(read(tmp_path)) == [
        ("train-0/cat/1.png", "cat", "train"),
        ("train-0/cat/2.png", "cat", "train"),
        ("train-1/dog/1.png", "dog", "train"),
        ("val-0/dog/2.png", "dog", "test"),
    ]


def test_a_shard_that_is_cut_off_is_said_and_the_others_are_read(tmp_path: Path) -> None:
    for shard in range(2):
        write_shard(tmp_path / f"{shard}.tar", {f"{shard}{n}.png": image(10 * shard + n) for n in range(3)})
    whole = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(whole[:1200])
    items = read(tmp_path)
    assert [item.refused is None for item in items].count(False) == 1
    assert [item.key for item in items if item.key.startswith("1/")] == ["1/10.png", "1/11.png", "1/12.png"]


def test_shards_of_recordings(tmp_path: Path) -> None:
    members = {"a.wav": sound_file(tone(0.2)), "a.txt": b"hello\nthere", "a.json": b'{"speaker": "ann", "label": "x"}'}
    write_shard(tmp_path / "dev" / "0.tar", members)
    write_shard(tmp_path / "train" / "0.tar", {"b.wav": sound_file(tone(0.3)), "b.cls": b"y"})
    items = list(open_recordings(SpeechIngestConfig(source=str(tmp_path))).items(0))
    assert [(item.key, item.label, item.split, dict(item.texts)) for item in items] == [
        ("dev/0/a.wav", "x", "test", {"transcript": "hello there", "speaker": "ann"}),
        ("train/0/b.wav", "y", "train", {}),
    ]


# ----------------------------------------------------------------------------------------- manifests


def test_manifests_beside_their_recordings_are_found(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / "wavs").mkdir(exist_ok=True)
        (tmp_path / "wavs" / f"{n}.wav").write_bytes(sound_file(tone(0.2 + 0.1 * n)))
    (tmp_path / "train.tsv").write_text(f"{tmp_path / 'wavs'}\n0.wav\t3200\n1.wav\t3200\n")
    (tmp_path / "valid.tsv").write_text(f"{tmp_path / 'wavs'}\r\n2.wav\t3200\r\n")
    (tmp_path / "train.ltr").write_text("H I |\u2028 A |\nH O |\n")
    (tmp_path / "valid.wrd").write_text("so\u00a0be it\n")
    items = list(open_recordings(SpeechIngestConfig(source=str(tmp_path))).items(0))
    assert [(item.key, item.label, item.split, item.texts["transcript"]) for item in items] == [
        ("train/0.wav", None, "train", "HI A"),
        ("train/1.wav", None, "train", "HO"),
        ("valid/2.wav", None, "test", "so be it"),
    ]
