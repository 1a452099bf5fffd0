"""The recipe of a folder of recordings: their lengths choose crops and batches, labels and transcripts the task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from d2v.modalities.speech.config import RATE_HZ
from d2v.modalities.suggestion import Hardware, Suggestion, Survey

LONGEST_CROP_S = {False: 4.0, True: 15.6}
BATCH_S = {False: 32.0, True: 1000.0}
"""Whether there is a GPU -> seconds."""
CROP_STEP = {False: 0.05, True: 0.0}
"""Likewise, the share of the longest crop that crops are a multiple of."""
SMALL = {
    "convs": [[32, 10, 5], [32, 3, 2], [32, 3, 2], [64, 3, 2], [64, 3, 2], [128, 2, 2], [128, 2, 2]],
    "tap_spread": 0.3,
    "width": 128,
    "depth": 4,
    "heads": 4,
    "position_layers": 2,
}
MIDDLE = {
    "convs": [[128, 10, 5], [128, 3, 2], [128, 3, 2], [256, 3, 2], [256, 3, 2], [384, 2, 2], [384, 2, 2]],
    "width": 384,
    "depth": 8,
    "heads": 6,
}


def suggest(survey: Survey, hardware: Hardware) -> Suggestion:
    """Lengths, encoder and task of a recipe; see `Modality.suggest`."""
    seconds = survey.facts["samples"] / survey.facts["rate_hz"]
    short_s, typical_s, long_s = (float(one) for one in np.quantile(seconds, (0.02, 0.5, 0.98)))
    crop_s = max(0.5, min(LONGEST_CROP_S[hardware.is_gpu], math.ceil(2.0 * long_s) / 2.0))
    unit = 8 if hardware.is_gpu else 4
    batch_s = max(BATCH_S[hardware.is_gpu], unit * crop_s)
    encoder = MIDDLE if hardware.is_gpu else SMALL
    train: dict[str, Any] = {
        "objective": {
            "decoder": {"width": 192 if hardware.is_gpu else 64},
            "targets": {"top_k_layers": encoder["depth"]},
            "ema": {"decay_end": 0.9998 if hardware.is_gpu else 0.999, "anneal_updates": 0.6},
        },
        "encoder": encoder,
        "augment": {"max_seconds": crop_s},
        "optimizer": {"lr": 5.0e-4 if hardware.is_gpu else 1.5e-3},
        "schedule": {"warmup_updates": 0.08},
        "batch_budget": {
            "positions": int(batch_s * RATE_HZ),
            "multiple_of": unit,
            "crop_multiple": round(CROP_STEP[hardware.is_gpu] * crop_s * RATE_HZ) or 1,
        },
    }
    prepare = {
        "min_seconds": round(max(0.1, min(1.0, 0.9 * short_s)), 2),
        "probe_max_seconds": max(1.0, min(8.0, crop_s)),
    }
    changes: dict[str, Any] = {"prepare": prepare, "train": train}
    if survey.can_classify:
        changes["finetune"] = {"optimizer": {"lr": 5.0e-4 if hardware.is_gpu else 1.0e-3}}
        if long_s > 2.0 * crop_s:
            changes["finetune"]["augment"] = {"crop_seconds": crop_s}
    reasons = {
        "prepare.min_seconds": f"98% of the recordings are longer; half are of {typical_s:.1f} s and more",
        "train.encoder": "a GPU takes a wide encoder" if hardware.is_gpu else "a CPU takes a small encoder",
        "train.augment.max_seconds": f"longest crop; 98% of the recordings are no longer than {long_s:.1f} s",
        "train.batch_budget.positions": f"samples of an update: {batch_s:g} s at {RATE_HZ} Hz",
    }
    if not hardware.is_gpu:
        reasons["train.batch_budget.crop_multiple"] = "few lengths, as a CPU compiles kernels for each"
    return Suggestion(changes, reasons)
