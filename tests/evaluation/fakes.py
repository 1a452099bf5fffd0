"""Prepared data and a vision modality that need no files, for tests of evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2v import model_folder as folder
from d2v.config import EvaluateConfig, TrainConfig
from d2v.data.batch import Inputs
from d2v.modalities.base import Modality, ProbeSet
from d2v.modalities.vision.modality import Vision
from d2v.objectives.build import build_objective
from d2v.tracker import NullTracker
from d2v.training import resume
from d2v.training.history import History
from tests.objectives.helpers import recipe as small_recipe

SIDE_PX = 16
CONFIG = EvaluateConfig(bootstrap_resamples=200, linear_l2=(1e-2,), picture_items=6, neighbour_queries=4)


def stripes(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 16, 16) noisy gratings and their (count,) labels: the class is the direction, so that no pixel tells
    it alone."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    angle = (labels / classes * torch.pi)[:, None, None]
    phase = (torch.rand(count, generator=generator) * 6.3)[:, None, None]
    y, x = torch.meshgrid(torch.arange(SIDE_PX), torch.arange(SIDE_PX), indexing="ij")
    waves = torch.sin((x * angle.cos() + y * angle.sin()) * 1.5 + phase)
    noise = torch.randn(count, 3, SIDE_PX, SIDE_PX, generator=generator)
    return waves[:, None].expand(-1, 3, -1, -1) + 0.3 * noise, labels


@dataclass
class FakeData:
    """Stripes with labels of `classes` classes; `labelled` is "all", "none" or "one" (all the same)."""

    labelled: str = "all"
    train_items: int = 150
    test_items: int = 60
    fingerprint: str = "abc"
    num_train: int = 150
    class_names: tuple[str, ...] = ("flat", "steep", "upright")
    calls: list[str] = field(default_factory=list)

    def probe_set(self, recipe: TrainConfig) -> ProbeSet:
        self.calls.append("probe_set")
        train, train_labels = stripes(self.train_items, 3, seed=1)
        test, test_labels = stripes(self.test_items, 3, seed=2)
        if self.labelled != "all":
            value = -1 if self.labelled == "none" else 0
            train_labels, test_labels = torch.full_like(train_labels, value), torch.full_like(test_labels, value)
        return ProbeSet(Inputs(train), train_labels, Inputs(test), test_labels, self.class_names)


class FakeVision(Vision):
    """Vision, with `data` in place of files."""

    def __init__(self, data: FakeData) -> None:
        self.data = data

    def open(self, folder: Path) -> Any:
        return self.data

    def describe(self, data: Any) -> dict[str, object]:
        return {}

    def to_images(self, inputs: Inputs, data: Any) -> np.ndarray:
        return ((inputs.values * 0.25 + 0.5).clamp(0, 1) * 255).byte().permute(0, 2, 3, 1).numpy()


def modality(data: FakeData) -> Modality:
    return FakeVision(data)


class Recorder(NullTracker):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.files: list[str] = []

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        self.rows.append((update, metrics))

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.files.append(f"{folder}/{path.name}")


def make_run(run_folder: Path, data: FakeData, recipe: TrainConfig | None = None, noise: float = 0.02) -> TrainConfig:
    """A run folder as training leaves it; its encoder is the first one with a little noise on the weights."""
    recipe = recipe or small_recipe()
    objective = build_objective(modality(data), recipe)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in objective.student.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    folder.save_encoder(run_folder / "encoder", objective, "vision", recipe)
    history = History()
    for update in (1, 3, 5):
        row = {"train/loss": 1.0 / update, "train/lr": 1e-3, "train/target_std": 0.5, "train/pred_std": 0.1 * update}
        probes = {"online/knn": 0.4, "online/linear": 0.5, "online/rank": 5.0} if update == 5 else {}
        history.add(update, row | probes, run_folder / "history.csv")
    write_result(run_folder, recipe)
    return recipe


def write_result(run_folder: Path, recipe: TrainConfig) -> None:
    content = {
        "updates": recipe.max_updates,
        "samples": recipe.max_updates * recipe.batch_size,
        "flops": 1.5e9,
        "recipe": resume.shaping(recipe),
        "data_fingerprint": "abc",
        "precision": "fp32",
        "seconds": 12.5,
        "metrics": {"perf/samples_per_s": 321.0},
    }
    (run_folder / resume.RESULT).write_text(json.dumps(content))
