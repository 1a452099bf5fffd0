"""A growing folder of small pictures, and a recipe that learns them in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from d2v.config import parse
from d2v.lifecycle.retraining import Plan, RetrainingFolders, retrain
from d2v.lifecycle.retraining_report import RetrainingRun
from d2v.modalities import registry
from d2v.tracker import NullTracker, Tracker

SIDE_PX = 16
CLASSES = ("bars", "dots", "rings", "waves")

RECIPE: dict[str, Any] = {
    "ingest": {"source": "set in each test"},
    "prepare": {"store_px": SIDE_PX, "probe_train_images": 200, "probe_test_images": 200},
    "train": {
        "objective": {
            "name": "data2vec2",
            "masks_per_sample": 2,
            "decoder": {"layers": 1, "width": 16, "groups": 1},
            "targets": {"top_k_layers": 1},
            "ema": {"decay_start": 0.99, "decay_end": 0.999, "anneal_updates": 10},
        },
        "encoder": {"image_px": SIDE_PX, "patch_px": 4, "width": 32, "depth": 1, "heads": 2},
        "mask": {"kind": "block", "ratio": 0.5, "block": 2},
        "augment": {"crop_scale": [0.9, 1.0], "flip": 0.0},
        "optimizer": {"lr": 1.0e-3},
        "precision": "fp32",
        "batch_size": 16,
        "max_updates": 16,
        "monitor": {"grace_updates": 1000},
    },
    "evaluate": {"bootstrap_resamples": 100, "linear_l2": [0.01], "neighbour_queries": 2, "picture_items": 2},
    "finetune": {
        "task": {"name": "classification"},
        "augment": {"crop_scale": [0.9, 1.0], "flip": 0.0},
        "optimizer": {"lr": 3.0e-3},
        "schedule": {"warmup_updates": 5},
        "precision": "fp32",
        "batch_size": 16,
        "max_updates": 150,
        "bootstrap_resamples": 100,
    },
    "promote": {
        "min_gain_over_random": None,
        "min_rank": 1.0,
        "max_class_drop": 0.5,
        "tolerance": 0.1,
        "max_latency_factor": 20.0,
        "latency_calls": 5,
        "bootstrap_resamples": 500,
    },
    "retrain": {"updates_share": 0.5, "drift": {"items": 60, "permutations": 99}},
}


def picture(kind: str, seed: int) -> np.ndarray:
    """(side, side, 3) uint8: a faint pattern of its class in noise."""
    patterns = np.random.default_rng(7).normal(size=(len(CLASSES), 4, 4, 3))
    pattern = np.kron(patterns[CLASSES.index(kind)], np.ones((4, 4, 1)))
    noise = np.random.default_rng(seed).normal(size=(SIDE_PX, SIDE_PX, 3))
    return np.clip(128 + 14 * pattern + 40 * noise, 0, 255).astype(np.uint8)


def add_pictures(source: Path, part: str, count: int, first: int, shift: int = 0) -> None:
    """Write pictures `first` to `first + count` of a part, each class in its folder; with `shift`, in a wrong one."""
    for number in range(first, first + count):
        kind = number % len(CLASSES)
        folder = source / part / CLASSES[(kind + shift) % len(CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        seed = number + (1_000_000 if part == "test" else 0)
        Image.fromarray(picture(CLASSES[kind], seed)).save(folder / f"{number:05d}.png")


def retrain_once(source: Path, root: Path, tracker: Tracker | None = None, **changes: Any) -> RetrainingRun:
    """Ingest and retrain, as the pipeline does, with some keys of the retrain block changed."""
    vision = registry.get("vision")
    blocks = {"ingest": {"source": str(source)}, "retrain": RECIPE["retrain"] | changes}
    recipe = parse(vision.recipe, RECIPE | blocks)
    vision.ingest(recipe.ingest, root / "corpus")  # type: ignore[attr-defined]
    folders = (root / name for name in ("corpus", "prepared", "work", "promotion", "retraining"))
    return retrain(vision, Plan.of(recipe), RetrainingFolders(*folders), tracker or NullTracker())
