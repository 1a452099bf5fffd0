"""Many items for a model: by length, so that little padding is computed, in batches that suit the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
import torch.nn.functional as F

from d2v.data.batch import Inputs
from d2v.models.encoder import Stem
from d2v.models.masking import rounded_up

T = TypeVar("T")

CPU_TOKENS = 768
"""Of a batch, for each thread of the CPU: what a block makes of them then stays in its caches. Images of 196 tokens,
texts and recordings are 1.4 to 1.6 times as fast so as in larger batches (docs/performance.md)."""
WINDOW_BATCHES = 16


@dataclass(frozen=True)
class BatchSize:
    """The most that is computed at a time.

    Attributes:
        items: at most so many.
        tokens: and so many, with padding, unless one item alone has more; None: any number.
    """

    items: int
    tokens: int | None = None

    @classmethod
    def on(cls, device: torch.device, items: int) -> BatchSize:
        """What suits a device."""
        return cls(items, CPU_TOKENS * torch.get_num_threads() if device.type == "cpu" else None)

    def of(self, tokens: int) -> int:
        """Items of so many tokens that are one batch."""
        return self.items if self.tokens is None else max(1, min(self.items, self.tokens // max(1, tokens)))

    def windows(self, items: Iterable[T], tokens_of: Callable[[T], int]) -> Iterator[list[T]]:
        """Items that are sorted among themselves: several batches of them, or one where all are alike."""
        window: list[T] = []
        lengths: set[int] = set()
        at_a_time = self.items
        for item in items:
            window.append(item)
            lengths.add(tokens_of(item))
            at_a_time = self.of(max(lengths))
            if len(window) >= at_a_time * (WINDOW_BATCHES if len(lengths) > 1 else 1):
                yield window
                window, lengths = [], set()
        if window:
            yield window

    def by_length(self, tokens: Sequence[int]) -> list[list[int]]:
        """Numbers of items of so many tokens, a batch at a time; the longest come first, so that what needs the most
        memory needs it at once."""
        order = sorted(range(len(tokens)), key=lambda number: -tokens[number])
        batches, first = [], 0
        while first < len(order):
            batches.append(order[first : first + self.of(rounded_up(tokens[order[first]]))])
            first += len(batches[-1])
        return batches


def in_repeating_shape(inputs: Inputs, stem: Stem) -> Inputs:
    """Sequences with zeros behind, so that other batches are as long: at most a sixteenth more. A CPU compiles kernels
    for every new length, which takes as long as a batch of a small encoder, and keeps them."""
    if inputs.lengths is None or not stem.rounds_lengths or not inputs.values.is_cpu:
        return inputs
    positions = inputs.values.shape[1]
    return replace(inputs, values=F.pad(inputs.values, (0, rounded_up(positions) - positions)))
