"""`kedro run --pipeline=pretrain_text` ends in a table that shows what text learned. Minutes, so marked slow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment_in

pytestmark = pytest.mark.slow
CLEAR_MARGIN = 0.3
BAG_OF_WORDS = 0.5  # it holds the same words in both sentences


def test_the_pretrained_encoder_knows_about_order(tmp_path: Path) -> None:
    environment = environment_in(tmp_path)
    command = [sys.executable, "-m", "kedro", "run", "--pipeline=pretrain_text"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=5400, check=False)
    assert done.returncode == 0, done.stderr
    report = Path(environment["D2V_DATA"]) / "08_reporting" / "text" / "pydocs"
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["probe/forced_choice"] - metrics["probe/forced_choice_random"] >= CLEAR_MARGIN
    assert metrics["probe/forced_choice"] - BAG_OF_WORDS >= CLEAR_MARGIN
    assert metrics["probe/forced_choice_gain_over_random_low"] > 0.0
    assert "forced choice" in done.stdout + done.stderr
    assert "positions alone" not in done.stdout + done.stderr
    assert "forced choice" in (report / "model_card.md").read_text()
