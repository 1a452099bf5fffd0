"""Items that are longer than an encoder takes, such as texts above `max_tokens`: cut, read in windows, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch

from d2v.data.batch import Inputs
from d2v.errors import ConfigError, DataError
from d2v.modalities.base import Modality

Long = Literal["cut", "windows", "error"]
WAYS = ("cut", "windows", "error")
SHOWN_CHARACTERS = 40


def check_long(long: str) -> Long:
    """One of the ways to treat long items. Raises ConfigError for other words."""
    if long not in WAYS:
        raise ConfigError(f"there is no way {long!r} to treat long items: give one of {', '.join(WAYS)}")
    return cast(Long, long)


class TooLong(DataError):
    """An item is longer than the encoder takes.

    Args:
        item: its number from 0.
        shown: its beginning.
        cut_off: tokens that do not fit.
        remedy: what to do.
    """

    def __init__(self, item: int, shown: str, cut_off: int, remedy: str) -> None:
        super().__init__(f"item {item:,} (from 0){shown} has {cut_off:,} tokens more than the encoder takes: {remedy}")
        self.item, self.shown, self.cut_off, self.remedy = item, shown, cut_off, remedy

    def numbered(self, numbers: Sequence[int]) -> TooLong:
        """The same, of an item whose batch consists of the items of these numbers."""
        return TooLong(numbers[self.item], self.shown, self.cut_off, self.remedy)


@dataclass
class Cuts:
    """What was cut off of how many items.

    Attributes:
        items: all of them.
        cut: items that lost their end.
        tokens: that were lost.
    """

    items: int = 0
    cut: int = 0
    tokens: int = 0

    def add(self, inputs: Inputs) -> None:
        """Count the items of a batch."""
        self.items += len(inputs) if inputs.owners is None else len(torch.unique(inputs.owners))
        if inputs.cut_off is not None:
            self.cut += int((inputs.cut_off > 0).sum())
            self.tokens += int(inputs.cut_off.sum())

    def said(self, remedy: str = 'long="windows" reads all of them, long="error" refuses them') -> str:
        """A line for people; "" if nothing was cut."""
        if not self.cut:
            return ""
        return (
            f"{self.cut:,} of {self.items:,} items are longer than the encoder takes: {self.tokens:,} tokens at their "
            f"ends are cut off; {remedy}"
        )


def inputs_of(modality: Modality, items: Sequence[object], about: Mapping[str, object], long: Long = "cut") -> Inputs:
    """Items side by side as an encoder takes them.

    Args:
        modality: what the items are.
        items: what its `read_item`, `from_record` or `request.read` gave.
        about: the encoder's config.json.
        long: what to do with items that are longer than the encoder takes.

    Raises:
        TooLong: an item is so, and `long` is `error`.
        DataError: an item that cannot be used.
        ConfigError: another word for `long`.
    """
    inputs = modality.to_inputs(items, about)
    if inputs.cut_off is None or not bool((inputs.cut_off > 0).any()):
        check_long(long)
        return inputs
    if check_long(long) == "windows":
        return modality.to_windows(items, about)
    if long == "error":
        number = int(torch.nonzero(inputs.cut_off)[0])
        item = items[number]
        shown = f", {item[:SHOWN_CHARACTERS]!r} ...," if isinstance(item, str) else ""
        remedy = "give a shorter one, or take cut or windows for long"
        raise TooLong(number, shown, int(inputs.cut_off[number]), remedy)
    return inputs
