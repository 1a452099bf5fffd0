"""The layout of a tree of files: its items, and the split and class that folders and side files give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from d2v.data.sources.source import Item
from d2v.errors import DataError

Folders = tuple[str, ...]  # the names of the folders above a file, outermost first
Role = Literal["item", "side", "paper"]

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
}
UNSETTLED = {split: split for split in ("train", "val", "test")}
PAPER = re.compile(
    r"(readme|licen[cs]e|copying|notice|authors|citation|change(s|log)|(sha\d+|md5|check)sums?).*"
    r"|.*\.(txt|md|rst|csv|tsv|jsonl?|ya?ml|xml|html?|pdf)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The items that a modality reads: its words for messages, and how to tell its items from other files.

    Attributes:
        modality: the first part of the configuration's keys in messages ("vision").
        noun: what the items are called, in the plural ("images").
        suffixes: how their file names end, in lower case and with the dot.
        max_item_bytes: anything larger is refused.
        embedded: names of the embedded corpora, for messages.
        library: the package whose data sets are sources by name ("torchvision"), if there is one.
        columns: names of the table columns that can hold an item's content, the likeliest first.
        side_names: found in the path of a file that says something about the items; see `Annotator`.
        only_suffixes: leave out papers (README, LICENSE, *.txt, *.csv ...); other files are items all the same, and
            the reader says what is wrong with them. Without it, every file is an item.
    """

    modality: str
    noun: str
    suffixes: frozenset[str]
    max_item_bytes: int
    embedded: tuple[str, ...] = ()
    library: str | None = None
    columns: tuple[str, ...] = ()
    side_names: re.Pattern[str] | None = None
    only_suffixes: bool = False

    def has_suffix(self, name: str) -> bool:
        """Whether a file is named like an item."""
        return name.lower().endswith(tuple(self.suffixes))

    def role(self, path: str, annotated: bool) -> Role:
        """The role of a file, from its path in the tree; side files are so only where something reads them."""
        if annotated and self.side_names and self.side_names.search(path):
            return "side"
        left_out = self.only_suffixes and not self.has_suffix(path) and PAPER.fullmatch(PurePosixPath(path).name)
        return "paper" if left_out else "item"


def too_large(size: int, wanted: Wanted) -> str | None:
    """The reason to refuse an item of that many bytes, if there is one."""
    if size <= wanted.max_item_bytes:
        return None
    return f"{size:,} bytes are more than {wanted.modality}.ingest.max_item_bytes = {wanted.max_item_bytes:,}"


# ------------------------------------------------------------------------------- files beside the items


@dataclass(frozen=True)
class Annotation:
    """Label, split and texts of an item from the files beside it.

    Attributes:
        label: name of its class; "" for none, None for what the folders say.
        split: a word that `SPLITS` knows; "" for none of its own, None for what the folders say.
        texts: for `Item.texts`.
    """

    label: str | None = None
    split: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


Lookup = Callable[[str], Annotation | None]
"""Path of an item in its tree -> what is said about it; None for nothing."""

Annotator = Callable[[Mapping[str, bytes]], Lookup]
"""Content of the side files by their paths in the tree -> lookup of the items."""


# -------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Layout:
    """The meaning of folder names in one tree: `top` is dropped, then comes a split folder (if `splits` knows its
    name), then the class folder, as in torchvision's ImageFolder. `said` takes precedence; `settled` gives the
    split that each of them is used as."""

    top: Folders
    splits: Mapping[str, str]
    settled: Mapping[str, str]
    said: Lookup | None = None

    def item(self, name: str, data: bytes | None = None, refused: str | None = None) -> Item:
        """The item of a file, from its path in the tree and its content.

        Raises:
            DataError: it is said to be in a split of an unknown name.
        """
        path = parts = split_path(name)
        if parts[: len(self.top)] == self.top:
            parts = parts[len(self.top) :]
        split = self.splits.get(parts[0].lower()) if len(parts) > 1 else None
        folders = parts[1:-1] if self.splits else parts[:-1]
        label, texts = folders[0] if folders else None, dict[str, str]()
        if self.said and (said := self.said("/".join(path))):
            label = label if said.label is None else said.label or None
            split = split if said.split is None else _known_split(said.split, "/".join(path))
            texts = dict(said.texts)
        return Item("/".join(parts), data, label, self.settled[split] if split else None, refused, texts)


def find_layout(names: Iterable[str], wanted: Wanted, packed: bool = False, said: Lookup | None = None) -> Layout:
    """Read the layout off the names of all files.

    A folder that holds everything else is a wrapper and dropped. In an archive (`packed`) that is so even if it
    holds the items themselves, as packing a folder leaves it; in a folder it is then the only class. Split names at
    the first level are splits if there are two of them or nothing else, for "train" can also be a class.

    Raises:
        DataError: `said` names a split that is unknown.
    """
    names = list(names)
    layout = _layout_of_folders(_item_folders(names, wanted), packed)
    if said is None:
        return layout
    unsettled = replace(layout, settled=UNSETTLED, said=said)
    return replace(unsettled, settled=settle_splits({unsettled.item(name).split for name in names}))


def settle_splits(found: Collection[str | None]) -> dict[str, str]:
    """The split that each split is used as: a source without a test split is tested on its validation split."""
    return {"train": "train", "test": "test", "val": "val" if "test" in found else "test"}


def _layout_of_folders(trees: set[Folders], packed: bool) -> Layout:
    top = 0
    while _is_wrapped(trees, top) and ((packed and top == 0) or all(len(folders) > top + 1 for folders in trees)):
        top += 1
    firsts = {folders[top].lower() for folders in trees if len(folders) > top}
    found = {SPLITS[name] for name in firsts if name in SPLITS}
    is_split = len(found) >= 2 or (bool(found) and firsts <= set(SPLITS))
    splits = {name: SPLITS[name] for name in firsts if name in SPLITS} if is_split else {}
    return Layout(next(iter(trees), ())[:top], splits, settle_splits(found))


def _known_split(word: str, path: str) -> str | None:
    if not word:
        return None
    if word.strip().lower() not in SPLITS:
        raise DataError(
            f"The file beside the data says that {path} is in the split {word!r}, which is not known: write train, "
            "val (or dev) or test there, or leave it empty."
        )
    return SPLITS[word.strip().lower()]


def _item_folders(names: Iterable[str], wanted: Wanted) -> set[Folders]:
    """Folders of the items; of all files if no name looks like an item (so that a README does not hide a wrapper)."""
    items: set[Folders] = set()
    others: set[Folders] = set()
    for name in names:
        *folders, last = split_path(name)
        (items if wanted.has_suffix(last) else others).add(tuple(folders))
    return items or others


def _is_wrapped(trees: set[Folders], depth: int) -> bool:
    firsts = {folders[depth : depth + 1] for folders in trees}
    return len(firsts) == 1 and firsts != {()} and next(iter(firsts))[0].lower() not in SPLITS


# --------------------------------------------------------------------------------------------- names


def split_path(name: str) -> Folders:
    """Parts of a path in an archive, readable even where the name is not valid text."""
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return tuple(part for part in readable.split("/") if part not in ("", ".")) or (".",)


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder above it, starts with a dot (.DS_Store, macOS's ._x, .git)."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def climbs_out(name: str) -> bool:
    """Whether a member's path leads out of the folder it would be unpacked to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:[\\/]", name) is not None
