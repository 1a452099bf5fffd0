"""Corpora that are named, not pointed to: torchvision's data sets, and the embedded `glyphs` and `digits`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from d2v.config import parse
from d2v.data import fingerprint
from d2v.data.prepared import Corpus
from d2v.data.sources.layout import Wanted
from d2v.data.sources.named_datasets import dataset_source
from d2v.data.sources.row_sources import Split, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.modalities.vision import glyphs
from d2v.modalities.vision.reading import open_image


def torchvision_source(name: str, options: Mapping[str, Any], wanted: Wanted) -> Source:
    """A class of torchvision.datasets, downloaded when first used to `options.root` (data/01_raw/<Class>).

    Other options go to the class. All splits that it has are read, unless an option chooses one.

    Raises:
        ConfigError: no such class, or options it does not take.
        DataError: it could not be downloaded or read.
    """
    from torchvision import datasets  # imported late: seconds that other sources do not need

    usual = {"loader": _loaded}  # of folders of files; torchvision's own opens every format that Pillow knows
    return dataset_source(datasets, name, options, wanted, _torchvision_item, "CIFAR10", usual)


def _loaded(path: str) -> Image.Image:
    with open_image(path) as image:
        return image.convert("RGB")


def _torchvision_item(key: str, dataset: Any, row: int, names: Sequence[str] | None) -> Item:
    image, target = dataset[row]
    pixels = np.asarray(image if image.mode in ("L", "RGB", "I;16") else image.convert("RGB"))
    label = None
    if isinstance(target, int | np.integer) and target >= 0:  # STL10 says -1 for no label
        label = names[int(target)] if names and target < len(names) else str(target)
    return Item(key, pixels, label)


def embedded_source(name: str, options: Mapping[str, Any]) -> Source:
    """`glyphs` or `digits`: images made on this machine, a pure function of the options.

    Raises:
        ConfigError: options that the corpus does not have.
    """
    if name == "glyphs":
        chosen = parse(glyphs.GlyphOptions, options, at="vision.ingest.options")
        splits = [
            Split("train", chosen.count, functools.partial(_glyph_items, chosen, "train", chosen.count)),
            Split("test", chosen.test_count, functools.partial(_glyph_items, chosen, "test", chosen.test_count)),
        ]
        return source_of_splits("glyphs", fingerprint.of_values([name, chosen.model_dump()]), splits, chosen.characters)
    small = parse(glyphs.DigitOptions, options, at="vision.ingest.options")
    splits = [_digit_split(small, "train"), _digit_split(small, "test")]
    return source_of_splits("digits", fingerprint.of_values([name, small.model_dump()]), splits, "0123456789")


def _glyph_items(options: glyphs.GlyphOptions, split: glyphs.Split, count: int, start: int) -> Iterator[Item]:
    for first in range(start, count, glyphs.CHUNK_IMAGES):
        stop = min(first + glyphs.CHUNK_IMAGES, count)
        labels = glyphs.glyph_labels(options, first, stop)
        for row, image in enumerate(glyphs.draw_glyphs(options, split, first, stop)):
            yield Item(f"{split}/{first + row:06d}", image, options.characters[labels[row]])


def captions(corpus: Corpus) -> list[str | None]:
    """A caption of each image of a corpus of `glyphs`. They are made from the corpus's options and the names of its
    images, so corpora of earlier versions have them too."""
    options = parse(glyphs.GlyphOptions, corpus.about["parameters"]["options"], at="vision.ingest.options")
    counts: dict[glyphs.Split, int] = {"train": options.count, "test": options.test_count}
    known: dict[str, str] = {}
    for split, count in counts.items():
        for start in range(0, count, glyphs.CHUNK_IMAGES):
            said = glyphs.glyph_captions(options, split, start, min(start + glyphs.CHUNK_IMAGES, count))
            known |= {f"{split}/{start + row:06d}": caption for row, caption in enumerate(said)}
    return [known.get(key) for key in corpus.column("key")]


def _digit_split(options: glyphs.DigitOptions, split: glyphs.Split) -> Split:
    images, labels, names = glyphs.digit_arrays(options, split)

    def items(start: int) -> Iterator[Item]:
        for row in range(start, len(images)):
            yield Item(f"{split}/{row:06d}", images[row], names[labels[row]])

    return Split(split, len(images), items)
