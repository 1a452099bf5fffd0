"""Tiny series for the contract of modalities: CSV files of rising and falling lines."""

from pathlib import Path

import numpy as np

from tests.modalities.contract import Case

ENCODER = {"channels": 2, "patch_steps": 3, "max_steps": 90, "width": 16, "depth": 2, "heads": 2, "dropout": 0.1}
SHARED = {
    "targets": {"top_k_layers": 2},
    "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10},
}


def write_lines(folder: Path) -> None:
    """60 files in class folders."""
    for name, slope in {"falling": -0.05, "rising": 0.05}.items():
        (folder / name).mkdir()
        for number in range(30):
            random = np.random.default_rng([number, slope > 0])
            steps = np.arange(random.integers(45, 100))[:, None]
            values = slope * steps * random.uniform(0.5, 2.0, 2) + random.normal(0.0, 0.3, (len(steps), 2))
            np.savetxt(folder / name / f"{number:02d}.csv", values, delimiter=",", header="left,right", comments="")


CASE = Case(
    write_source=write_lines,
    ingest={"test_fraction": 0.3},
    prepare={"min_steps": 45, "probe_train_items": 30, "probe_test_items": 12},
    recipes={
        "data2vec2": {
            "objective": {
                "name": "data2vec2",
                "masks_per_sample": 3,
                "decoder": {"layers": 2, "width": 16, "kernel": 3, "groups": 1},
                **SHARED,
            },
            "encoder": ENCODER,
            "batch_size": None,
            "batch_budget": {"positions": 720, "multiple_of": 4},
        },
        "data2vec1": {"objective": {"name": "data2vec1", **SHARED}, "encoder": ENCODER},
    },
)
