"""The cases: for each kind of model input its files, and the recipe that reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.input.files import write_images, write_recordings, write_texts
from d2v.modalities.speech.annotations import AUDIO_SUFFIXES
from d2v.modalities.text.tokenizer import train_tokenizer
from d2v.modalities.vision.sources import IMAGE_SUFFIXES

VOCABULARY = 8_000

_TINY = {"width": 32, "depth": 2, "heads": 2}
_BLOCKS = {"kind": "block", "ratio": 0.8}


@dataclass(frozen=True)
class Case:
    """A kind of input.

    Attributes:
        modality: whose code reads it.
        suffixes: of the files that are read.
        write: (folder, items, seed) -> None, makes files.
        share: files for each of the items that the command is asked for.
        prepare: the recipe's prepare block.
        train: its train block as far as loading depends on it; no model is built.
        tokenizer: texts of some files -> JSON of a tokenizer, trained beforehand; None where nothing is tokenised.
    """

    modality: str
    suffixes: Collection[str]
    write: Callable[[Path, int, int], None]
    share: float
    prepare: dict[str, Any]
    train: dict[str, Any]
    tokenizer: Callable[[Sequence[str]], str] | None = None


def _train_tokenizer(texts: Sequence[str]) -> str:
    return train_tokenizer(texts, VOCABULARY).to_json()


CASES = {
    "vision_32": Case(
        modality="vision",
        suffixes=IMAGE_SUFFIXES,
        write=partial(write_images, width=32, height=32, form="PNG"),
        share=4.0,
        prepare={"store_px": 32},
        train={"encoder": _TINY | {"image_px": 32, "patch_px": 4}, "mask": _BLOCKS, "batch_size": 32},
    ),
    "vision_224": Case(
        modality="vision",
        suffixes=IMAGE_SUFFIXES,
        write=partial(write_images, width=341, height=256, form="JPEG"),
        share=1.0,
        prepare={"store_px": 256, "storage": "jpeg"},
        train={"encoder": _TINY | {"image_px": 224, "patch_px": 16}, "mask": _BLOCKS, "batch_size": 8},
    ),
    "speech_4s": Case(
        modality="speech",
        suffixes=AUDIO_SUFFIXES,
        write=write_recordings,
        share=0.25,
        prepare={"min_seconds": 4.0},
        train={"encoder": _TINY, "mask": {"kind": "block"}, "augment": {"max_seconds": 4.0}, "batch_size": 4},
    ),
    "text_128": Case(
        modality="text",
        suffixes=(".txt",),
        write=write_texts,
        share=1.0,
        prepare={"block_tokens": 128},
        train={
            "encoder": _TINY | {"vocab_size": VOCABULARY, "max_tokens": 128},
            "mask": {"kind": "random"},
            "batch_size": 16,
        },
        tokenizer=_train_tokenizer,
    ),
}
"""By name. Images have the size of the store, so that a peer does not decode more pixels than we do."""
