"""The time of each section of an update."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from d2v.objectives.base import Objective
from d2v.training.engine import Engine

PARTS = ("masks", "teacher", "student", "decoder", "backward", "optimizer", "ema", "other")
"""In the order of an update. `student` is its forward pass, with the stem; `decoder` is forward, with the projection;
`backward` is of both. Of an objective without a teacher, `teacher` is what makes its targets; `other` is the loss,
noise, data2vec 1.0's head, statistics and what is between the parts."""


class Sections:
    """Seconds of the parts of updates done inside `timed`.

    Args:
        objective: what is trained.
        engine: runs it.

    Attributes:
        seconds: part -> total.
    """

    def __init__(self, objective: Objective, engine: Engine) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._device, self._is_within = engine.env.device, False
        decoder = getattr(objective, "decoder", None)
        found = (
            (objective, "draw_masks", "masks"),
            (objective, "teacher_local", "teacher"),
            (objective, "targets", "teacher"),
            (objective, "targets_of", "teacher"),
            (objective.student.stem, "forward", "student"),
            (objective.student, "encode", "student"),
            (objective.student, "encode_some", "student"),
            (decoder, "fill_in", "decoder"),
            (decoder, "forward", "decoder"),
            (getattr(decoder, "projection", None), "forward", "decoder"),
            (engine, "backward", "backward"),
            (engine, "step", "optimizer"),
            (objective, "update_teacher", "ema"),
        )
        self._calls = [(owner, name, part) for owner, name, part in found if hasattr(owner, name)]

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Inside, the parts are timed; a GPU is waited for at both ends of each."""
        for owner, name, part in self._calls:
            setattr(owner, name, self._timing(getattr(owner, name), part))
        known, began = sum(self.seconds.values()), self._now()
        try:
            yield
            self.seconds["other"] += self._now() - began - (sum(self.seconds.values()) - known)
        finally:
            for owner, name, _ in self._calls:
                delattr(owner, name)

    def _timing(self, call: Any, part: str) -> Any:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._is_within:  # a part calls another
                return call(*args, **kwargs)
            self._is_within, began = True, self._now()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[part] += self._now() - began
                self._is_within = False

        return timed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
