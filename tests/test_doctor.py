"""`d2v doctor`: what it says, and when it ends with 1."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from d2v import doctor
from d2v.cli import app


def findings(project: Path) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(project)}


def test_every_check_reports(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert list(found) == ["packages", "GPU", "bf16", "fp32", "cores", "ranks", "memory", "compiler", "disk", "MLflow"]
    assert all(finding.detail for finding in found.values())


def test_a_full_disk_is_a_problem_with_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 2**63)
    assert findings(tmp_path)["disk"].state == "problem"
    result = CliRunner().invoke(app, ["doctor", "--project", str(tmp_path)])
    assert result.exit_code == 1
    assert "free some space" in result.output


def test_the_store_is_counted_or_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "will be made by the first run" in findings(tmp_path)["MLflow"].detail
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("create table runs (id)")
        connection.execute("insert into runs values (1)")
    assert "1 runs" in findings(tmp_path)["MLflow"].detail
    (tmp_path / "mlflow.db").write_bytes(b"not a database, " * 100)
    assert findings(tmp_path)["MLflow"].state == "problem"


def test_ranks_that_cannot_be_started_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert doctor._ranks().state == "ok"
    assert "up to" in doctor._ranks().detail
    monkeypatch.setattr(doctor, "_no_port", lambda: "permission denied")
    assert doctor._ranks().state == "problem"
    assert "permission denied" in doctor._ranks().detail
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert doctor._ranks() == doctor.Finding("ranks", "problem", doctor._ranks().detail)
    assert "RANK=3" in doctor._ranks().detail
    monkeypatch.setenv("RANK", "1")
    assert "one of 2" in doctor._ranks().detail


def test_a_compiler_is_worth_a_note_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    assert doctor._compiler().state == "note"
    assert "no g++ and no ninja" in doctor._compiler().detail


@pytest.mark.parametrize(("built", "words"), [("12.8", ""), ("13.0", "nvcc is of CUDA 12.4 and torch of 13.0")])
def test_a_toolkit_of_another_cuda_is_named(tmp_path: Path, built: str, words: str) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.4, V12.4.131'\n")
    nvcc.chmod(0o755)
    told = doctor._other_cuda(str(nvcc), built)
    assert told.startswith(words)
    assert bool(told) == bool(words)
