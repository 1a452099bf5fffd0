"""Tiny images for the contract of modalities."""

from tests.modalities.contract import Case
from tests.objectives.helpers import SMALL, SMALL_BEIT, SMALL_MAE, SMALL_MASKFEAT, SMALL_V1

AUGMENT = {"flip": 0.5, "colour_jitter": 0.2}

DROPOUT = {"attention_dropout": 0.1, "drop_path": 0.1}


def recipe(values: dict) -> dict:
    """The parts that tests of the objectives have too, with augmentation and dropout."""
    encoder = values["encoder"] | DROPOUT
    own = {key: value for key, value in values.items() if key in ("objective", "mask", "descriptors", "codebook")}
    return own | {"encoder": encoder, "augment": AUGMENT}


CASE = Case(
    recipes={
        "data2vec2": recipe(SMALL),
        "data2vec1": recipe(SMALL_V1),
        "mae": recipe(SMALL_MAE),
        "maskfeat": recipe(SMALL_MASKFEAT),
        "beit": recipe(SMALL_BEIT),
    },
    ingest={
        "source": "glyphs",
        "options": {"count": 80, "test_count": 20, "px": 16, "characters": "ABCD"},
    },
    prepare={
        "store_px": 16,
        "probe_train_images": 40,
        "probe_test_images": 20,
        "codebook": SMALL_BEIT["codebook"] | {"updates": 5, "batch_size": 8},
    },
)
