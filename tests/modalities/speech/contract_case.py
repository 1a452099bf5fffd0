"""Tiny recordings for the contract of modalities: tones of a third to half a second, low and high."""

import wave
from pathlib import Path

import numpy as np

from tests.modalities.contract import Case

RATE_HZ = 16_000
CLASSES_HZ = {"high": 1800.0, "low": 250.0}
ENCODER = {
    "convs": [[16, 10, 5], [16, 8, 5], [16, 8, 8]],  # 80 frames a second
    "width": 24,
    "depth": 2,
    "heads": 2,
    "position_layers": 2,
    "position_kernel": 5,
    "position_groups": 4,
}


def write_tones(folder: Path) -> None:
    """48 recordings in class folders, each with its own pitch, length and noise."""
    for name, pitch_hz in CLASSES_HZ.items():
        (folder / name).mkdir()
        for number in range(24):
            random = np.random.default_rng([number, int(pitch_hz)])
            time_s = np.arange(int(RATE_HZ * random.uniform(0.33, 0.5))) / RATE_HZ
            tone = np.sin(2 * np.pi * pitch_hz * random.uniform(0.8, 1.2) * time_s) + random.normal(0, 0.2, len(time_s))
            with wave.open(str(folder / name / f"{number:02d}.wav"), "wb") as file:
                file.setparams((1, 2, RATE_HZ, len(tone), "NONE", ""))
                file.writeframes((8000 * tone).astype("<i2").tobytes())


CASE = Case(
    write_source=write_tones,
    ingest={"test_fraction": 0.3},
    prepare={
        "min_seconds": 0.3,
        "probe_train_items": 20,
        "probe_test_items": 8,
        "probe_max_seconds": 0.45,
        "codebook": {"codes": 6, "share": 1.0, "passes": 2, "batch_frames": 400},
    },
    recipes={
        "data2vec2": {
            "objective": {
                "name": "data2vec2",
                "masks_per_sample": 3,
                "decoder": {"layers": 2, "width": 16, "kernel": 3, "groups": 1},
                "targets": {"top_k_layers": 2},
                "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10, "shared_local": True},
            },
            "encoder": ENCODER | {"layer_drop": 0.1},
            "mask": {"kind": "block", "ratio": 0.5, "block": 3},
            "augment": {"max_seconds": 0.5},
            "batch_size": None,
            "batch_budget": {"positions": 8 * 8000, "multiple_of": 4},
        },
        "data2vec1": {
            "objective": {
                "name": "data2vec1",
                "targets": {"top_k_layers": 2},
                "ema": {
                    "decay_start": 0.9,
                    "decay_end": 0.99,
                    "anneal_updates": 10,
                    "shared_local": True,
                    "copied": ["stem.positions."],
                },
            },
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "span", "ratio": 0.65, "span": 5},
            "augment": {"max_seconds": 0.45},
        },
        "maskfeat": {
            "objective": {"name": "maskfeat"},
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "span", "ratio": 0.65, "span": 5},
            "augment": {"max_seconds": 0.5},
            "descriptors": {"mels": 10},
        },
        "wav2vec2": {
            "objective": {
                "name": "wav2vec2",
                "quantizer": {"groups": 2, "entries": 8, "width": 16},
                "projection_width": 16,
                "distractors": 10,
            },
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "span", "ratio": 0.65, "span": 5},
            "augment": {"max_seconds": 0.5},
        },
        "hubert": {
            "objective": {"name": "hubert", "codes": 6, "projection_width": 16},
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "span", "ratio": 0.65, "span": 5},
            "augment": {"max_seconds": 0.5},
        },
    },
)
