"""The README's first command does what the README says. Minutes long, so marked slow."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import Command

PICTURES = ("curves.png", "masks.png", "pca.png", "neighbours.png")


@pytest.mark.slow
def test_pretraining_beats_random_weights_and_pixels(
    kedro: Command, scratch_environment: dict[str, str], tmp_path: Path
) -> None:
    del scratch_environment["OMP_NUM_THREADS"]
    done = kedro("run", "--pipeline=pretrain_vision", timeout_s=3600)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    report = tmp_path / "data" / "08_reporting" / "vision" / "glyphs"
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["probe/linear"] - metrics["probe/linear_random"] >= 0.15
    assert metrics["probe/linear_low"] > metrics["probe/linear_random_high"]
    assert metrics["probe/linear_low"] > metrics["probe/linear_baseline_high"]
    for words in ("pretrained", "random", "pixels"):
        assert words in (done.stdout + done.stderr).lower()
    assert all((report / name).stat().st_size > 10_000 for name in PICTURES)
    client = MlflowClient(scratch_environment["MLFLOW_TRACKING_URI"])
    challenger = client.get_model_version_by_alias("d2v-vision", "challenger")
    logged = client.get_run(challenger.run_id).data.metrics
    assert logged["probe/linear"] == pytest.approx(metrics["probe/linear"])
    assert {"train/loss", "train/target_std", "perf/samples_per_s"} <= logged.keys()
