"""Folders, paths and URLs."""

from __future__ import annotations

import os
import re
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from d2v.data.sources.locations import find_format, open_location
from d2v.errors import ConfigError, DataError
from tests.data.source_files import (
    DRAWINGS,
    TREE,
    by_table,
    content,
    expected,
    labels_and_splits,
    read,
    refusals,
    source_of,
    write_parquet,
    write_tar,
    write_tree,
    write_zip,
)


def test_folder_with_splits_and_classes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"hidden")
    (tmp_path / "train" / ".git").mkdir()
    (tmp_path / "train" / ".git" / "x.png").write_bytes(b"hidden")
    source = source_of(tmp_path)
    items = list(source.items(0))
    assert labels_and_splits(items) == expected()
    assert source.total == len(items)
    assert source.class_names is None
    assert items[0].data == content(TREE[0])


def test_folder_passes_other_files_on_and_refuses_what_it_must_not_open(tmp_path: Path) -> None:
    write_tree(tmp_path, ["cat/1.png", "dog/1.png"])
    (tmp_path / "README").write_text("words")
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "cat" / "big.png").write_bytes(bytes(2000))
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "dog" / "2.png").symlink_to(tmp_path / "cat" / "1.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    items = read(tmp_path, replace(DRAWINGS, max_item_bytes=1000))
    assert {item.key: item.data is None for item in items} == {
        "README": False,
        "cat/1.png": False,
        "cat/big.png": True,
        "cat/gone.png": True,
        "dog/1.png": False,
        "dog/2.png": False,
        "dog/pipe.png": True,
    }
    reasons = refusals(items)
    assert "max_item_bytes" in reasons["cat/big.png"]
    assert "No such file" in reasons["cat/gone.png"]
    assert "pipe" in reasons["dog/pipe.png"]


def test_folder_that_holds_one_archive_is_that_archive(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar.gz", TREE, "w:gz")
    (tmp_path / "README.md").write_text("words")
    assert labels_and_splits(read(tmp_path)) == expected()


def test_folder_of_papers_only_says_so(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("words")
    with pytest.raises(DataError, match=r"holds no files but papers: put drawings into it.*drawing\.ingest\.source"):
        source_of(tmp_path, replace(DRAWINGS, only_suffixes=True))


def test_fingerprint_follows_the_files_not_their_location(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "a")
    before = source_of(folder).fingerprint
    moved = folder.rename(tmp_path / "b")
    assert source_of(moved).fingerprint == before
    os.utime(moved / TREE[0], (1, 1))
    touched = source_of(moved).fingerprint
    assert touched != before
    (moved / TREE[0]).unlink()
    assert source_of(moved).fingerprint != touched


def test_fingerprint_follows_side_files_too(tmp_path: Path) -> None:
    write_tree(tmp_path, ["1.png"], {"table.csv": b"a"})
    before = source_of(tmp_path).fingerprint
    (tmp_path / "table.csv").write_bytes(b"bc")
    assert source_of(tmp_path).fingerprint != before


def test_a_failing_disk_is_an_error_and_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_tar(tmp_path / "a.tar", TREE))
    items = source.items(0)
    next(items)

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tarfile.TarFile, "extractfile", fail)
    with pytest.raises(DataError, match=r"Input/output error.*goes on where it stopped"):
        next(items)


def test_urls_work_as_paths_do(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    wanted = replace(DRAWINGS, side_names=re.compile(r"^table\.csv$"))
    table = {"table.csv": b"path,split,artist\ntrain/cat/0.png,val,Ann\n"}
    write_tree(tmp_path / "tree", TREE, table)
    write_tar(tmp_path / "a.tar.gz", TREE, "w:gz", table)
    write_zip(tmp_path / "a.zip", TREE, table)
    write_parquet(tmp_path / "tables")
    memory.put(str(tmp_path), "/drawings", recursive=True)
    try:
        for name in ("tree", "a.tar.gz", "a.zip", "tables"):
            there = read(tmp_path / name, wanted, by_table)
            assert read(f"memory://drawings/{name}", wanted, by_table) == there, name
            assert read((tmp_path / name).as_uri(), wanted, by_table) == there, name
            assert ("train/cat/0.png", "cat", "val") in labels_and_splits(there) or name == "tables"
    finally:
        memory.rm("/drawings", recursive=True)


def test_messages_speak_of_what_the_modality_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"drawing\.ingest\.source to a folder, an archive or a URL\.$"):
        source_of(tmp_path / "nowhere")
    doodles = replace(DRAWINGS, embedded=("doodles",), library="sketchbook")
    with pytest.raises(DataError, match=r"a URL, doodles or sketchbook:<Class>\. Or did you mean.* doodles\?"):
        source_of("doodels", doodles)
    with pytest.raises(ConfigError, match=r"drawing\.ingest\.options \['x'\] mean.*for URLs\. Remove"):
        open_location(str(tmp_path), {"x": 1}, DRAWINGS)
    with pytest.raises(ConfigError, match="for doodles, sketchbook and URLs"):
        open_location(str(tmp_path), {"x": 1}, doodles)
    with pytest.raises(DataError, match=r"empty folder: put drawings into it.*drawing\.ingest\.source"):
        source_of(tmp_path)
    with pytest.raises(DataError, match=r"nowhere://x cannot be opened.*drawing\.ingest\.options"):
        source_of("nowhere://x")
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"drawing\.ingest\.format to one of tar, zip, parquet, .* folder of drawings"):
        source_of(tmp_path / "a.rar")


def test_chosen_formats_must_fit_the_location(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "tree")
    opened, is_folder = open_location(str(folder), {}, DRAWINGS)
    assert find_format(opened, is_folder, DRAWINGS) == ("folder", opened)
    assert find_format(opened, is_folder, DRAWINGS, "ledger") == ("ledger", opened)
    with pytest.raises(DataError, match=r"folder of 8 files, format tar reads one: set drawing\.ingest\.source"):
        find_format(opened, is_folder, DRAWINGS, "tar")
    file, is_folder = open_location(str(write_tar(tmp_path / "a.tar", TREE)), {}, DRAWINGS)
    with pytest.raises(DataError, match=r"is a file, not a folder: set drawing\.ingest\.format to auto"):
        find_format(file, is_folder, DRAWINGS, "folder")


def test_parquet_folder_is_one_source_unless_items_lie_in_it(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "tables")
    (folder / "README.md").write_text("words")
    kind, location = find_format(*open_location(str(folder), {}, DRAWINGS), DRAWINGS)
    assert (kind, [file.name for file in location.files]) == ("parquet", ["test-00000.parquet", "train-00000.parquet"])
    (folder / "1.png").write_bytes(b"x")
    assert find_format(*open_location(str(folder), {}, DRAWINGS), DRAWINGS)[0] == "folder"


def test_an_address_that_does_not_answer_says_so() -> None:
    """An HTTP file system says that there is no such file, which nobody knows."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(
        DataError, match=rf"images\.tar cannot be fetched \(Cannot connect to host 127\.0\.0\.1:{port} .*network"
    ):
        source_of(f"http://127.0.0.1:{port}/images.tar")


class Opened(list):
    """Paths of files that were opened in a file system of memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        system = type(fsspec.filesystem("memory"))
        real = system.open

        def noted(fs: Any, path: str, *args: Any, **options: Any) -> Any:
            self.append(path)
            return real(fs, path, *args, **options)

        monkeypatch.setattr(system, "open", noted)


@pytest.fixture
def archive_afar(tmp_path: Path) -> Iterator[str]:
    """The URL of a tar archive."""
    memory = fsspec.filesystem("memory")
    write_tar(tmp_path / "x.tar", TREE)
    memory.put(str(tmp_path / "x.tar"), "/afar/x.tar")
    yield "memory://afar/x.tar"
    memory.rm("/afar", recursive=True)


def test_an_archive_behind_a_url_is_fetched_once_for_all_that_pass_over_it(
    tmp_path: Path, archive_afar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2V_CACHE", str(tmp_path / "cache"))
    opened = Opened(monkeypatch)
    items = read(archive_afar)
    assert {item.key for item in items} == {item.key for item in read(tmp_path / "x.tar")}
    assert len(opened) == 1
    assert read(archive_afar) == items
    assert len(opened) == 1
    fsspec.filesystem("memory").touch("/afar/x.tar", truncate=True)
    with pytest.raises(DataError):
        read(archive_afar)


@pytest.mark.parametrize(("name", "value"), [("D2V_CACHE_GB", "0"), ("D2V_CACHE_GB", "much"), ("D2V_CACHE", "file/x")])
def test_without_room_in_the_cache_it_is_read_from_afar_each_time(
    tmp_path: Path, archive_afar: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("D2V_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(name, str(tmp_path / value) if name == "D2V_CACHE" else value)
    opened = Opened(monkeypatch)
    assert {item.key for item in read(archive_afar)} == {item.key for item in read(tmp_path / "x.tar")}
    assert len(opened) > 1
