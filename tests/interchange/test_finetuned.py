"""The reference's fine-tuned files: their encoder is the pretrained one's, whose numbers the parity tests check, and
their head is kept apart. The files are made of the pretrained goldens, in the layouts that the reference saves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d2v.errors import CheckpointError
from d2v.interchange.fairseq import import_fairseq
from d2v.interchange.imported import load_head, save_imported

pytestmark = pytest.mark.goldens

DECODERS = (".decoder.", "final_proj.", "regression_head.")
"""What fine-tuning removes."""


def pretrained(goldens: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(the golden's parameters without its teacher and what only pretraining needs, its settings)."""
    content = torch.load(goldens / f"{name}.fairseq.pt", weights_only=True)
    model = {name: value for name, value in content["model"].items() if isinstance(value, Tensor)}
    return {name: value for name, value in model.items() if not any(part in name for part in DECODERS)}, content["cfg"]


def linear(width: int = 32, classes: int = 5) -> dict[str, Tensor]:
    return {"weight": torch.randn(classes, width), "bias": torch.randn(classes)}


def named(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


NORM = {"weight": torch.rand(32), "bias": torch.rand(32)}
LAYOUTS = {
    "v1 CTC": ("v1_audio", "w2v_encoder.w2v_model", "w2v_args", named("w2v_encoder.proj", linear())),
    "v2 CTC": ("v2_audio", "w2v_encoder.w2v_model", "w2v_args", named("w2v_encoder.proj", linear())),
    "v1 AudioSet": ("v1_audio", "d2v_model", "d2v_args", named("proj", linear())),
    "v2 ImageNet": ("v2_image", "model", "pretrained_model_args", named("fc_norm", NORM) | named("head", linear())),
    "v2 GLUE": (
        "v2_text",
        "model",
        "pretrained_model_args",
        named("classification_heads.mnli.dense", linear(32, 32))
        | named("classification_heads.mnli.out_proj", linear()),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_encoder_and_head_of_nested_layouts(shared_goldens, tmp_path, layout):
    name, prefix, settings, head = LAYOUTS[layout]
    model, config = pretrained(shared_goldens, name)
    content = {"model": named(prefix, model) | head, "cfg": {"model": {"dropout": 0.7, settings: config}}}
    torch.save(content, tmp_path / "finetuned.pt")
    check(shared_goldens, tmp_path, name, head, mask_token="v1" in layout)


def check(goldens: Path, tmp_path: Path, name: str, head: dict[str, Tensor], mask_token: bool = False) -> None:
    """The imported encoder and its settings are the pretrained ones, and the head is the given one."""
    expected, imported = (import_fairseq(p) for p in (goldens / f"{name}.fairseq.pt", tmp_path / "finetuned.pt"))
    assert imported.recipe.encoder == expected.recipe.encoder
    assert imported.encoder.keys() == expected.encoder.keys()
    assert all(torch.equal(value, expected.encoder[key]) for key, value in imported.encoder.items())
    assert imported.teacher == {}
    save_imported(tmp_path / "encoder", imported, name)
    assert not (tmp_path / "encoder" / "teacher.safetensors").exists()
    kept = load_head(tmp_path / "encoder")
    assert set(kept) == set(head) | ({"mask_token"} if mask_token else set())
    assert all(torch.equal(kept[key], value) for key, value in head.items())


def test_text_classifier_of_data2vec1(shared_goldens, tmp_path):
    model, config = pretrained(shared_goldens, "v1_text")
    head = named("classification_heads.rte.dense", linear(32, 32)) | named(
        "classification_heads.rte.out_proj", linear()
    )
    torch.save({"model": model | head, "cfg": config}, tmp_path / "finetuned.pt")
    check(shared_goldens, tmp_path, "v1_text", head, mask_token=True)


def test_settings_of_pretraining_may_be_a_namespace(shared_goldens, tmp_path):
    model, config = pretrained(shared_goldens, "v1_audio")
    flat = argparse.Namespace(**{**config["model"], "dropout": 0.25})
    content = {"model": named("w2v_encoder.w2v_model", model), "cfg": {"model": {"w2v_args": flat}}}
    torch.save(content, tmp_path / "finetuned.pt")
    assert import_fairseq(tmp_path / "finetuned.pt").recipe.encoder.dropout == 0.25


def test_without_settings_it_is_said_what_was_assumed(shared_goldens, tmp_path):
    model, _ = pretrained(shared_goldens, "v2_audio")
    torch.save({"model": named("w2v_encoder.w2v_model", model)}, tmp_path / "finetuned.pt")
    (note,) = import_fairseq(tmp_path / "finetuned.pt").notes
    assert "heads and strides are the published ones" in note


def test_a_misfit_names_every_key(shared_goldens, tmp_path):
    model, config = pretrained(shared_goldens, "v2_image")
    del model["blocks.1.norm2.weight"]
    model["blocks.0.surprise"] = torch.zeros(2)
    content = {"model": named("model", model), "cfg": {"model": {"pretrained_model_args": config}}}
    torch.save(content, tmp_path / "finetuned.pt")
    with pytest.raises(CheckpointError) as error:
        save_imported(tmp_path / "encoder", import_fairseq(tmp_path / "finetuned.pt"), "finetuned.pt")
    assert "missing blocks.1.norm2.weight" in str(error.value)
    assert "unexpected blocks.0.surprise" in str(error.value)


# ------------------------------------------------------------------------------------------- pretrained


@pytest.mark.parametrize("name", ["v1_audio", "v1_text", "v1_image", "v2_audio", "v2_text", "v2_image"])
def test_a_pretrained_file_brings_teacher_and_decoder(shared_goldens, tmp_path, name):
    imported = import_fairseq(shared_goldens / f"{name}.fairseq.pt")
    assert imported.teacher.keys() == imported.encoder.keys()
    assert any(not torch.equal(value, imported.encoder[key]) for key, value in imported.teacher.items())
    assert imported.head
    assert not any(key.startswith(("student.", "teacher.")) for key in imported.head)
    save_imported(tmp_path, imported, name)
    assert set(load_head(tmp_path)) == set(imported.head)


@pytest.mark.parametrize("name", ["v1_text", "v1_image"])
def test_what_is_not_used_is_named(shared_goldens, name):
    stored = torch.load(shared_goldens / f"{name}.fairseq.pt", weights_only=True)["model"]
    unused = import_fairseq(shared_goldens / f"{name}.fairseq.pt").unused
    assert unused
    assert set(unused) < set(stored)


def test_keys_of_old_files(shared_goldens, tmp_path):
    """4-D ALiBi scales, learned mask vectors, shared decoders; for images the older name of the positions."""
    for name, kind in (("v2_audio", "AUDIO"), ("v2_image", "IMAGE")):
        content = torch.load(shared_goldens / f"{name}.fairseq.pt", weights_only=True)
        model, prefix = content["model"], f"modality_encoders.{kind}."
        old = {f"{prefix}encoder_mask": torch.zeros(32), "shared_decoder.proj.weight": torch.zeros(2, 2)}
        old |= {"recon_proj.weight": torch.zeros(2, 2)}
        if name == "v2_audio":
            model[f"{prefix}alibi_scale"] = model[f"{prefix}alibi_scale"].squeeze(0)
        else:
            model[f"{prefix}positional_encoder.pos_embed"] = model.pop(f"{prefix}fixed_positional_encoder.positions")
        torch.save(content | {"model": model | old}, tmp_path / f"{name}.pt")
        expected, imported = (
            import_fairseq(shared_goldens / f"{name}.fairseq.pt"),
            import_fairseq(tmp_path / f"{name}.pt"),
        )
        assert set(imported.unused) == set(old)
        assert all(torch.equal(value, imported.encoder[key]) for key, value in expected.encoder.items())
