"""The EMA teacher.

The teacher is a frozen copy of the student's encoder with float32 parameters: 1 - tau vanishes in bfloat16, so
mixed precision casts on the way into each product (autocast) and never stores the average in 16 bits.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from d2v.models.encoder import Encoder
from d2v.models.shards import held

_Pair = tuple[nn.Parameter, nn.Parameter]


class Teacher(nn.Module):
    """An encoder that follows the student: delta <- tau * delta + (1 - tau) * theta.

    Args:
        student: the encoder to follow; the teacher starts as its copy.
        copied: name prefixes of parameters that are taken over verbatim instead of averaged.
        shared_local: whether it continues from the student's local features and needs no local encoder of its own.
    """

    def __init__(self, student: Encoder, copied: tuple[str, ...] = (), shared_local: bool = False) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(student)
        self.encoder.requires_grad_(False).eval()
        if shared_local:
            del self.encoder.stem.local
        self._copied = copied
        self._pairs: tuple[list[_Pair], list[_Pair]] | None = None

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: no dropout, no drop path."""
        return super().train(False)

    def _paired(self, student: nn.Module) -> tuple[list[_Pair], list[_Pair]]:
        """(teacher's, student's) parameters that are averaged, and those that are taken over."""
        sources = dict(student.named_parameters())
        averaged: list[_Pair] = []
        taken: list[_Pair] = []
        for name, parameter in self.encoder.named_parameters():
            source = sources[name]
            averages = source.requires_grad and not name.startswith(self._copied or ("\0",))
            (averaged if averages else taken).append((parameter, source))
        return averaged, taken

    @torch.no_grad()
    def update(self, student: nn.Module, decay: float) -> None:
        """Absorb the student with decay tau in one fused call; at tau >= 1 the teacher is frozen.

        An average of elements needs no other element, so under ZeRO-3 each rank averages its shards of teacher and
        student, which are cut alike, and nothing is communicated.
        """
        if decay >= 1.0:
            return
        self._pairs = self._pairs or self._paired(student)
        averaged, taken = ([(held(own), held(source)) for own, source in pairs] for pairs in self._pairs)
        taken += [(buffer, student.get_buffer(name)) for name, buffer in self.encoder.named_buffers()]
        torch._foreach_lerp_([own for own, _ in averaged], [source for _, source in averaged], 1.0 - decay)
        if taken:
            torch._foreach_copy_([own for own, _ in taken], [source for _, source in taken])
