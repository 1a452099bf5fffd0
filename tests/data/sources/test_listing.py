import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from d2v.data.sources import listing
from d2v.data.sources.listing import NotAFile, list_files, open_file
from d2v.errors import DataError
from tests.data.source_files import DRAWINGS, read, refusals, source_of, write_tree

FS = LocalFileSystem()


def keys(folder: Path) -> list[str]:
    return sorted(file.key for file in list_files(FS, str(folder)))


def test_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    names = "abcdef"
    for one in names:
        (tmp_path / one).mkdir()
        (tmp_path / one / "1.png").write_bytes(one.encode())
        for other in names:
            (tmp_path / one / f"to_{other}").symlink_to(tmp_path / other)
    assert keys(tmp_path) == [f"{one}/1.png" for one in names]


def test_a_folder_has_its_own_name_and_one_from_elsewhere_that_of_the_first_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path / "elsewhere", ["1.png"])
    write_tree(tmp_path / "here", ["z/2.png"])
    for name, target in (("a", "here/z"), ("m", "elsewhere"), ("n", "elsewhere")):
        (tmp_path / "here" / name).symlink_to(tmp_path / target)
    assert keys(tmp_path / "here") == ["m/1.png", "z/2.png"]
    assert "2 links lead to folders that are read under another name" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, ["a/1.png", "b/1.png"])
    scan = os.scandir

    def guarded(path: Any) -> Any:
        if str(path).endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(path)

    monkeypatch.setattr(listing.os, "scandir", guarded)
    assert refusals(read(tmp_path)) == {"a": "unreadable: Permission denied"}


def test_a_long_listing_shows_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path, ["a/1.png", "b/1.png"])
    monkeypatch.setattr(listing, "PLAIN_INTERVAL_S", -1.0)
    list_files(FS, str(tmp_path))
    assert "list: 3 folders and 2 files so far" in capsys.readouterr().err


def test_what_takes_a_files_place_after_listing_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, ["1.png", "2.png", "3.png", "4.png", "5.png"])
    source = source_of(tmp_path)
    for name in ("2.png", "3.png", "4.png", "5.png"):
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "2.png")
    (tmp_path / "3.png").symlink_to("/dev/zero")
    (tmp_path / "4.png").symlink_to("4.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "5.png"))
        items = list(source.items(0))
    pipe = "it is a device or a pipe, not a file"
    assert refusals(items) == {
        **dict.fromkeys(("2.png", "3.png", "5.png"), pipe),
        "4.png": "unreadable: Too many levels of symbolic links",
    }
    assert items[0].data


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet", "a.png"])
def test_a_pipe_is_no_source(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="it is a device or a pipe"):
        source_of(tmp_path / name)


def test_only_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(NotAFile):
            open_file(FS, str(path))
    with pytest.raises(IsADirectoryError):
        open_file(FS, str(tmp_path))
    (tmp_path / "file").write_bytes(b"content")
    with open_file(FS, str(tmp_path / "file")) as file:
        assert file.read() == b"content"


def test_a_failing_disk_is_no_reason_to_refuse_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(write_tree(tmp_path, ["1.png"]), DRAWINGS)

    def failing(*_: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(listing.os, "open", failing)
    with pytest.raises(DataError, match=r"Input/output error.*goes on where it stopped"):
        list(source.items(0))
