"""Folders that one process works on at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from d2v.data.disk import one_at_a_time, swap_in


def test_calls_on_one_folder_wait_for_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered, leave, order = threading.Event(), threading.Event(), []

    @one_at_a_time
    def work(name: str, out: Path) -> None:
        order.append(f"{name} begins")
        if name == "first":
            entered.set()
            leave.wait(30)
        order.append(f"{name} ends")

    threads = [threading.Thread(target=work, args=(name, tmp_path / "out")) for name in ("first", "second")]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    work("elsewhere", out=tmp_path / "other")
    assert order == ["first begins", "elsewhere begins", "elsewhere ends"]
    deadline = time.monotonic() + 30
    while "another process works on" not in capsys.readouterr().err:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert order[-3:] == ["first ends", "second begins", "second ends"]


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert one_at_a_time(lambda out: out.name)(tmp_path / "file" / "out") == "out"


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    """Whether its folder is there or not: what is swapped in goes there, and the link stays."""

    @one_at_a_time
    def make(out: Path, content: str) -> None:
        new = out.with_name(f".{out.name}.partial")
        new.mkdir()
        (new / "file").write_text(content)
        swap_in(new, out)

    (tmp_path / "far").mkdir()
    link = tmp_path / "corpus"
    link.symlink_to(tmp_path / "far" / "elsewhere")
    for content in ("first", "second"):
        make(link, content)
        assert link.is_symlink()
        assert (tmp_path / "far" / "elsewhere" / "file").read_text() == content
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path != link] == ["far"]
