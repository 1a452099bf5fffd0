"""Names of the columns of tables, as people have them or as the recipe says them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from d2v.errors import DataError

LABEL_NAMES = ("label", "labels", "class", "classes", "y", "target", "targets", "fine_label")
FILE_NAMES = (
    *(
        "path",
        "file_name",
        "filename",
        "file",
        "audio",
        "audio_filepath",
        "wav",
        "image",
        "image_path",
        "img",
        "image_id",
    ),
    *("slice_file_name", "fname", "file_path", "filepath"),
)
SPLIT_NAMES = ("split", "subset", "set", "partition")


@dataclass(frozen=True)
class Columns:
    """Where to look in a table for what is there; the likeliest names first, in lower case.

    Attributes:
        labels: columns of the class.
        texts: name in `Item.texts` -> columns of it.
        strings: whether the content may be strings, which become UTF-8; else only bytes are content.
        files: columns of the files that a table beside the items speaks of.
        splits: columns of the split.
        groups: columns of what must not be in two splits.
        chosen: what the recipe's `ingest.columns` names ("label", "file" ...) -> column, which must be there.
    """

    labels: Sequence[str] = LABEL_NAMES
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    strings: bool = False
    files: Sequence[str] = FILE_NAMES
    splits: Sequence[str] = SPLIT_NAMES
    groups: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    def choose(self, chosen: Mapping[str, str | None]) -> Columns:
        """The same, with the columns that a recipe names: file, label, split, group or a name of `texts`."""
        named = {name: column for name, column in chosen.items() if column is not None}
        of = {name: [column.lower()] if column else [] for name, column in named.items()}
        return replace(
            self,
            labels=of.get("label", self.labels),
            texts={name: of.get(name, columns) for name, columns in self.texts.items()},
            files=of.get("file", self.files),
            splits=of.get("split", self.splits),
            groups=of.get("group", self.groups),
            chosen=named,
        )

    @property
    def known(self) -> set[str]:
        """All names of columns, in lower case."""
        kinds = (self.labels, self.files, self.splits, self.groups, *self.texts.values())
        return {name.lower() for names in kinds for name in names}

    @property
    def reads_beside(self) -> bool:
        """Whether files beside the items are asked about them: not where the recipe says that no column names files."""
        return self.chosen.get("file") != ""

    def check(self, names: Iterable[str], path: str) -> None:
        """Raises DataError if a table lacks a column that the recipe names."""
        there = list(names)
        for name, column in self.chosen.items():
            if column and first_column([column], there) is None:
                raise DataError(
                    f"{path} has the columns {', '.join(there)}, and none is {column}: set "
                    f"ingest.columns.{name} to one of them."
                )


def first_column(wanted: Sequence[str], names: Collection[str]) -> str | None:
    """The first of the wanted columns that is there, in whatever case."""
    columns = {name.strip().lower(): name for name in reversed(list(names))}
    return next((columns[name.lower()] for name in wanted if name.lower() in columns), None)
