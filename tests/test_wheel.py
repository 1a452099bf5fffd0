"""The wheel, installed without a checkout: commands, recipes, and a training in a project that it makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.planning.conftest import reviews  # noqa: F401  (a fixture)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's contents alone; what it depends on is this environment's."""
    folder = tmp_path_factory.mktemp("wheel")
    built = _run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(folder / "dist"), str(ROOT)])
    if built.returncode and "hatchling" in built.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    target = folder / "site"
    done = _run([sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(target), str(wheel)])
    assert done.returncode == 0, done.stderr
    return target


def _run(command: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, **more)  # type: ignore[call-overload]


def d2v(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The installed command, outside the checkout."""
    names = ("D2V_DATA", "D2V_ARTIFACTS", "MLFLOW_TRACKING_URI")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    return _run([str(site / "bin" / "d2v"), *arguments], cwd=folder, env=environment | {"PYTHONPATH": str(site)})


def test_its_own_modules_are_used(site: Path, tmp_path: Path) -> None:
    shown = _run(
        [sys.executable, "-c", "import d2v, pipelines; print(d2v.__file__, pipelines.__file__)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert all(Path(file).is_relative_to(site) for file in shown.stdout.split()), shown


def test_help_lists_the_commands(site: Path, tmp_path: Path) -> None:
    done = d2v(site, tmp_path, "--help")
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_a_source_that_is_not_there_makes_no_project(site: Path, tmp_path: Path) -> None:
    done = d2v(site, tmp_path, "train", "nowhere", "--yes")
    assert done.returncode == 3
    assert "nowhere" in done.stderr
    assert not list(tmp_path.iterdir())


def test_training_makes_a_project_that_kedro_runs(site: Path, tmp_path: Path, reviews: Path) -> None:  # noqa: F811
    done = d2v(site, tmp_path, "train", str(reviews), "--epochs", "1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "d2v_project"
    assert f"made one in {project}" in done.stdout
    assert (project / "data/08_reporting/text_tuned/reviews-reviews/report.html").is_file()
    assert (project / "mlflow.db").is_file()
    assert "usage data" not in done.stderr
    again = _run(
        [sys.executable, "-m", "kedro", "run", "--env=reviews"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert again.returncode == 0, again.stderr
    assert "is finished" in again.stderr + again.stdout
