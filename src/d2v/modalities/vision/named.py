"""Corpora that are named, not pointed to: torchvision's data sets, and the embedded `glyphs` and `digits`."""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from d2v.config import parse
from d2v.data.items import Item, Source
from d2v.errors import ConfigError, DataError
from d2v.modalities.vision import glyphs
from d2v.modalities.vision.arrays import Part, parts_source


def torchvision_source(name: str, options: Mapping[str, Any]) -> Source:
    """A class of torchvision.datasets, downloaded when first used to `options.root` (data/01_raw/<Class>).

    Other options go to the class. All splits that it has are read, unless an option chooses one.

    Raises:
        ConfigError: no such class, or options it does not take.
        DataError: it could not be downloaded or read.
    """
    from torchvision import datasets  # imported late: seconds that other sources do not need

    if name not in datasets.__all__:
        near = difflib.get_close_matches(name, datasets.__all__, n=3, cutoff=0.4)
        raise ConfigError(
            f"torchvision.datasets has no {name}; {'near: ' + ', '.join(near) if near else 'see its documentation'}. "
            "Set vision.ingest.source to torchvision:<Class>, for example torchvision:CIFAR10."
        )
    build = getattr(datasets, name)
    taken = _parameters(build)
    defaults = {"root": f"data/01_raw/{name}", "download": True}
    arguments = {**{key: value for key, value in defaults.items() if key in taken}, **options}
    sets = [
        (split, dataset)
        for split, chosen in _torchvision_splits(taken, options)
        if (dataset := _instance(build, {**arguments, **chosen}, optional="split" in chosen)) is not None
    ]
    if not sets:
        raise ConfigError(f"torchvision:{name} has no split train, val or test: set vision.ingest.options.split.")
    classes = getattr(sets[0][1], "classes", None)
    names = [one if isinstance(one, str) else str(one[0]) for one in classes] if classes else None
    parts = [Part(split, len(one), functools.partial(_torchvision_items, one, split, names)) for split, one in sets]
    return parts_source(f"torchvision:{name}", _digest([name, {**options, "root": None}]), parts, names)


def _parameters(build: type) -> set[str]:
    """Names of the arguments of a class, with those it hands on to its base as **kwargs."""
    names: set[str] = set()
    for base in build.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names.update(one.name for one in parameters)
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return names


def _torchvision_splits(taken: set[str], options: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """Splits to read, with the argument that chooses each."""
    if "train" in taken and "train" not in options:
        return [("train", {"train": True}), ("test", {"train": False})]
    if "split" in taken and "split" not in options:
        return [(split, {"split": split}) for split in ("train", "val", "test")]
    return [(None, {})]


def _instance(build: type, arguments: Mapping[str, Any], optional: bool) -> Any:
    """The data set; None if `optional` and it has no such split."""
    name = build.__name__
    try:
        return build(**arguments)
    except (TypeError, ValueError) as error:
        if optional and isinstance(error, ValueError):
            return None
        raise ConfigError(f"torchvision:{name} does not take these vision.ingest.options: {error}.") from error
    except (OSError, RuntimeError, ImportError) as error:
        raise DataError(
            f"torchvision:{name} could not be downloaded or read ({error}): check the network, or put its files under "
            f"{arguments.get('root', 'its root')} by hand, or set vision.ingest.source to a folder or archive of them."
        ) from error


def _torchvision_items(dataset: Any, split: str | None, names: Sequence[str] | None, start: int) -> Iterator[Item]:
    for row in range(start, len(dataset)):
        key = f"{split or 'items'}/{row:06d}"
        try:
            image, target = dataset[row]
            pixels = np.asarray(image if image.mode in ("L", "RGB", "I;16") else image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            yield Item(key, None, refused=f"unreadable: {error}")
            continue
        label = None
        if isinstance(target, int | np.integer) and target >= 0:  # STL10 says -1 for no label
            label = names[int(target)] if names and target < len(names) else str(target)
        yield Item(key, pixels, label)


def embedded_source(name: str, options: Mapping[str, Any]) -> Source:
    """`glyphs` or `digits`: pictures made on this machine, a pure function of the options.

    Raises:
        ConfigError: options that the corpus does not have.
    """
    if name == "glyphs":
        chosen = parse(glyphs.GlyphOptions, options, at="vision.ingest.options")
        parts = [
            Part("train", chosen.count, functools.partial(_glyph_items, chosen, "train", chosen.count)),
            Part("test", chosen.test_count, functools.partial(_glyph_items, chosen, "test", chosen.test_count)),
        ]
        return parts_source("glyphs", _digest([name, chosen.model_dump()]), parts, chosen.characters)
    small = parse(glyphs.DigitOptions, options, at="vision.ingest.options")
    parts = [_digit_part(small, "train"), _digit_part(small, "test")]
    return parts_source("digits", _digest([name, small.model_dump()]), parts, "0123456789")


def _glyph_items(options: glyphs.GlyphOptions, split: glyphs.Split, count: int, start: int) -> Iterator[Item]:
    for first in range(start, count, glyphs.CHUNK_IMAGES):
        stop = min(first + glyphs.CHUNK_IMAGES, count)
        labels = glyphs.glyph_labels(options, first, stop)
        for row, image in enumerate(glyphs.draw_glyphs(options, split, first, stop)):
            yield Item(f"{split}/{first + row:06d}", image, options.characters[labels[row]])


def _digit_part(options: glyphs.DigitOptions, split: glyphs.Split) -> Part:
    images, labels, names = glyphs.digit_arrays(options, split)

    def items(start: int) -> Iterator[Item]:
        for row in range(start, len(images)):
            yield Item(f"{split}/{row:06d}", images[row], names[labels[row]])

    return Part(split, len(images), items)


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
