"""Data sets that a library knows by name: the classes of torchvision.datasets and torchaudio.datasets."""

from __future__ import annotations

import difflib
import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from d2v.data import fingerprint
from d2v.data.ingest import named_error
from d2v.data.sources.layout import Wanted
from d2v.data.sources.row_sources import Split, source_of_splits
from d2v.data.sources.source import Item, Source
from d2v.errors import ConfigError, DataError

ToItem = Callable[[str, Any, int, Sequence[str] | None], Item]
"""Key, data set, row and class names -> the item of that row."""

SPLIT_WORDS = {
    "train": (("train", True), ("test", False)),
    "subset": (
        *(("train", word) for word in ("train", "training")),
        *(("val", word) for word in ("val", "dev", "valid", "validation")),
        *(("test", word) for word in ("test", "testing")),
    ),
    "split": (("train", "train"), ("val", "val"), ("test", "test")),
}
"""Argument that chooses a split -> split and value to try."""


def dataset_source(
    module: ModuleType,
    name: str,
    options: Mapping[str, Any],
    wanted: Wanted,
    to_item: ToItem,
    example: str,
    usual: Mapping[str, Any] | None = None,
) -> Source:
    """A class of `module`, downloaded when first used to `options.root` (data/01_raw/<Class>).

    Other options go to the class. All splits that it has are read, unless an option chooses one.

    Args:
        module: such as torchvision.datasets.
        name: of the class.
        options: its arguments.
        wanted: the modality's words, with the name of the library.
        to_item: makes the item of a row; whatever it raises refuses the row.
        example: a class, for messages.
        usual: arguments of the classes that take them, unless `options` has others.

    Raises:
        ConfigError: no such class, or options it does not take.
        DataError: it could not be downloaded or read.
    """
    build = _class(module, name, wanted, example)
    taken = _parameters(build)
    defaults = {"root": f"data/01_raw/{name}", "download": True, **(usual or {})}
    arguments = {**{key: value for key, value in defaults.items() if key in taken}, **options}
    if isinstance(arguments.get("root"), str):
        arguments["root"] = os.path.expanduser(arguments["root"])
    sets: dict[str | None, Any] = {}
    for split, chosen in _splits(taken, options):
        if split not in sets and (one := _instance(build, {**arguments, **chosen}, chosen, wanted)) is not None:
            sets[split] = one
    if not sets:
        choice = next(argument for argument in SPLIT_WORDS if argument in taken)
        raise ConfigError(
            f"{wanted.library}:{name} has no split train, val or test: set {wanted.modality}.ingest.options.{choice}."
        )
    classes = getattr(next(iter(sets.values())), "classes", None)
    names = [one if isinstance(one, str) else str(one[0]) for one in classes] if classes else None
    splits = [
        Split(split, len(one), functools.partial(_items, one, split or "items", names, to_item))
        for split, one in sets.items()
    ]
    digest = fingerprint.of_values([name, {**options, "root": None}])
    return source_of_splits(f"{wanted.library}:{name}", digest, splits, names)


def _class(module: ModuleType, name: str, wanted: Wanted, example: str) -> type:
    if name not in module.__all__:
        near = difflib.get_close_matches(name, module.__all__, n=3, cutoff=0.4)
        raise ConfigError(
            f"{module.__name__} has no {name}; {'near: ' + ', '.join(near) if near else 'see its documentation'}. Set "
            f"{wanted.modality}.ingest.source to {wanted.library}:<Class>, for example {wanted.library}:{example}."
        )
    found: type = getattr(module, name)
    return found


def _parameters(build: type) -> set[str]:
    """Names of the arguments of a class, with those it hands on to its base as **kwargs."""
    names: set[str] = set()
    for base in build.__mro__:
        parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
        names.update(one.name for one in parameters)
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return names


def _splits(taken: set[str], options: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    """Splits to try, with the argument that chooses each."""
    for argument, words in SPLIT_WORDS.items():
        if argument in taken and argument not in options:
            return [(split, {argument: value}) for split, value in words]
    return [(None, {})]


def _instance(build: type, arguments: Mapping[str, Any], chosen: Mapping[str, Any], wanted: Wanted) -> Any:
    """The data set; None if it has no split of the chosen name."""
    name, ingest = f"{wanted.library}:{build.__name__}", f"{wanted.modality}.ingest"
    try:
        if arguments.get("download") and arguments.get("root") and arguments.keys() <= _parameters(build):
            os.makedirs(arguments["root"], exist_ok=True)  # torchaudio does not
        return build(**arguments)
    except (TypeError, ValueError, OSError, RuntimeError, ImportError) as error:
        if _is_about_split(error, chosen):
            return None
        if isinstance(error, TypeError | ValueError):
            raise ConfigError(f"{name} does not take these {ingest}.options: {error}.") from error
        raise DataError(
            f"{name} could not be downloaded or read ({error}): check the network, or put its files under "
            f"{arguments.get('root', 'its root')} by hand, or set {ingest}.source to a folder or archive of them."
        ) from error


def _is_about_split(error: Exception, chosen: Mapping[str, Any]) -> bool:
    """Whether a class says that it has no such split; some of torchaudio's do so by a RuntimeError."""
    if isinstance(error, ValueError):
        return "split" in chosen or "subset" in chosen
    return isinstance(error, RuntimeError) and "subset" in chosen and "subset" in str(error)


def _items(dataset: Any, prefix: str, names: Sequence[str] | None, to_item: ToItem, start: int) -> Iterator[Item]:
    for row in range(start, len(dataset)):
        key = f"{prefix}/{row:06d}"
        try:
            item = to_item(key, dataset, row, names)
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:
            item = Item(key, None, refused=f"unreadable: {error}")
        except BaseException as error:  # some decoders' own errors are not Exceptions
            item = Item(key, None, refused=f"unreadable: {named_error(error)}")
        yield item
