"""How many of oneDNN's kernels a training keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import d2v
from d2v.training.kernels import keep_kernels_of

COMES_BACK = """
import sys
import d2v
import torch
from d2v.training.kernels import keep_kernels_of

keep_kernels_of([(20, length) for length in range(int(sys.argv[1]))])
with torch.no_grad():
    for tokens in [*range(1, 301), 1]:
        torch.nn.functional.conv2d(torch.zeros(2, 16, 16, 4 + tokens), torch.zeros(16, 16, 3, 3))
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")
@pytest.mark.parametrize(("shapes", "compiled"), [("2", 301), ("12", 300)])
def test_a_training_with_some_shapes_keeps_more_kernels(shapes: str, compiled: int) -> None:
    """The first of 300 convolutions, which need two or three kernels each, comes back."""
    unset = {d2v.KERNELS, d2v.KERNELS_CHOSEN}
    told = {name: value for name, value in os.environ.items() if name not in unset}
    told |= {"ONEDNN_VERBOSE": "profile_create"}
    command = [sys.executable, "-c", COMES_BACK, shapes]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    assert done.stdout.count("create:cache_miss,cpu,convolution") == compiled


@pytest.mark.parametrize(("shapes", "kept"), [(1, "512"), (5, "512"), (6, "1024"), (20, "1024"), (21, "512")])
def test_more_kernels_are_kept_where_shapes_come_back(shapes: int, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(d2v.KERNELS, d2v.FEW_KERNELS)
    monkeypatch.setenv(d2v.KERNELS_CHOSEN, "1")
    keep_kernels_of([(4, length) for length in range(shapes)] * 3)
    assert os.environ[d2v.KERNELS] == kept


@pytest.mark.parametrize(("number", "was_chosen"), [("512", False), ("300", True)])
def test_the_users_number_of_kernels_stays(number: str, was_chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was there before `import d2v`, or came afterwards."""
    monkeypatch.setenv(d2v.KERNELS, number)
    monkeypatch.delenv(d2v.KERNELS_CHOSEN, raising=False)
    if was_chosen:
        monkeypatch.setenv(d2v.KERNELS_CHOSEN, "1")
    keep_kernels_of(range(12))
    assert os.environ[d2v.KERNELS] == number
