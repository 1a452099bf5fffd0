"""Pretraining that starts from an encoder: its weights, whole, and errors that say what does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2v.config import RetrainConfig, parse
from d2v.errors import CheckpointError, ConfigError
from d2v.lifecycle.retraining import continued
from d2v.modalities import registry
from d2v.modalities.vision.config import VisionTrainConfig
from d2v.pretraining.pretrain import build_from, pretrain
from d2v.tracking.models import find_start
from d2v.tracking.versions import Version
from tests.end_to_end.runs import make_prepared
from tests.lifecycle.retrainings import RECIPE

VISION = registry.get("vision")
TRAIN = RECIPE["train"] | {"max_updates": 3}


def recipe(**changes: Any) -> VisionTrainConfig:
    return parse(VisionTrainConfig, TRAIN | changes)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def encoder(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(VISION, recipe(), prepared, tmp_path_factory.mktemp("run")).encoder


def test_student_teacher_and_decoder_are_taken_over(encoder: Path) -> None:
    state = build_from(encoder, VISION, recipe(seed=5)).state_dict()
    for file, prefix in (("encoder", "student."), ("teacher", "teacher.encoder."), ("decoder", "")):
        for name, value in load_file(encoder / f"{file}.safetensors").items():
            assert torch.equal(state[prefix + name], value), name
    assert (encoder / "decoder.safetensors").stat().st_size > 1000


def test_another_decoder_starts_at_random(encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    objective = TRAIN["objective"] | {"decoder": {"layers": 2, "width": 16, "groups": 1}}
    built = build_from(encoder, VISION, recipe(objective=objective))
    stored = load_file(encoder / "encoder.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in built.student.state_dict().items())
    assert "start at random" in capsys.readouterr().err


def test_another_size_is_refused_by_its_weights(encoder: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit the model"):
        build_from(encoder, VISION, recipe(encoder=TRAIN["encoder"] | {"depth": 2}))


def test_other_weights_are_another_run(encoder: Path, prepared: Path, tmp_path: Path) -> None:
    pretrain(VISION, recipe(start=str(encoder)), prepared, tmp_path / "run", start=encoder)
    first = json.loads((tmp_path / "run" / "result.json").read_text())
    again = pretrain(VISION, recipe(start=str(encoder)), prepared, tmp_path / "run", start=encoder)
    assert again.resumed_from == 3
    shutil.copytree(tmp_path / "run" / "encoder", tmp_path / "other")
    pretrain(VISION, recipe(start=str(encoder)), prepared, tmp_path / "run", start=tmp_path / "other")
    second = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (tmp_path / "run" / "previous" / "1" / "encoder").is_dir()
    assert first["data_fingerprint"] != second["data_fingerprint"]
    assert first["data_fingerprint"].partition("+")[0] == second["data_fingerprint"].partition("+")[0]


def test_a_start_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert find_start(None) is None
    assert find_start(str(tmp_path)) == tmp_path
    with pytest.raises(CheckpointError, match=r"train\.start 'nowhere' is not a folder: give .* or null"):
        find_start("nowhere")


def test_going_on_is_shorter_slower_and_keeps_the_teacher() -> None:
    long = recipe(max_updates=1000, optimizer={"lr": 1e-2}, schedule={"warmup_updates": 100})
    shares = RetrainConfig(updates_share=0.2, warmup_share=0.1, lr_share=0.5, changes={"batch_size": 32})
    short = continued(long, shares, Version("d2v-vision", 4))
    assert (short.max_updates, short.schedule.warmup_updates, short.optimizer.lr) == (200, 20, 5e-3)
    assert (short.objective.ema.decay_start, short.start) == (long.objective.ema.decay_end, "models:/d2v-vision/4")
    assert (short.batch_size, short.seed) == (32, long.seed + 4)
    with pytest.raises(ConfigError, match=r"retrain\.changes"):
        continued(long, RetrainConfig(changes={"btch_size": 1}), Version("d2v-vision", 4))
