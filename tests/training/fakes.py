"""A modality and an objective small enough to train in milliseconds, for tests of training itself."""

from __future__ import annotations

import copy
import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from d2v.config import EmaConfig, TrainConfig
from d2v.data.batch import Batch, SampleKeys
from d2v.data.random import STREAM_MASK, fold_in, uniform
from d2v.models.masking import Masks
from d2v.models.targets import mean_std
from d2v.objectives.base import LossOutput
from d2v.tracker import NullTracker, Tracker
from d2v.training.job import Job
from d2v.training.train import TrainResult, train

TOKENS, WIDTH = 6, 8


@dataclass
class FakeData:
    """Inputs that are functions of the sample id."""

    fingerprint: str = "abc"
    num_train: int = 40
    class_names: tuple[str, ...] = ()
    bad_sample: int | None = None

    def train_lengths(self, recipe: TrainConfig) -> None:
        return None

    def batch(self, keys: SampleKeys, recipe: TrainConfig) -> Batch:
        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        inputs = uniform(fold_in(recipe.seed, ids, epochs), TOKENS * WIDTH).view(-1, TOKENS, WIDTH) - 0.5
        if self.bad_sample is not None:
            inputs[ids == self.bad_sample] = float("nan")
        return Batch(inputs, ids, epochs, keys.update)


class FakeStem(nn.Linear):
    def num_tokens(self, inputs: Tensor) -> int:
        return inputs.shape[1]


class FakeEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = FakeStem(WIDTH, WIDTH)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(0.1)) for _ in range(2)
        )

    def token_lengths(self, lengths: Tensor | None) -> Tensor | None:
        return lengths

    def encode(
        self, x: Tensor, lengths: Any = None, masks: Any = None, activation: str | None = None
    ) -> SimpleNamespace:
        activations = []
        for block in self.blocks:
            x = x + block(x)
            activations.append(x)
        return SimpleNamespace(tokens=x, activations=activations)

    def features(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.encode(self.stem(inputs)).tokens.mean(dim=1)


class FakeTeacher(nn.Module):
    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(student).requires_grad_(False)

    def train(self, mode: bool = True) -> FakeTeacher:
        return super().train(False)

    @torch.no_grad()
    def update(self, student: nn.Module, decay: float) -> None:
        torch._foreach_lerp_(list(self.encoder.parameters()), list(student.parameters()), 1.0 - decay)


class FakeObjective(nn.Module):
    """Predict the teacher's features of hidden tokens; rows hide different numbers of tokens."""

    longest = TOKENS

    def __init__(self, ema: EmaConfig) -> None:
        super().__init__()
        self.student, self._ema = FakeEncoder(), ema
        self.teacher = FakeTeacher(self.student)
        self.head = nn.Linear(WIDTH, WIDTH)
        self.decays: list[float] = []

    def draw_masks(self, batch: Batch, seed: int, device: torch.device | str) -> Masks:
        draws = uniform(fold_in(seed, STREAM_MASK, batch.update, batch.sample_ids), TOKENS)
        is_masked = draws < 0.5
        is_masked[:, 0] = True
        return Masks.ragged(is_masked)

    def forward(self, batch: Batch, masks: Masks) -> LossOutput:
        with torch.no_grad():
            teacher = self.teacher.encoder
            target = teacher.encode(teacher.stem(batch.inputs)).tokens[masks.is_masked].float()
        visible = batch.inputs * ~masks.is_masked.unsqueeze(-1)
        visible = visible + visible.mean(dim=1, keepdim=True)  # context reaches the hidden tokens
        prediction = self.head(self.student.encode(self.student.stem(visible)).tokens)[masks.is_masked].float()
        statistics = {"target_std": mean_std(target), "pred_std": mean_std(prediction.detach())}
        return LossOutput((prediction - target).square().sum(), statistics)

    def part_of(self, name: str) -> str:
        return "all"

    def rate_of(self, part: str, update: int) -> float:
        return 1.0

    def teacher_decay(self, update: int) -> float:
        return self._ema.decay(update)

    def update_teacher(self, decay: float) -> None:
        self.decays.append(decay)
        self.teacher.update(self.student, decay)

    def flops_per_sample(self, tokens: int) -> dict[str, float]:
        return {"student": 1e3, "total": 1e3}


class Recorder(NullTracker):
    """Keeps metrics; can end the process, or ask it to, when an update is logged."""

    def __init__(self, signal_at: int | None = None, number: int = signal.SIGKILL) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self._signal_at, self._number = signal_at, number

    def log_metrics(self, metrics: dict[str, float], update: int) -> None:
        self.rows.append((update, metrics))
        if update == self._signal_at:
            os.kill(os.getpid(), self._number)


def build_fake_objective(recipe: TrainConfig) -> FakeObjective:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return FakeObjective(recipe.objective.ema)  # type: ignore[union-attr]


def make_recipe(**changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "objective": {
            "name": "data2vec2",
            "targets": {"top_k_layers": 1},
            "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10},
        },
        "optimizer": {"lr": 1e-2, "clip_norm": 0.5},
        "schedule": {"warmup_updates": 3},
        "batch_size": 8,
        "max_updates": 12,
        "seed": 5,
        "precision": "fp32",
        "log_every_updates": 2,
        "checkpoint": {"every_updates": 5, "keep": 2},
        "monitor": {"grace_updates": 10**6},
    }
    return TrainConfig.model_validate(values | changes)


def fake_job(recipe: TrainConfig, data: FakeData | None = None, **fields: Any) -> Job:
    """A job on the fakes."""
    return Job("fake.train", recipe, lambda: data or FakeData(), partial(build_fake_objective, recipe), **fields)  # type: ignore[arg-type,return-value]


def train_fake(
    out: Path, recipe: TrainConfig, data: FakeData | None = None, tracker: Tracker | None = None, **fields: Any
) -> TrainResult:
    """`train` on the fakes."""
    return train(fake_job(recipe, data, **fields), out, tracker)
