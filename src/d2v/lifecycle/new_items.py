"""The items of a corpus that are new to a model, judged by the registry alone: no file of an earlier run is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d2v.lifecycle.corpus_items import Items, read_items
from d2v.lifecycle.promotion import TAG
from d2v.tracking import versions
from d2v.tracking.versions import CHALLENGER, CHAMPION, Version

IsNew = Callable[[Items, Iterable[Items]], np.ndarray]


@dataclass(frozen=True)
class NewItems:
    """The items that a registered model has not learned from yet.

    Attributes:
        champion: its version; None if there is none.
        chosen: (n,) bool, items of the corpus that no judged model was trained on.
        waits: a challenger that was trained on all of it and not judged yet; None if there is none.
    """

    champion: Version | None
    chosen: np.ndarray
    waits: Version | None = None

    @property
    def count(self) -> int:
        """New items."""
        return int(self.chosen.sum())


def find_new_items(name: str, items: Items, is_new: IsNew, cache: Path) -> NewItems:
    """New is what neither the champion nor the last challenger that was judged has been trained on: data that made no
    better model are not tried again.

    Args:
        name: registered model.
        items: of the corpus now.
        is_new: (items, those of models) -> (n,) bool.
        cache: folder for the versions' files.
    """
    champion, challenger = versions.find(name, CHAMPION), versions.find(name, CHALLENGER)
    was_judged = challenger is not None and TAG in challenger.tags
    judged = [champion, challenger] if was_judged else [champion]
    chosen = is_new(items, [seen for one in judged if (seen := _items(one, cache))])
    if challenger is None or was_judged or not chosen.any():
        return NewItems(champion, chosen)
    trained_on = _items(challenger, cache)
    covers = trained_on is not None and not is_new(items, [trained_on]).any()
    return NewItems(champion, chosen, challenger if covers else None)


def _items(version: Version | None, cache: Path) -> Items | None:
    return read_items(versions.fetch(version, cache).lineage) if version else None
