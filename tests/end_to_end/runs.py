"""A tiny training of the real vision modality. Run as a script it kills itself: prepared out update kind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from d2v.config import parse
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionIngestConfig, VisionPrepareConfig, VisionTrainConfig
from d2v.tracker import NullTracker
from d2v.training.train import TrainResult, train
from tests.objectives.helpers import SMALL, SMALL_V1
from tests.training.jobs import plain_job

RUN = {
    "precision": "fp32",
    "batch_size": 8,
    "max_updates": 12,
    "log_every_updates": 1,
    "checkpoint": {"every_updates": 4},
    "schedule": {"warmup_updates": 3},
    "optimizer": {"lr": 1e-3},
}
RECIPES = {
    "data2vec2": SMALL | RUN,
    "data2vec1": SMALL_V1 | RUN | {"encoder": SMALL_V1["encoder"] | {"drop_path": 0.2, "attention_dropout": 0.1}},
}


def make_prepared(folder: Path) -> Path:
    """120 small glyphs, ingested and prepared."""
    vision = registry.get("vision")
    options = {"count": 100, "test_count": 20, "px": 16, "characters": "ABCD"}
    vision.ingest(VisionIngestConfig(source="glyphs", options=options), folder / "corpus")
    prepare = VisionPrepareConfig(store_px=16, probe_train_images=40, probe_test_images=20)
    vision.prepare(prepare, folder / "corpus", folder / "prepared")
    return folder / "prepared"


class KillsItself(NullTracker):
    """SIGKILL as soon as an update is logged."""

    def __init__(self, at: int | None) -> None:
        self._at = at

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        if update == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def train_tiny(prepared: Path, out: Path, kind: str, kill_at: int | None = None) -> TrainResult:
    """Train on one thread, which makes sums come in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recipe = parse(VisionTrainConfig, RECIPES[kind])
        return train(plain_job(registry.get("vision"), recipe, prepared), out, KillsItself(kill_at))
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    train_tiny(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4], int(sys.argv[3]))
