"""Tiny documents for the contract of modalities: lines about animals, and lines about weather."""

import json
import random
from pathlib import Path

from tests.modalities.contract import Case

WORDS = {
    "animals": (("the cat", "a dog", "one owl"), ("sees", "follows", "hears"), ("the mouse", "a frog", "its shadow")),
    "weather": (("the rain", "a storm", "some fog"), ("reaches", "leaves"), ("the coast", "our hills", "the old town")),
}
ENCODER = {"vocab_size": 320, "max_tokens": 32, "width": 24, "depth": 2, "heads": 2}


def write_documents(folder: Path) -> None:
    """120 labelled documents of one to four lines, as JSON lines."""
    draw = random.Random(0)
    with (folder / "documents.jsonl").open("w") as file:
        for number in range(120):
            label = list(WORDS)[number % 2]
            lines = [
                " ".join(draw.choice(words) for words in WORDS[label]) + f" at {draw.randrange(99)}."
                for _ in range(draw.randint(1, 4))
            ]
            file.write(json.dumps({"text": "\n".join(lines), "label": label}) + "\n")


CASE = Case(
    write_source=write_documents,
    ingest={"test_fraction": 0.3},
    prepare={
        "vocab_size": 320,
        "block_tokens": 32,
        "packing": "documents",
        "probe": "labels",
        "probe_train_items": 20,
        "probe_test_items": 12,
        "probe_max_tokens": 32,
    },
    recipes={
        "data2vec2": {
            "objective": {
                "name": "data2vec2",
                "masks_per_sample": 3,
                "decoder": {"layers": 2, "width": 16, "kernel": 3, "groups": 1, "residual": False},
                "targets": {"top_k_layers": 2},
                "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10, "shared_local": True},
                "loss": {"scale": 1.0},
            },
            "encoder": ENCODER,
            "mask": {"kind": "random", "ratio": 0.48},
        },
        "data2vec1": {
            "objective": {
                "name": "data2vec1",
                "head": "mlp",
                "targets": {"top_k_layers": 2, "average_norms": ["layer"]},
                "ema": {"decay_start": 0.9, "decay_end": 0.99, "anneal_updates": 10, "copied": ["stem."]},
                "loss": {"beta": 4.0},
            },
            "encoder": ENCODER | {"layout": "data2vec1", "layer_drop": 0.1},
            "mask": {"kind": "span", "ratio": 0.35, "span": 3},
        },
        "mlm": {
            "objective": {"name": "mlm"},
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "random", "ratio": 0.15},
        },
        "bert": {
            "objective": {"name": "mlm", "select": "bert", "whole_words": True, "random_specials": True},
            "encoder": ENCODER | {"layout": "data2vec1"},
            "mask": {"kind": "random", "ratio": 0.15},
        },
    },
)
