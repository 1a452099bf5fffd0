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
    assert list(found) == ["packages", "GPU", "precision", "cores", "memory", "compiler", "disk", "MLflow"]
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
