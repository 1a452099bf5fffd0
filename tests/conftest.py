"""What many tests use: real data and reference numbers where they are, and commands in a scratch place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core: more threads would wait for one another

pytest.register_assert_rewrite("tests.modalities.contract", "tests.interchange.parity")

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("D2V_SHARED", ROOT.parent / "shared"))

LONGEST = ("distributed", "lifecycle", "end_to_end", "comparison", "tracking", "dvc", "test_notebooks.py")
"""Files and folders whose tests take longest. They come first, so that no worker ends with one of them on its own."""

Command = Callable[..., subprocess.CompletedProcess[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first. Tests of a file stay together and in their order."""
    items.sort(key=lambda item: set(LONGEST).isdisjoint(item.path.parts))


def _shared(part: str) -> Path:
    folder = SHARED / part
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: set D2V_SHARED to the folder that holds {part}/ to run this test")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files behind URLs are kept with the tests' own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2V_CACHE", str(tmp_path_factory.mktemp("d2v-cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets: vision/, speech/, text/."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_goldens() -> Path:
    """Numbers computed by the reference implementation."""
    return _shared("goldens")


@pytest.fixture
def scratch_environment(tmp_path: Path) -> dict[str, str]:
    """Environment variables that put a command's data and MLflow store under tmp_path."""
    return environment_in(tmp_path)


def environment_in(folder: Path) -> dict[str, str]:
    """Environment variables that put a command's data and MLflow store under a folder."""
    return {
        **os.environ,
        "D2V_DATA": str(folder / "data"),
        "D2V_ARTIFACTS": str(folder / "artifacts"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }


@pytest.fixture
def kedro(scratch_environment: dict[str, str]) -> Command:
    """Run `kedro` in the project, as a user does, with its data and tracking in a scratch place."""

    def call(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=ROOT,
            env=scratch_environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return call
