"""Tiny encoders of every modality and layout, as model folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d2v.config import parse
from d2v.finetuning.tasks.build_task import restore_task
from d2v.interchange.imported import FinetunedHead, Imported, save_imported
from d2v.interchange.importing import ImportedModel
from d2v.interchange.load import _TaskBlock, from_imported
from d2v.modalities import registry
from d2v.model_folder import load_encoder
from d2v.models.encoder import Encoder

SIZES = {"width": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}
ENCODERS: dict[str, dict[str, Any]] = {
    "vision": {"image_px": 24, "patch_px": 8, "norm_eps": 1e-6},
    "speech": {"convs": [[8, 10, 5], [12, 3, 2]], "position_layers": 2, "position_kernel": 5, "position_groups": 4},
    "text": {"vocab_size": 300, "max_tokens": 40},
}
MASKS = {
    ("vision", 2): "block",
    ("vision", 1): "beit",
    ("speech", 2): "block",
    ("speech", 1): "span",
    ("text", 2): "random",
    ("text", 1): "span",
}
ABOUT: dict[str, dict[str, Any]] = {
    "vision": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
    "speech": {"rate_hz": 16_000},
    "text": {},
}
ALL = [("vision", 2), ("speech", 2), ("text", 2), ("vision", 1), ("speech", 1), ("text", 1)]
"""(modality, version of data2vec)."""

every = pytest.mark.parametrize(("modality", "version"), ALL)


def recipe(modality: str, version: int, **encoder: Any) -> dict[str, Any]:
    layout = "data2vec2" if version == 2 else "beit" if modality == "vision" else "data2vec1"
    extra = {"prenet_depth": 1} if version == 2 and modality != "text" else {}
    extra |= {"layer_scale_init": 0.1} if layout == "beit" else {}
    ema = {"decay_start": 0.9, "decay_end": 0.9}
    return {
        "encoder": {**SIZES, **ENCODERS[modality], "layout": layout, **extra, **encoder},
        "mask": {"kind": MASKS[modality, version]},
        "objective": {"name": f"data2vec{version}", "targets": {"top_k_layers": 1}, "ema": ema},
        "optimizer": {"lr": 1e-3},
        "batch_size": 2,
        "max_updates": 1,
    }


def build(modality: str, version: int, **encoder: Any) -> Imported:
    """An encoder with no parameter at a special value, such as a norm's ones and zeros."""
    torch.manual_seed(0)
    parsed = parse(registry.get(modality).train_config, recipe(modality, version, **encoder))
    state = registry.get(modality).build_encoder(parsed).state_dict()
    state = {name: value + 0.2 * torch.randn_like(value) for name, value in state.items()}
    return Imported(modality, parsed, state, about=ABOUT[modality])


def save(folder: Path, modality: str, version: int, about: dict[str, Any] | None = None, **encoder: Any) -> Path:
    imported = build(modality, version, **encoder)
    save_imported(folder, dataclasses.replace(imported, about=imported.about | (about or {})), "a test")
    return folder


def loaded(folder: Path) -> Encoder:
    return load_encoder(folder)[0]


def inputs(modality: str, items: int = 3, positions: int = 23) -> tuple[Tensor, Tensor | None]:
    """(inputs of the last item's full length, lengths)."""
    generator = torch.Generator().manual_seed(items)
    if modality == "vision":
        return torch.randn(items, 3, 24, 24, generator=generator), None
    if modality == "speech":
        positions = 20 * positions + 3  # odd, and some frames
    lengths = torch.linspace(positions * 0.6, positions, items).long()
    lengths[-1] = positions
    if modality == "speech":
        values = torch.randn(items, positions, generator=generator)
        return values.masked_fill(torch.arange(positions) >= lengths[:, None], 0.0), lengths
    values = torch.randint(4, 300, (items, positions), generator=generator)
    return values.masked_fill(torch.arange(positions) >= lengths[:, None], 1), lengths


def differences(encoder: Encoder, ours: Tensor, theirs: Tensor, lengths: Tensor | None) -> float:
    """Largest absolute difference at tokens that are not padding, over the largest magnitude there."""
    assert ours.shape == theirs.shape
    token_lengths = encoder.token_lengths(lengths)
    if token_lengths is not None:
        keep = torch.arange(ours.shape[1]) < token_lengths[:, None]
        ours, theirs = ours[keep], theirs[keep]
    return float((ours - theirs).abs().max() / ours.abs().max())


def save_finetuned(
    folder: Path,
    modality: str,
    version: int,
    task: dict[str, Any],
    about: dict[str, Any] | None = None,
    plain: dict[str, Any] | None = None,
    **encoder: Any,
) -> Path:
    """A fine-tuned model whose head has no parameter at a special value.

    Args:
        folder: new.
        modality: registry name.
        version: of data2vec.
        task: the task's block.
        about: what the task says of itself; three classes unless told.
        plain: further plain values of config.json.
        encoder: changes of the encoder's settings.
    """
    about = {"class_names": ["a", "b", "c"]} if about is None else about
    imported = build(modality, version, **encoder)
    model = from_imported(ImportedModel(imported, None), "a test").encoder
    head = restore_task(parse(_TaskBlock, {"task": task}).task, about).make_head(model)
    state = {name: value + 0.3 * torch.randn_like(value) for name, value in head.state_dict().items()}
    imported = dataclasses.replace(imported, about=imported.about | (plain or {}))
    save_imported(folder, imported, "a test", FinetunedHead(task, about, state, frozenset()))
    return folder
