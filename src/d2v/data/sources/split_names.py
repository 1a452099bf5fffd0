"""Names of splits as people write them: one rule for folders, files, tables and their cells.

A name speaks of a split if a word of it does (`train`, `Test`, `val2017`, `training_set`, `train-clean-100`,
`trainset`). Words that say nothing more (set, images, clean, numbers) do not matter. A name with other words
(`20news-bydate-train`) counts only in company: where another name differs from it in the split alone
(`20news-bydate-test`), for a bullet train and a test tube are classes.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("dev", "devel", "development"), "dev"),
    **dict.fromkeys(("eval", "evaluation", "holdout"), "eval"),
    **dict.fromkeys(("unlabelled", "unlabeled", "unsup", "unsupervised", "pretrain"), "unlabelled"),
}
"""Word of a name -> the kind of split. `unlabelled` items are trained on, without classes."""
GENERIC = frozenset(
    "audio clip clips data file files flac image images img imgs jpegimages jpg photo photos picture pictures png "  # noqa: SIM905
    "recording recordings text texts video videos wav wavs".split()
)
"""Words that say what files are, and nothing about their class."""
FILLERS = GENERIC | frozenset(
    "a b batch clean dataset dir folder full large matched mismatched mini new of original other part parts raw seg "  # noqa: SIM905
    "set sets shard shards small split splits subset x y".split()
)
"""Words of a split's name that say nothing more."""
GLUED = re.compile(rf"({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})(set|data|split|images|imgs|files)")
MAY_SPEAK = re.compile(r"tr(ai)?n|te?st|val|dev|holdout|unlabel|unsup|t10k", re.IGNORECASE)
FOLD = re.compile(r"(?:cv[ _-]?)?fold[ _-]?0*(\d+)", re.IGNORECASE)


class SplitName(NamedTuple):
    """A name that speaks of a split: its kind, and the words beside it that say more."""

    kind: str
    rest: tuple[str, ...]


@functools.lru_cache(maxsize=2**16)
def parse(name: str) -> SplitName | None:
    """What a name says of a split; None if it has no such word."""
    parted = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower().replace("t10k", "test")
    words = [_unglued(word) for word in re.findall(r"[^\W\d_]+", parted)]
    kinds = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    if not kinds:
        return None
    kind = "train" if set(kinds) == {"train", "val"} else kinds[0]
    return SplitName(kind, tuple(word for word in words if word not in SPLIT_WORDS and word not in FILLERS))


def _unglued(word: str) -> str:
    found = GLUED.fullmatch(word)
    return found[1] if found else word


def kind_of(name: str) -> str | None:
    """The kind of split that a name speaks of, whatever else it says."""
    found = parse(name)
    return found.kind if found else None


def kinds_of(names: Collection[str]) -> dict[str, str]:
    """Names among siblings that are splits -> the kind of each.

    Folds are splits where all names are folds: the highest is the test split.

    Example:
        >>> kinds_of(["20news-bydate-train", "20news-bydate-test"])
        {'20news-bydate-train': 'train', '20news-bydate-test': 'test'}
        >>> kinds_of(["bullet train", "test tube"])
        {}
    """
    folds = {name: int(number[1]) for name in names if (number := FOLD.fullmatch(name))}
    if len(folds) > 1 and len(folds) == len(names):
        return {name: "test" if number == max(folds.values()) else "train" for name, number in folds.items()}
    parsed = {name: found for name in names if MAY_SPEAK.search(name) and (found := parse(name))}
    by_rest: dict[tuple[str, ...], set[str]] = {}
    for found in parsed.values():
        by_rest.setdefault(found.rest, set()).add(found.kind)
    return {name: one.kind for name, one in parsed.items() if not one.rest or len(by_rest[one.rest]) > 1}


def kinds_of_files(keys: Sequence[str], alone: bool = True) -> list[str | None]:
    """The kind of split of each file, from its name or else the folders above it.

    Args:
        keys: paths of all files.
        alone: whether names that all speak of one split, such as of the one file `news-train.parquet`, tell it.
    """
    names = [PurePosixPath(key).stem for key in keys]
    known = kinds_of(set(names))
    if len(set(known.values())) > 1 or (alone and len(known) == len(set(names))):
        return [known.get(name) for name in names]
    if alone and all(kind_of(name) for name in names):
        return [kind_of(name) for name in names]
    folders = [PurePosixPath(key).parts[:-1] for key in keys]
    known = kinds_of({name for parts in folders for name in parts})
    return [next((known[name] for name in reversed(parts) if name in known), None) for parts in folders]


def settled(found: Collection[str | None]) -> Mapping[str, str]:
    """Kind of split -> the split it is used as, from all kinds that a source has.

    Without a test split, the evaluation split is tested on, and without that the validation split. Where there is none
    to train on, that is what a development split is for.
    """
    kinds = set(found)
    dev = "train" if "eval" in kinds and not kinds & {"train", "unlabelled"} else "val"
    validates = kinds & ({"val", "dev"} if dev == "val" else {"val"})
    evaluation = "test" if "test" not in kinds else "test" if validates else "val"
    validation = "val" if kinds & {"test", "eval"} else "test"
    return {
        "train": "train",
        "unlabelled": "train",
        "test": "test",
        "eval": evaluation,
        "val": validation,
        "dev": "train" if dev == "train" else validation,
    }
