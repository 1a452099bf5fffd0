"""Which large packages a command does not import. How long that takes depends on the machine and is in
docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from d2v.config import read_recipe
from d2v.data.ingest import CORPUS
from d2v.modalities.registry import MODALITIES, get
from pipelines.recipes import parse_all
from tests.conftest import ROOT

ENCODER = ROOT / "tests" / "compatibility" / "version_before" / "vision" / "finished" / "encoder"
D2V = ("-c", "from d2v.cli import run; run()")
KEDRO = ("-m", "kedro")


def imported_by(arguments: tuple[str, ...], environment: dict[str, str], status: int = 0) -> set[str]:
    """Packages that Python imports while it runs these arguments."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_a_list_of_pipelines_needs_neither_torch_nor_mlflow(scratch_environment: dict[str, str]) -> None:
    imported = imported_by((*KEDRO, "registry", "list"), scratch_environment)
    assert {"kedro", "pipelines", "d2v"} <= imported
    assert not sorted(
        imported & {"torch", "mlflow", "kedro_mlflow", "numpy", "pandas", "pyarrow", "sqlalchemy", "scipy"}
    )


def test_a_mistake_in_the_command_line_does_not_wait_for_mlflow(scratch_environment: dict[str, str]) -> None:
    imported = imported_by((*KEDRO, "run", "--pipeline=pretrain_visio"), scratch_environment, status=2)
    assert "kedro" in imported
    assert not sorted(imported & {"torch", "mlflow", "numpy", "pandas", "sqlalchemy"})


def test_an_ingest_with_nothing_to_do_does_not_need_torch(scratch_environment: dict[str, str]) -> None:
    recipe = read_recipe(ROOT / "conf", "base", "vision")
    recipe["ingest"]["options"] |= {"count": 64, "test_count": 32}
    corpus = Path(scratch_environment["D2V_DATA"]) / "02_intermediate" / "vision" / "glyphs"
    get("vision").ingest(parse_all({"vision": recipe})["vision"].ingest, corpus)
    written = (corpus / CORPUS).stat().st_mtime_ns
    small = "vision.ingest.options.count=64,vision.ingest.options.test_count=32"
    imported = imported_by((*KEDRO, "run", "--pipelines=ingest_vision", "--params", small), scratch_environment)
    assert (corpus / CORPUS).stat().st_mtime_ns == written
    assert {"mlflow", "pyarrow", "PIL"} <= imported
    ipython = {"prompt_toolkit", "jedi"}  # what it imports: the name itself stands there for an import that failed, too
    assert not sorted(
        imported
        & {"torch", "torchvision", "deepspeed", "sklearn", "matplotlib", "transformers", "distributed", *ipython}
    )


def test_no_modality_needs_torch_before_it_computes(scratch_environment: dict[str, str]) -> None:
    asked = f"from d2v.modalities.registry import get; [get(name).name for name in {list(MODALITIES)}]"
    imported = imported_by(("-c", asked), scratch_environment)
    assert "pyarrow" in imported
    assert not sorted(imported & {"torch", "torchvision", "torchaudio", "mlflow", "pandas", "scipy", "sklearn"})


def test_help_needs_nothing_large(scratch_environment: dict[str, str]) -> None:
    imported = imported_by((*D2V, "--help"), scratch_environment)
    assert "typer" in imported
    assert not sorted(imported & {"torch", "mlflow", "numpy", "pandas", "pydantic", "pyarrow"})


def test_encoding_needs_torch_and_no_tracking(scratch_environment: dict[str, str], tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "black.png")
    asked = ("encode", str(tmp_path / "black.png"), "--model", str(ENCODER), "--out", str(tmp_path / "out.parquet"))
    imported = imported_by((*D2V, *asked), scratch_environment)
    assert "torch" in imported
    needless = {"mlflow", "kedro", "deepspeed", "sqlalchemy", "omegaconf", "transformers", "sklearn", "scipy"}
    assert not sorted(imported & (needless | {"torchvision", "torchaudio", "tokenizers", "matplotlib"}))


@pytest.mark.slow
def test_the_commands_of_kedro_mlflow_are_there(scratch_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "kedro", "mlflow", "--help"]
    done = subprocess.run(
        command, cwd=ROOT, env=scratch_environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("init", "ui", "modelify"))
    assert "Warning" not in done.stderr
