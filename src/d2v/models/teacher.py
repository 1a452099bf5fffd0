"""The EMA teacher.

The teacher is a frozen copy of the student's encoder with float32 parameters: 1 - tau vanishes in bfloat16, so
mixed precision casts on the way into each product (autocast) and never stores the average in 16 bits.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from d2v.models.encoder import Encoder


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
        self._pairs: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]] | None = None

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: no dropout, no drop path."""
        return super().train(False)

    def _paired(self, student: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        """(averaged teacher, averaged student, copied teacher, copied student) tensors."""
        sources = dict(student.named_parameters())
        averaged, averaged_from, copied, copied_from = [], [], [], []
        for name, parameter in self.encoder.named_parameters():
            source = sources[name]
            if source.requires_grad and not name.startswith(self._copied or ("\0",)):
                averaged.append(parameter.data)
                averaged_from.append(source.data)
            else:
                copied.append(parameter.data)
                copied_from.append(source.data)
        for name, buffer in self.encoder.named_buffers():
            copied.append(buffer)
            copied_from.append(student.get_buffer(name))
        return averaged, averaged_from, copied, copied_from

    @torch.no_grad()
    def update(self, student: nn.Module, decay: float) -> None:
        """Absorb the student with decay tau in one fused call; at tau >= 1 the teacher is frozen."""
        if decay >= 1.0:
            return
        if self._pairs is None or not self._still_paired(student):
            self._pairs = self._paired(student)
        averaged, averaged_from, copied, copied_from = self._pairs
        torch._foreach_lerp_(averaged, averaged_from, 1.0 - decay)
        if copied:
            torch._foreach_copy_(copied, copied_from)

    def whole_state(self, student: Encoder) -> dict[str, Tensor]:
        """The state of a whole encoder: the teacher's, with the student's where it has none of its own."""
        return {**student.state_dict(), **self.encoder.state_dict()}

    def _still_paired(self, student: nn.Module) -> bool:
        """Whether the cached tensors still are the modules' own (a load or a move replaces them)."""
        if self._pairs is None:
            return False
        cached = {t.data_ptr() for group in self._pairs for t in group}
        first_student, first_teacher = next(student.parameters()), next(self.encoder.parameters())
        return first_student.data_ptr() in cached and first_teacher.data_ptr() in cached
