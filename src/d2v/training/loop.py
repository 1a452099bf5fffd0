"""The loop: batch -> masks -> teacher targets -> student -> decoder -> loss -> backward -> step -> EMA, and what is
called around it.

Everything that is not training (metrics, probes, the history, checkpoints, stops) is a `Callback`; those of every run
are in `d2v.training.callbacks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from d2v.config import RunConfig
from d2v.data.batch import Batch
from d2v.data.batch_sampler import BatchSampler
from d2v.distributed.watchdog import Watchdog
from d2v.objectives.base import Objective
from d2v.progress import Progress
from d2v.training.checkpoint import RunState
from d2v.training.data_loader import BatchLoader
from d2v.training.engine import Engine
from d2v.training.history import History
from d2v.training.step import train_step

FIRST_LOG = 10
"""The update after which metrics are logged for the first time where the interval is longer, so that a wrong setting
shows at once."""


@dataclass(frozen=True)
class Due:
    """What follows an update.

    Attributes:
        log: a row of metrics with all that the updates told.
        probe: the probe's metrics in that row.
        save: a checkpoint.
        validate: a validation in that row.
    """

    log: bool
    probe: bool
    save: bool
    validate: bool = False


class Callback:
    """Something around the loop, with a state of its own. Each method is called for all callbacks in the order of the
    loop's list, on every rank (`record` on rank 0 alone), so collectives are allowed in all but `record`."""

    def on_start(self, loop: Loop) -> None:
        """Before the first update of this session."""

    def on_wait(self, loop: Loop) -> None:
        """Waiting for the data of an update begins."""

    def on_batches(self, loop: Loop, micro_batches: Sequence[Batch]) -> None:
        """The data of an update is there."""

    def on_step_metrics(self, values: dict[str, Tensor]) -> None:
        """Metrics of a micro-batch or of an update, () tensors on the device, not to be looked at yet."""

    def after_update(self, loop: Loop, due: Due) -> None:
        """`loop.state.update` updates are done."""

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """Metrics for the row that is due. `batch` is the update's first micro-batch."""
        return {}

    def record(self, loop: Loop, due: Due, metrics: dict[str, float]) -> None:
        """The row is whole."""

    def finish_update(self, loop: Loop, due: Due) -> None:
        """Save or stop."""

    def before_save(self, loop: Loop) -> None:
        """A checkpoint is about to be written: put what must survive into `loop.state`."""


@dataclass
class Loop:
    """One run's updates on one rank, from where its state stands to the last.

    Attributes:
        recipe: the training block.
        objective: student, teacher, decoder and loss.
        engine: runs it.
        loader: micro-batches from `state.update` on.
        sampler: which samples an update takes.
        state: updates done, and what a checkpoint says beside weights.
        history: metrics logged so far.
        folder: the run folder, for `checkpoints/` and `history.csv`.
        watchdog: told what this rank does.
        has_probe: whether a callback probes.
        validate_every: updates between two validations; None for none.
        callbacks: what happens around the updates, in this order.
        progress_line: what stands behind the progress bar after an update; None leaves it.
    """

    recipe: RunConfig
    objective: Objective
    engine: Engine
    loader: BatchLoader
    sampler: BatchSampler
    state: RunState
    history: History
    folder: Path
    watchdog: Watchdog
    has_probe: bool
    callbacks: Sequence[Callback] = ()
    validate_every: int | None = None
    progress_line: str | None = field(default=None, init=False)

    @property
    def checkpoints(self) -> Path:
        """The run's checkpoint folder."""
        return self.folder / "checkpoints"

    def has_stopped(self) -> bool:
        """Whether validations ended the run before its last update."""
        return bool(self.state.selection.get("stopped"))

    def begin(self, phase: str) -> None:
        """Tell the watchdog that this rank begins a phase, one of `d2v.distributed.watchdog.PHASES`."""
        self.watchdog.heartbeat(self.state.update, phase)

    def run(self) -> None:
        """Train until `max_updates`, or until validations end the run.

        Raises:
            CollapseError: representations collapsed or a loss is not finite.
            CheckpointError: a checkpoint cannot be written.
            Interrupted: Ctrl-C or SIGTERM; everything is saved.
        """
        if self.has_stopped():
            return
        self.objective.train()
        with (
            Progress("train", self.recipe.max_updates, self.state.update) as progress,
            closing(self.loader.updates()) as updates,
        ):
            for callback in self.callbacks:
                callback.on_start(self)
            self._wait()
            for micro_batches in updates:
                for callback in self.callbacks:
                    callback.on_batches(self, micro_batches)
                on_device = [batch.to(self.engine.env.device) for batch in micro_batches]
                train_step(
                    self.recipe, self.objective, self.engine, self.state.update, on_device, self._note, self.begin
                )
                self.state.update += 1
                self._call_back(on_device[0])
                progress.advance(1, self.progress_line)
                if self.has_stopped():
                    return
                self._wait()

    def _wait(self) -> None:
        self.begin("data")
        for callback in self.callbacks:
            callback.on_wait(self)

    def _note(self, values: dict[str, Tensor]) -> None:
        for callback in self.callbacks:
            callback.on_step_metrics(values)

    def _due(self) -> Due:
        done, recipe = self.state.update, self.recipe
        last, probe_every = done == recipe.max_updates, recipe.probe_every_updates
        validate = self.validate_every is not None and (last or done % self.validate_every == 0)
        return Due(
            log=last
            or validate
            or done % recipe.log_every_updates == 0
            or done == FIRST_LOG < recipe.log_every_updates,
            probe=self.has_probe and (last or (probe_every > 0 and done % probe_every == 0)),
            save=last or done % recipe.checkpoint.every_updates == 0,
            validate=validate,
        )

    def _call_back(self, batch: Batch) -> None:
        due, self.progress_line = self._due(), None
        for callback in self.callbacks:
            callback.after_update(self, due)
        if due.log or due.probe:
            self.begin("log")
            metrics: dict[str, float] = {}
            for callback in self.callbacks:
                metrics |= callback.measure(self, due, batch)
            if self.engine.env.is_main:
                for callback in self.callbacks:
                    callback.record(self, due, metrics)
        for callback in self.callbacks:
            callback.finish_update(self, due)
