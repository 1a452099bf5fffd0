"""The real modality through the real engine: known losses, and a kill that leaves no trace."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from d2v.training.history import History
from tests.checkpoints import stored
from tests.conftest import ROOT
from tests.end_to_end.runs import RECIPES, make_prepared, train_tiny

KINDS = pytest.mark.parametrize("kind", list(RECIPES))
GOLDEN_LOSSES = {
    "data2vec2": [9.690747, 9.554993, 9.596145, 9.444209, 9.434105, 9.354966, 9.325009, 9.217472],
    "data2vec1": [0.361853, 0.313869, 0.311647, 0.286761, 0.256183, 0.228176, 0.231087, 0.228352],
}
"""Loss of the first updates in float32. They change when the algorithm, the data, the order, the augmentation, the
masks or the initialisation change: renew them only for a change that means to, and say so in the lab log."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An uninterrupted run of each kind."""
    runs = {}
    for kind in RECIPES:
        runs[kind] = tmp_path_factory.mktemp(kind)
        train_tiny(prepared, runs[kind], kind)
    return runs


def history(out: Path) -> list[dict[str, float]]:
    """Rows without wall times."""
    rows = History.read(out / "history.csv").rows
    return [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in rows]


@KINDS
def test_losses_are_the_known_ones(whole: dict[str, Path], kind: str) -> None:
    losses = [row["train/loss"] for row in history(whole[kind])]
    assert losses[:8] == pytest.approx(GOLDEN_LOSSES[kind], rel=1e-4)


@KINDS
def test_sigkill_and_the_same_command_end_in_the_same_bits(
    prepared: Path, whole: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """At a random update (another one in every run of the tests, and in the message if it fails)."""
    kill_at = random.randint(1, 11)
    command = [sys.executable, "-m", "tests.end_to_end.runs", str(prepared), str(tmp_path), str(kill_at), kind]
    killed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -9, killed.stderr.decode()
    result = train_tiny(prepared, tmp_path, kind)
    assert result.resumed_from == (kill_at - 1) // 4 * 4, kill_at
    assert history(tmp_path) == history(whole[kind]), kill_at
    last = "checkpoints/update-00000012"
    ours, theirs = (stored(out / last) for out in (tmp_path, whole[kind]))
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set(), kill_at
