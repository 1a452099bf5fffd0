"""The layout of a tree of files: its items, and the split and class that folders and side files give them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal, Protocol, runtime_checkable

from d2v.data.sources.labels import names_no_class
from d2v.data.sources.source import Item
from d2v.data.sources.split_names import FOLD, GENERIC, kind_of, kinds_of, settled
from d2v.errors import DataError

Folders = tuple[str, ...]  # the names of the folders above a file, outermost first
Role = Literal["item", "side", "paper"]

MOST_ENDINGS = 2  # .txt.gz
ENDING = re.compile(r"\.[A-Za-z]\w{0,8}")
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
        if annotated and self.side_names and self.side_names.search(path) and not self.has_suffix(path):
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
        split: a name of a split; "" for none of its own, None for what the folders say.
        texts: for `Item.texts`.
        group: for `Item.group`.
        fold: for `Item.fold`.
    """

    label: str | None = None
    split: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    fold: str | None = None


Lookup = Callable[[str], Annotation | None]
"""Path of an item in its tree -> what is said about it; None for nothing."""


@runtime_checkable
class Remarking(Protocol):
    """A lookup that has something to say of all items together."""

    def remarks(self, paths: Sequence[str]) -> list[str]:
        """Sentences for people, such as about rows that meet no file.

        Args:
            paths: of all items, in the tree.
        """
        ...


Annotator = Callable[[Mapping[str, bytes]], Lookup]
"""Content of the side files by their paths in the tree -> lookup of the items."""


# -------------------------------------------------------------------------------------------- layout


@dataclass(frozen=True)
class Layout:
    """The meaning of folder names in one tree, and what is said beside them, which takes precedence.

    Attributes:
        top: folders around everything, which are dropped.
        splits: split folder -> the kind of split it is.
        depth: how many folders stand above the split folders: 0, or 1 where classes hold splits.
        stems: name of a file without its ending -> the kind of split it speaks of, where no folder does.
        wrappers: folders below `top` and the split that hold everything there and are not a class.
        settled: kind of split -> the split it is used as.
        said: what files beside the items say.
        unsaid: the split of items that are in none; None leaves it to their hashes.
        remarks: sentences about the tree, for people.
    """

    top: Folders
    splits: Mapping[str, str]
    settled: Mapping[str, str]
    depth: int = 0
    stems: Mapping[str, str] = field(default_factory=dict)
    wrappers: frozenset[Folders] = frozenset()
    said: Lookup | None = None
    unsaid: str | None = None
    remarks: tuple[str, ...] = ()

    def item(self, name: str, data: bytes | None = None, refused: str | None = None, address: str = "") -> Item:
        """The item of a file, from its path in the tree, its content, and its address for people.

        Raises:
            DataError: it is said to be in a split of an unknown name.
        """
        path = parts = split_path(name)
        if parts[: len(self.top)] == self.top:
            parts = parts[len(self.top) :]
        kind, folders = self._kind_and_classes(parts)
        kind = kind or (self.stems.get(stem_of(parts[-1])) if self.stems else None)
        label = folders[0] if folders and kind != "unlabelled" and not names_no_class(folders[0]) else None
        texts, group, fold = dict[str, str](), None, _fold_of(parts[:-1]) if self.splits else None
        if self.said and (said := self.said("/".join(path))):
            label = label if said.label is None else said.label or None
            kind = kind if said.split is None else _known_kind(said.split, "/".join(path))
            texts, group, fold = dict(said.texts), said.group, said.fold or fold
        split = self.settled[kind] if kind else self.unsaid
        return Item("/".join(parts), data, label, split, refused, texts, group, fold, address)

    def of(self, names: Sequence[str]) -> Layout:
        """The same for some files alone. It can be pickled."""
        stems = (
            {stem: self.stems[stem] for name in names if (stem := stem_of(name)) in self.stems} if self.stems else {}
        )
        if self.said is None:
            return replace(self, stems=stems)
        paths = ("/".join(split_path(name)) for name in names)
        return replace(self, stems=stems, said={path: self.said(path) for path in paths}.get)

    def _kind_and_classes(self, parts: Folders) -> tuple[str | None, Folders]:
        """The kind of split of a path below `top`, and the folders that are left for its class."""
        folders = parts[:-1]
        kind = self.splits.get(folders[self.depth]) if len(folders) > self.depth else None
        if kind and self.depth:
            return kind, folders[: self.depth]
        if kind:
            above, folders = folders[:1], folders[1:]
        else:
            above, folders = (), () if self.splits else folders
        while folders and (*above, folders[0]) in self.wrappers:
            above, folders = (*above, folders[0]), folders[1:]
        return kind, folders


def find_layout(names: Iterable[str], wanted: Wanted, packed: bool = False, said: Lookup | None = None) -> Layout:
    """Read the layout off the names of all files.

    A folder that holds everything else is a wrapper and dropped. In an archive (`packed`) that is so even if it
    holds the items themselves, as packing a folder leaves it; in a folder it is then the only class. Then come split
    folders, if there are two splits of them or nothing else, for "train" can also be a class; then class folders, as in
    torchvision's ImageFolder. Split folders may also lie in each class folder, and without them the names of files may
    speak of two splits. Where there is a test split, items that are in no split are trained on, for no hash may add to
    a test split that others have chosen.

    Raises:
        DataError: `said` names a split that is unknown.
    """
    names = list(names)
    layout = _layout_of_folders(_item_folders(names, wanted), packed)
    if not layout.splits:
        stems = kinds_of({stem_of(name) for name in names})
        layout = replace(layout, stems=stems if len(set(stems.values())) > 1 else {})
    kinds: set[str | None] = {*layout.splits.values(), *layout.stems.values()}
    if said:
        layout = replace(layout, settled=_AS_THEY_ARE, said=said)
        kinds = {layout.item(name).split for name in names}
        speaker: object = said
        if isinstance(speaker, Remarking):
            paths = ["/".join(split_path(name)) for name in names]
            layout = replace(layout, remarks=(*layout.remarks, *speaker.remarks(paths)))
    used = settled(kinds)
    tests = any(used[kind] == "test" for kind in kinds if kind)
    return replace(layout, settled=used, unsaid="train" if tests else None)


class _AsTheyAre(dict[str, str]):
    def __missing__(self, kind: str) -> str:
        return kind


_AS_THEY_ARE: Mapping[str, str] = _AsTheyAre()


def _layout_of_folders(trees: set[Folders], packed: bool) -> Layout:
    top = 0
    while _is_wrapped(trees, top) and ((packed and top == 0) or all(len(folders) > top + 1 for folders in trees)):
        top += 1
    prefix = next(iter(trees), ())[:top]
    below = {folders[top:] for folders in trees}
    firsts, seconds = ({folders[depth] for folders in below if len(folders) > depth} for depth in (0, 1))
    splits, depth = _split_folders(firsts), 0
    if not splits and all(len(folders) > 1 for folders in below) and set(inner := _split_folders(seconds)) == seconds:
        splits, depth = inner, 1
    remarks = []
    likely = sorted(name for name in firsts if kind_of(name)) if not splits else []
    if likely:
        remarks.append(
            f"names of classes look like names of splits: {_shown(likely)}. If they are splits, call them train, val "
            "and test, with nothing else beside them"
        )
    others = sorted(firsts - set(splits)) if splits and not depth else []
    if others:
        remarks.append(f"{_shown(others)} beside the splits {_shown(sorted(splits))} is no split: it gives no class")
    wrappers = frozenset() if depth else _wrappers(below, splits)
    return Layout(prefix, splits, settled(splits.values()), depth, wrappers=wrappers, remarks=tuple(remarks))


def _split_folders(names: set[str]) -> dict[str, str]:
    """Which of the folders are splits: of two kinds, or nothing else."""
    kinds = kinds_of(names)
    return kinds if len(set(kinds.values())) >= 2 or set(kinds) == names else {}


def _wrappers(trees: set[Folders], splits: Mapping[str, str]) -> frozenset[Folders]:
    """Folders that hold all of a split, or of the tree, and are not a class, for their names say no more than "images",
    or the split's name again."""
    found: set[Folders] = set()
    reached: list[Folders] = [(split,) for split in splits] or [()]
    while reached:
        above = reached.pop()
        inside = {tree[len(above) :][:1] for tree in trees if tree[: len(above)] == above}
        first = next(iter(inside)) if len(inside) == 1 else ()
        if first and (first[0].lower() in GENERIC or first == above[-1:]):
            found.add((*above, *first))
            reached.append((*above, *first))
    return frozenset(found)


def _fold_of(folders: Folders) -> str | None:
    """The number of the fold that a folder is."""
    return next((found[1] for folder in folders if (found := FOLD.fullmatch(folder))), None)


def _shown(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _known_kind(word: str, path: str) -> str | None:
    if not word.strip():
        return None
    kind = kind_of(word)
    if kind is None:
        raise DataError(
            f"The file beside the data says that {path} is in the split {word!r}, which is not known: write train, "
            "val (or dev) or test there, or leave it empty."
        )
    return kind


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
    return len(firsts) == 1 and firsts != {()} and not kinds_of({next(iter(firsts))[0]})


# --------------------------------------------------------------------------------------------- names


@functools.lru_cache(maxsize=64)
def split_path(name: str) -> Folders:
    """Parts of a path in an archive, readable even where the name is not valid text."""
    readable = name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return tuple(part for part in readable.split("/") if part not in ("", ".")) or (".",)


def stem_of(path: str) -> str:
    """The last part of a path without its endings, such as .tokens and .txt.gz; dots between words become spaces."""
    name = split_path(path)[-1]
    for _ in range(MOST_ENDINGS):
        dot = name.rfind(".")
        if dot < 1 or not ENDING.fullmatch(name, dot) or kind_of(name[dot:]):
            break
        name = name[:dot]
    return name.replace(".", " ")


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder above it, starts with a dot (.DS_Store, macOS's ._x, .git)."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def climbs_out(name: str) -> bool:
    """Whether a member's path leads out of the folder it would be unpacked to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return parts[0] == "" or ".." in parts or "\0" in name or re.match(r"[A-Za-z]:[\\/]", name) is not None
