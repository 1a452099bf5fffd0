"""Encoders that onnxruntime computes, in float32 and with weights of eight bits."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import d2v
from d2v.cli import app
from d2v.errors import ConfigError
from d2v.interchange import onnx_session
from tests.interchange import encoders
from tests.interchange.test_load import ITEMS, PHOTO, close, model_of, tuned

SOME = ["vision", pytest.param("speech", marks=pytest.mark.slow), "text"]  # to build a graph of recordings takes long


@pytest.mark.parametrize("modality", SOME)
def test_features_are_those_of_torch(tmp_path: Path, modality: str) -> None:
    right, items = model_of(tmp_path, modality), ITEMS[modality]
    model = d2v.load(tmp_path / modality, runtime="onnxruntime")
    close(model.encode(items), right.encode(items), 2e-5)
    for found, tokens in zip(model.encode(items, pool="none"), right.encode(items, pool="none"), strict=True):
        close(found, tokens, 2e-5)
    close(model.encode(items, pool="first"), right.encode(items, pool="first"), 2e-5)
    with pytest.raises(ConfigError, match="leave layers out"):
        model.encode(items, layers=[0])


@pytest.mark.parametrize("modality", SOME)
def test_weights_of_eight_bits_are_near(tmp_path: Path, modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    right = model_of(tmp_path, modality).encode(ITEMS[modality])
    found = d2v.load(tmp_path / modality, runtime="onnxruntime", dtype="int8").encode(ITEMS[modality])
    error = np.linalg.norm(found - right) / np.linalg.norm(right)
    assert 1e-6 < error < 0.05
    assert logging.getLogger().handlers == []  # logging is the program's


def test_a_head_gets_the_same_features(tmp_path: Path) -> None:
    right = tuned(tmp_path / "a", "vision", {"name": "classification"})
    model = d2v.load(tmp_path / "a", runtime="onnxruntime")
    close(model.outputs([PHOTO]), right.outputs([PHOTO]), 2e-5)


def test_what_it_cannot_do_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = encoders.save(tmp_path / "vision", "vision", 2)
    with pytest.raises(ConfigError, match="torch, onnxruntime"):
        d2v.load(saved, runtime="tensorrt")
    with pytest.raises(ConfigError, match="give runtime onnxruntime"):
        d2v.load(saved, dtype="int8")
    with pytest.raises(ConfigError, match="float32 and int8, not bfloat16"):
        d2v.load(saved, runtime="onnxruntime", dtype="bfloat16")
    with pytest.raises(ConfigError, match="give device cpu"):
        d2v.load(saved, runtime="onnxruntime", device="meta")
    monkeypatch.setattr(onnx_session, "PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package, not installed here: pip install 'd2v\[interchange\]'"):
        d2v.load(saved, runtime="onnxruntime")


def test_the_command_has_both_options(tmp_path: Path) -> None:
    saved = encoders.save(tmp_path / "vision", "vision", 2)
    options = ["encode", "none.png", "--model", str(saved), "--out", str(tmp_path / "o.parquet"), "--dtype", "int8"]
    result = CliRunner().invoke(app, options)
    assert isinstance(result.exception, ConfigError) or result.exit_code != 0
    assert "onnxruntime" in f"{result.exception}{result.output}"
