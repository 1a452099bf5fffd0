"""The image of a served model: what it copies, installs and starts. hadolint reads the file in `make check`."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.main import get_command

from d2v.cli import app as commands

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(instruction, its text on one line), in order."""
    lines = [line for line in TEXT.splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in whole.splitlines() if line)]


def values(name: str) -> list[str]:
    return [text for word, text in instructions() if word == name]


def shell(name: str) -> list[str]:
    """An instruction that is given as a list."""
    (text,) = values(name)
    found: list[str] = json.loads(text)
    return found


def kept(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last line that fits decides."""
    is_kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch.fnmatch(path, line.removeprefix("!")):
            is_kept = line.startswith("!")
    return is_kept


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [text.split()[:-1] for text in values("COPY") if "--from" not in text]
    assert sorted(path for paths in copied for path in paths) == [
        *("LICENSE", "README.md", "pipelines", "pyproject.toml", "requirements.lock", "src")
    ]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists()
        assert kept(path)


@pytest.mark.parametrize("path", ["data", "conf", ".git", "mlflow.db", "mlartifacts", ".venv", "src/d2v/__pycache__"])
def test_data_tracking_and_credentials_stay_out(path: str) -> None:
    assert not kept(path)


def test_the_image_has_versions_and_does_not_run_as_root() -> None:
    assert all(re.fullmatch(r"python:\$\{PYTHON_VERSION\}-slim-\w+( AS packages)?", text) for text in values("FROM"))
    (version,) = (text.partition("=")[2] for text in values("ARG") if text.startswith("PYTHON_VERSION"))
    assert (3, 11) <= tuple(map(int, version.split("."))) < (3, 14)
    order = [word for word, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert values("USER") == ["10001"]
    assert values("STOPSIGNAL") == ["SIGTERM"]


def test_it_starts_the_command_with_variables_that_it_knows() -> None:
    entry, arguments = shell("ENTRYPOINT"), shell("CMD")
    verb = get_command(commands).commands[entry[1]]  # type: ignore[attr-defined]
    assert entry[0] == "d2v"
    assert len(arguments) == sum(parameter.param_type_name == "argument" for parameter in verb.params)
    known = {parameter.envvar for parameter in verb.params}
    used = set(re.findall(r"(D2V_SERVE_\w+)=", TEXT))
    assert used
    assert used <= known
    (port,) = re.findall(r"D2V_SERVE_PORT=(\d+)", TEXT)
    assert values("EXPOSE") == [port]


def test_its_health_is_asked_where_the_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    from d2v.serving.app import App

    (path,) = re.findall(r"\}(/\w+)'", values("HEALTHCHECK")[0])
    monkeypatch.setattr(App, "loaded", None, raising=False)
    loaded = type("Loaded", (), {"label": "a model"})()
    assert TestClient(App(loaded)).get(path).status_code == 200  # type: ignore[arg-type]


def test_constraints_for_cpus_keep_every_version_and_no_hash(tmp_path: Path) -> None:
    """The image's own command, on the lock."""
    (command,) = re.findall(r"sed (-e .*?) requirements\.lock > constraints\.txt", TEXT)
    lock = (ROOT / "requirements.lock").read_text()
    sed = subprocess.run(f"sed {command}", shell=True, input=lock, capture_output=True, text=True, check=True)
    pins = re.findall(r"^[\w.-]+==\S+", lock, re.MULTILINE)
    assert re.findall(r"^[\w.-]+==\S+", sed.stdout, re.MULTILINE) == pins
    assert "--hash" not in sed.stdout
    assert "\\" not in sed.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_another_device_is_refused(tmp_path: Path) -> None:
    (case,) = re.findall(r"case .*? esac", values("RUN")[0])
    (tmp_path / "requirements.lock").write_text("torch==1 \\\n    --hash=sha256:0\n")
    for device, status, kept_lines in (("cpu", 0, "torch==1\n"), ("gpu", 0, None), ("tpu", 2, None)):
        environment = {**os.environ, "DEVICE": device}
        ended = subprocess.run(["bash", "-c", case], cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert ended.returncode == status
        if kept_lines:
            assert (tmp_path / "constraints.txt").read_text() == kept_lines


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip("install the extra `dev` to run this test")
    ended = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
