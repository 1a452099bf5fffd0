"""The recipe of a folder of images: their size and the hardware choose the encoder, labels choose the task."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2v.modalities.suggestion import Hardware, Suggestion, Survey

SMALL_PX, MIDDLE_PX, LARGE_PX = 40, 120, 200
MANY_IMAGES = 200_000


def suggest(survey: Survey, hardware: Hardware) -> Suggestion:
    """Sizes, encoder and task of a recipe; see `Modality.suggest`."""
    side = int(np.median(np.minimum(survey.facts["width"], survey.facts["height"])))
    image_px, patch_px, why = _size(side, hardware)
    encoder, lr, batch = _encoder(survey, hardware, image_px)
    sizes = {"image_px": image_px, "patch_px": patch_px, **encoder}
    train: dict[str, Any] = {
        "objective": {
            "decoder": {"width": encoder["width"] // 2},
            "targets": {"top_k_layers": encoder["depth"]},
            "ema": {"decay_end": 0.9998 if hardware.is_gpu else 0.999, "anneal_updates": 0.5},
            "cls_loss": 0.01 if hardware.is_gpu else 0.0,
        },
        "encoder": sizes,
        "mask": {"ratio": 0.8 if hardware.is_gpu else 0.7},
        "augment": {"crop_scale": [0.2, 1.0] if hardware.is_gpu else [0.4, 1.0], "flip": 0.5},
        "optimizer": {"lr": lr},
        "schedule": {"warmup_updates": 0.05},
        "batch_size": batch,
    }
    changes: dict[str, Any] = {"prepare": {"store_px": image_px}, "train": train}
    if survey.can_classify:
        changes["finetune"] = {
            "augment": {"crop_scale": [0.4, 1.0], "flip": 0.5},
            "optimizer": {"lr": 1.0e-3 if hardware.is_gpu else 2.0e-3},
        }
    reasons = {
        "prepare.store_px": "side of the stored squares; at least train.encoder.image_px",
        "train.encoder": f"{why}; {_words(hardware)}",
        "train.augment.flip": "0.0 where a mirrored image is another thing, such as a letter",
        "train.optimizer.lr": "of short trainings of an encoder of this width",
    }
    return Suggestion(changes, reasons)


def _size(side: int, hardware: Hardware) -> tuple[int, int, str]:
    """(side of the encoder's images, side of a patch, why)."""
    seen = f"images are {side} px across (median of the shorter side)"
    if side <= SMALL_PX:
        return 32, 4, seen
    if not hardware.is_gpu or side <= MIDDLE_PX:
        return 64, 8, seen
    return (128, 16, seen) if side < LARGE_PX else (224, 16, seen)


def _encoder(survey: Survey, hardware: Hardware, image_px: int) -> tuple[dict[str, int], float, int]:
    """(width, depth and heads; learning rate; images in a batch)."""
    if not hardware.is_gpu:
        return {"width": 128, "depth": 4, "heads": 4}, 8.0e-3 if image_px == 32 else 4.0e-3, 32
    if survey.items < MANY_IMAGES:
        return {"width": 384, "depth": 8, "heads": 6}, 1.0e-3, 256
    return {"width": 768, "depth": 10, "heads": 12}, 1.0e-3, 512


def _words(hardware: Hardware) -> str:
    return "a GPU takes a wide encoder" if hardware.is_gpu else "a CPU takes a small encoder"
