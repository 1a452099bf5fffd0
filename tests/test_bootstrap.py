"""bootstrap.py: what it decides. The installation itself is what every run of this suite came through."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"
    root.mkdir()
    (root / "requirements.lock").write_text("x==1\n")
    (root / "pyproject.toml").write_text("[project]\n")
    return root


def test_needs_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.path.insert(0, '.'); import bootstrap"
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_accepts_supported_pythons(bootstrap: ModuleType, version: tuple[int, int]) -> None:
    bootstrap.check_machine(version, "posix")


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_refuses_other_pythons(bootstrap: ModuleType, version: tuple[int, int]) -> None:
    message = r"this is Python 3\.\d+, and d2v needs 3\.11 to 3\.13\. .*python3\.11"
    with pytest.raises(bootstrap.SetupError, match=message):
        bootstrap.check_machine(version, "posix")


def test_refuses_windows_with_a_way_out(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.SetupError, match="WSL"):
        bootstrap.check_machine((3, 11), "nt")


def test_says_how_much_disk_is_missing(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.SetupError, match=r"need about 9 GB and 1\.0 GB are free"):
        bootstrap.check_disk(10**9)


def test_is_current_until_the_lock_changes(bootstrap: ModuleType, project: Path) -> None:
    venv = project / ".venv"
    bootstrap.python_of(venv).parent.mkdir(parents=True)
    bootstrap.python_of(venv).touch()
    assert not bootstrap.is_current(project)
    (venv / "bootstrap-stamp").write_text(bootstrap.fingerprint(project))
    assert bootstrap.is_current(project)
    (project / "requirements.lock").write_text("x==2\n")
    assert not bootstrap.is_current(project)


def test_a_moved_environment_is_not_current(bootstrap: ModuleType, project: Path) -> None:
    before = bootstrap.fingerprint(project)
    moved = project.rename(project.with_name("elsewhere"))
    assert bootstrap.fingerprint(moved) != before


def test_command_runs_inside_the_environment(bootstrap: ModuleType, tmp_path: Path) -> None:
    inherited = {"PATH": "/usr/bin", "PYTHONHOME": "/broken", "KEPT": "1"}
    environment = bootstrap.environment_of(tmp_path / "v env", inherited)
    assert environment["PATH"].split(":") == [str(tmp_path / "v env" / "bin"), "/usr/bin"]
    assert environment["VIRTUAL_ENV"] == str(tmp_path / "v env")
    assert "PYTHONHOME" not in environment
    assert environment["KEPT"] == "1"


def test_unknown_command_is_one_line(bootstrap: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(bootstrap.SetupError, match="no command 'ketro'"):
        bootstrap.become(["ketro"], tmp_path)


def test_two_at_once_take_turns(bootstrap: ModuleType, tmp_path: Path) -> None:
    script = f"""
import importlib.util, pathlib, time
spec = importlib.util.spec_from_file_location("bootstrap", {str(ROOT / "bootstrap.py")!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
log = pathlib.Path({str(tmp_path / "log")!r})
with module.only_one(pathlib.Path({str(tmp_path / "lock")!r})):
    with log.open("a") as file: file.write("in\\n")
    time.sleep(0.3)
    with log.open("a") as file: file.write("out\\n")
"""
    both = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=20) for process in both] == [0, 0]
    assert (tmp_path / "log").read_text().split() == ["in", "out", "in", "out"]


def test_a_ready_project_starts_its_command_at_once(bootstrap: ModuleType) -> None:
    if not bootstrap.is_current(ROOT):
        pytest.skip("this environment was not made by bootstrap.py")
    start = time.monotonic()
    command = [sys.executable, str(ROOT / "bootstrap.py"), "python", "-c", "import sys; print(sys.prefix)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(ROOT / ".venv")
    assert time.monotonic() - start < 3
