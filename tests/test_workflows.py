"""The workflows of GitHub: what they may do, and that their commands work here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dvc.checkout import Checkout, make_checkout

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {file.stem: yaml.safe_load(file.read_text()) for file in FILES}
JOBS = {f"{name}.{job}": body for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()}
NEEDED = {"ci.check": {"contents": "read"}, "ci.test": {"contents": "read"}}
NEEDED |= {"retrain.retrain": {"contents": "read", "issues": "write"}}
TRIGGERS = True  # YAML 1.1 reads the key `on` so


def commands(job: str) -> dict[str, str]:
    """What a job's steps run, by the steps' names."""
    return {step.get("name", step["run"]): step["run"] for step in JOBS[job]["steps"] if "run" in step}


def test_every_job_has_the_permissions_it_needs_and_no_other() -> None:
    assert {job: body["permissions"] for job, body in JOBS.items()} == NEEDED
    assert all(workflow["permissions"] == {} for workflow in WORKFLOWS.values())
    assert all(body["timeout-minutes"] for body in JOBS.values())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_actions_are_pinned_to_commits(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("job", JOBS)
def test_no_expression_is_pasted_into_a_shell(job: str) -> None:
    for command in commands(job).values():
        assert "${{" not in command, "a value with a quote in it would be run: pass it through env"
    for step in JOBS[job]["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_the_checks_are_those_of_make() -> None:
    assert list(commands("ci.check").values()) == ["make check"]
    assert list(commands("ci.test").values()) == ["make test"]
    assert {"push", "pull_request"} == set(WORKFLOWS["ci"][TRIGGERS])


def test_every_python_that_the_project_supports_is_tested() -> None:
    supported = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert supported
    first, end = map(int, supported.groups())
    assert JOBS["ci.test"]["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(first, end)]


def test_retraining_is_scheduled_guarded_and_told_of() -> None:
    workflow, job = WORKFLOWS["retrain"], JOBS["retrain.retrain"]
    ((minute, *_),) = [entry["cron"].split() for entry in workflow[TRIGGERS]["schedule"]]
    assert int(minute) % 2, "at the full hour runs are late or left out"
    assert "modality" in workflow[TRIGGERS]["workflow_dispatch"]["inputs"]
    assert workflow["concurrency"] == {"group": "retrain", "cancel-in-progress": False}
    assert job["strategy"]["fail-fast"] is False
    assert "gpu" in job["runs-on"]
    conditions = {step.get("name"): step.get("if") for step in job["steps"]}
    assert conditions["report"] == "always()"
    assert conditions["open an issue"] == "failure()"


def test_one_retraining_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    (tmp_path / "kedro").write_text("#!/bin/sh\necho ran $3\nexec make RUN= MODALITIES=text retrain\n")
    (tmp_path / "kedro").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUN": "", "MODALITIES": "vision"}
    environment.pop("MAKEFLAGS", None)
    done = subprocess.run(
        ["make", "retrain"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.count("ran --pipelines=retrain_vision") == 1
    assert "another retraining is at work here" in done.stderr
    assert "retraining failed: vision" in done.stderr
    assert done.returncode


@pytest.mark.slow
def test_the_steps_of_a_retraining_run(tmp_path: Path) -> None:
    """All steps but the issue, as a runner does, on tiny recipes; the packages are those that are installed."""
    checkout = make_checkout(tmp_path)
    checkout.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    steps = commands("retrain.retrain")
    summary = tmp_path / "summary.md"
    settings = {"RUN": "", "MODALITIES": "vision", "GITHUB_STEP_SUMMARY": str(summary), "DVC_REMOTE": "store"}
    for name in ("set up", "pull the data", "retrain", "push the data", "report"):
        shell(checkout, steps[name], settings)
    assert "No report" not in summary.read_text()
    assert list((tmp_path / "store").rglob("*")), "nothing was pushed"
    checkout.commit()  # dvc.lock and the remote's name: what the next clone knows of the data
    clone = checkout.clone(tmp_path / "clone")
    shell(clone, steps["pull the data"], settings)
    assert (clone.folder / "data" / "02_intermediate" / "vision" / "glyphs" / "corpus.json").is_file()


def shell(checkout: Checkout, script: str, settings: dict[str, str]) -> None:
    """Run a step as a runner does; it must succeed."""
    tracking = checkout.environment["MLFLOW_TRACKING_URI"]
    checkout.run("bash", "-e", "-o", "pipefail", "-c", script, **settings | {"MLFLOW_TRACKING_URI": tracking})
