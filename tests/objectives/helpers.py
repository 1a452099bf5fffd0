"""Small vision recipes and batches for tests of the objectives."""

import torch

from d2v.config import parse
from d2v.data.batch import Batch
from d2v.modalities.vision.config import VisionTrainConfig
from d2v.objectives.base import Objective

SMALL = {
    "encoder": {"image_px": 16, "patch_px": 4, "width": 32, "depth": 2, "heads": 2},
    "mask": {"kind": "block", "ratio": 0.75, "adjust": 0.07, "block": 2},
    "objective": {
        "name": "data2vec2",
        "masks_per_sample": 3,
        "decoder": {"layers": 1, "width": 16, "kernel": 3, "groups": 1},
        "targets": {"top_k_layers": 2, "average_norms": ["layer"]},
        "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10},
        "cls_loss": 0.5,
    },
    "optimizer": {"lr": 1e-3},
    "batch_size": 4,
    "max_updates": 5,
}
SMALL_V1 = SMALL | {
    "encoder": SMALL["encoder"] | {"layout": "beit", "layer_scale_init": 0.1},
    "mask": {"kind": "beit", "ratio": 0.5, "min_patches": 2},
    "objective": {
        "name": "data2vec1",
        "targets": {"top_k_layers": 2, "activation": "end_of_block", "layer_norms": ["layer"]},
        "ema": {"decay_start": 0.9, "decay_end": 0.9},
        "loss": {"beta": 2.0, "scale": "inverse_width"},
    },
}
SMALL_MAE = SMALL | {
    "mask": {"kind": "block", "ratio": 0.75, "adjust": 0.0, "block": 1},
    "objective": {"name": "mae", "decoder": {"layers": 1, "width": 16, "heads": 2}},
}
SMALL_MASKFEAT = SMALL | {
    "encoder": SMALL["encoder"] | {"layout": "vit", "final_norm": False},
    "mask": {"kind": "beit", "ratio": 0.4, "min_patches": 2},
    "objective": {"name": "maskfeat"},
    "descriptors": {"cell_px": 2},
}
SMALL_BEIT = SMALL | {
    "encoder": SMALL_V1["encoder"],
    "mask": {"kind": "beit", "ratio": 0.4, "min_patches": 2},
    "objective": {"name": "beit"},
    "codebook": {"codes": 12, "width": 6, "hidden": 4, "layers": 2},
}


def recipe(values: dict = SMALL) -> VisionTrainConfig:
    return parse(VisionTrainConfig, values)


def batch(samples: int = 4, first: int = 0, update: int = 0) -> Batch:
    ids = torch.arange(first, first + samples)
    inputs = torch.stack([torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(int(i))) for i in ids])
    return Batch(inputs, ids, torch.zeros_like(ids), update)


def targets_of(objective: Objective, whole: Batch) -> torch.Tensor:
    """What the student must predict, at every token."""
    local = objective.teacher_local(whole.inputs, objective.student.stem(whole.inputs))
    return objective.targets(local, objective.student.token_lengths(whole.lengths))


def give_targets(objective: Objective, targets: torch.Tensor) -> None:
    """Let the student learn these, (B, T, D), whatever the teacher makes."""
    objective.targets = lambda local, lengths: targets
    objective.targets_of = lambda some, local, lengths: some.of(targets)


def select(whole: Batch, rows: slice) -> Batch:
    return Batch(whole.inputs[rows], whole.sample_ids[rows], whole.epochs[rows], whole.update)
