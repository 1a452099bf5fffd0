"""The recipe of a corpus of texts: their number and length choose vocabulary and blocks, labels the task."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2v.modalities.suggestion import Hardware, Suggestion, Survey

CHARACTERS_PER_TOKEN = 3.5
FEW, SOME = 500_000, 3_000_000
"""Characters below which a vocabulary is small, or of middle size."""
LARGE = 50_000_000


def suggest(survey: Survey, hardware: Hardware) -> Suggestion:
    """Vocabulary, lengths, encoder and task of a recipe; see `Modality.suggest`."""
    characters = survey.facts["characters"]
    whole = float(characters.mean()) * survey.items
    vocab = 2000 if whole < FEW else 4000 if whole < SOME else 8000
    long_tokens = float(np.quantile(characters, 0.98)) / CHARACTERS_PER_TOKEN
    block = 512 if hardware.is_gpu and whole > LARGE else 128 if hardware.is_gpu or long_tokens > 64 else 64
    blocks = max(1.0, whole / CHARACTERS_PER_TOKEN / block)
    sizes = {"width": 384, "depth": 8, "heads": 6} if hardware.is_gpu else {"width": 128, "depth": 4, "heads": 4}
    train: dict[str, Any] = {
        "objective": {
            "decoder": {"layers": 2, "width": sizes["width"] // 2},
            "targets": {"top_k_layers": sizes["depth"]},
            "ema": {"decay_end": 0.9998 if hardware.is_gpu else 0.999, "anneal_updates": 0.5},
        },
        "encoder": {"vocab_size": vocab, "max_tokens": block, **sizes, "dropout": 0.0, "embedding_dropout": 0.0},
        "optimizer": {"lr": 1.0e-3 if hardware.is_gpu else 4.0e-3},
        "schedule": {"warmup_updates": 0.05},
        "batch_size": int(2 ** np.clip(np.floor(np.log2(blocks / 4)), 1, 7 if hardware.is_gpu else 5)),
    }
    prepare = {"vocab_size": vocab, "block_tokens": block, "probe_max_tokens": min(block, 64)}
    changes: dict[str, Any] = {"prepare": prepare, "train": train}
    if survey.can_classify:
        changes["finetune"] = {"optimizer": {"lr": 3.0e-4 if hardware.is_gpu else 5.0e-4}}
    reasons = {
        "prepare.vocab_size": f"{whole / 1e6:.1f} million characters; the encoder's vocab_size is the same",
        "prepare.block_tokens": f"98% of the texts have about {long_tokens:.0f} tokens or fewer",
        "train.encoder": "a GPU takes a wide encoder" if hardware.is_gpu else "a CPU takes a small encoder",
        "train.batch_size": f"there are about {blocks:,.0f} blocks",
    }
    return Suggestion(changes, reasons)
