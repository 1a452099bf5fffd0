"""Folds: a model for each fold, trained on all others and tested on it, and the mean of their metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from d2v.config import FinetuneConfig, TrainConfig, parse
from d2v.finetuning.evaluation import evaluate_finetuned
from d2v.finetuning.finetune import Setting
from d2v.finetuning.model import MODEL
from d2v.modalities.base import Modality
from d2v.model_folder import read_config
from d2v.progress import log
from d2v.tracker import NullTracker, Tracker


def finetune_folds(
    modality: Modality,
    config: FinetuneConfig,
    pretraining: TrainConfig,
    prepared: Path,
    start: Path | None,
    out: Path,
    tracker: Tracker | None = None,
) -> list[str]:
    """Tune an encoder once for each fold of `finetune.folds`, on the items of all other folds, and leave a run folder
    each in `out/folds`. Arguments and errors as of `finetune`; those that are finished stay.

    Returns:
        The names of the folds; none if the recipe asks for none.
    """
    setting = Setting(modality, config, pretraining, prepared, start)
    for number, name in enumerate(setting.folds, start=1):
        log(f"finetune: fold {name}, {number} of {len(setting.folds)}")
        with (tracker or NullTracker()).child(f"fold {name}", {"modality": modality.name, "stage": "fold"}) as child:
            dataclasses.replace(setting, fold=name).train(fold_folder(out, name), child)
    return setting.folds


def fold_folder(out: Path, name: str) -> Path:
    """The folder of a fold below that of the whole run, or of its report."""
    return out / "folds" / plain(name)


def plain(name: str) -> str:
    """A fold's name in letters that folders and metrics may have."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)


def evaluate_folds(
    modality: Modality, config: FinetuneConfig, prepared: Path, run_folder: Path, out: Path, tracker: Tracker
) -> dict[str, float]:
    """Measure the model of every fold on the items of that fold, with a report each in `out/folds`.

    Args:
        modality, config, prepared: as of `evaluate_finetuned`.
        run_folder: folder that fine-tuning left, with a folder a fold in `folds/`.
        out: report folder of the whole run.
        tracker: gets the metrics of each fold below its own run.

    Returns:
        `folds/<metric>_mean` and `_std` (over folds), and `folds/count`; empty if the recipe asks for no folds.
    """
    measured = {}
    for name in Setting(modality, config, _encoder_recipe(modality, run_folder), prepared, run_folder / MODEL).folds:
        with tracker.child(f"fold {name}", {"modality": modality.name, "stage": "fold"}) as child:
            folders = fold_folder(run_folder, name), fold_folder(out, name)
            measured[name] = evaluate_finetuned(modality, config, prepared, *folders, child, fold=name)
    if not measured:
        return {}
    names = [key for key in next(iter(measured.values())) if all(f"{key}_low" in one for one in measured.values())]
    means: dict[str, float] = {"folds/count": len(measured)}
    for key in names:
        metric, values = key.removeprefix("eval/"), [one[key] for one in measured.values()]
        means |= {f"folds/{metric}_mean": float(np.mean(values)), f"folds/{metric}_std": float(np.std(values, ddof=1))}
        means |= {f"folds/{metric}/{plain(name)}": value for name, value in zip(measured, values, strict=True)}
    return means


def _encoder_recipe(modality: Modality, run_folder: Path) -> TrainConfig:
    recipe: TrainConfig = parse(modality.train_config, read_config(run_folder / MODEL)["recipe"], at="recipe")
    return recipe
