"""What a first look at a source found, and what its recipe should say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2v.data.sources.source import Item

UNEQUAL = 3


@dataclass(frozen=True)
class Survey:
    """What is known of a source.

    Attributes:
        modality: name of what its items are.
        ingest: values of the ingest block that it was opened with.
        description: for people, such as its path.
        items: how many there are; where `is_whole` is False, how many were seen or are said to be there.
        is_whole: whether all were listed. Else classes and splits are those of the items that were looked at.
        classes: class -> items.
        splits: split -> items that the source itself puts there.
        folds: fold -> items.
        texts: text such as "transcript" -> items that have it.
        facts: fact of the reader, such as "width" -> (n,) of the sample's items.
        sample: items with their contents, drawn evenly.
        problems: reasons why items of the sample cannot be read.
        remarks: sentences about the source.
    """

    modality: str
    ingest: Mapping[str, Any]
    description: str
    items: int
    is_whole: bool
    classes: Mapping[str, int]
    splits: Mapping[str, int]
    folds: Mapping[str, int]
    texts: Mapping[str, int]
    facts: Mapping[str, np.ndarray]
    sample: Sequence[Item] = field(repr=False)
    problems: Sequence[str] = ()
    remarks: Sequence[str] = ()

    @property
    def labelled(self) -> int:
        """Items with a class."""
        return sum(self.classes.values())

    @property
    def majority(self) -> float:
        """Share of the labelled items that the largest class has; 0 without labels."""
        return max(self.classes.values(), default=0) / max(self.labelled, 1)

    @property
    def is_unequal(self) -> bool:
        """Whether the largest class has several times as many items as the smallest."""
        return bool(self.classes) and max(self.classes.values()) > UNEQUAL * min(self.classes.values())

    @property
    def can_classify(self) -> bool:
        """Whether there are two classes at least, and half of the items have one."""
        looked_at = self.labelled if self.is_whole else len(self.sample)
        return len(self.classes) > 1 and 2 * self.labelled >= (self.items if self.is_whole else looked_at)


@dataclass(frozen=True)
class Hardware:
    """What trains.

    Attributes:
        name: of the device.
        is_gpu: whether it is one.
        memory_bytes: of the GPU, else what this machine has free.
    """

    name: str
    is_gpu: bool
    memory_bytes: int


@dataclass(frozen=True)
class Suggestion:
    """What a recipe of a source should say beside `conf/own_data`.

    Attributes:
        changes: nested values of the modality's recipe.
        reasons: dotted key -> why, a few words.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
