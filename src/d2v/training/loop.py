"""The loop: batch -> masks -> teacher targets -> student -> decoder -> loss -> backward -> step -> EMA -> log."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from d2v.config import RunConfig
from d2v.data.batch import Batch
from d2v.data.batch_sampler import Order
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.watchdog import Watchdog
from d2v.errors import Interrupted
from d2v.models.encoder import Encoder
from d2v.objectives.base import Objective
from d2v.progress import Progress
from d2v.tracker import Tracker
from d2v.training import checkpoint
from d2v.training.data_loader import Feed
from d2v.training.engine import Engine
from d2v.training.history import History
from d2v.training.monitor import CollapseGuard, Window, non_finite_error, watch
from d2v.training.performance import TRAINED_S, Stopwatch, progress_line
from d2v.training.schedule import learning_rate
from d2v.training.states import norms, whole_student
from d2v.training.step import Updates

Probe = Callable[[Encoder], dict[str, float]]


@dataclass
class Loop:
    """One run's updates on one rank, from where its state stands to the last. Rank 0 keeps the history, the tracker and
    the checkpoints, and looks at the student.

    Attributes:
        recipe: the training block.
        objective: student, teacher, decoder and loss.
        engine: runs it.
        feed: micro-batches from `state.update` on.
        order: for naming the samples of a bad batch.
        state: updates done, and what a checkpoint says beside weights.
        history: metrics logged so far.
        folder: the run folder, for `checkpoints/` and `history.csv`.
        tracker: gets every row of the history.
        interrupts: asked after each update.
        watchdog: told what this rank does.
        probe: called with the student; its metrics are logged.
    """

    recipe: RunConfig
    objective: Objective
    engine: Engine
    feed: Feed
    order: Order
    state: checkpoint.RunState
    history: History
    folder: Path
    tracker: Tracker
    interrupts: Interrupts
    watchdog: Watchdog
    probe: Probe | None = None

    def __post_init__(self) -> None:
        self._ranks, self._leads = self.engine.ranks, self.engine.place.leads
        trained_s = sum(self.state.window.pop(TRAINED_S, []))
        self._window = Window(self.state.window, self._ranks.mean)
        self._updates = Updates(self.recipe, self.objective, self.engine, self._window.add, self._beat)
        self._guard = CollapseGuard(self.recipe.monitor, self.state.last_healthy)
        self._watch = Stopwatch(self.engine, self.objective, self.recipe, trained_s)
        self._saved_update = self.state.update

    def run(self) -> None:
        """Train until `max_updates`.

        Raises:
            CollapseError: representations collapsed or a loss is not finite.
            CheckpointError: a checkpoint cannot be written.
            Interrupted: Ctrl-C or SIGTERM; everything is saved.
        """
        self.objective.train()
        with (
            Progress("train", self.recipe.max_updates, self.state.update) as progress,
            closing(self.feed.updates()) as updates,
        ):
            self._stop_if_asked()
            self._wait_for_data()
            for micro_batches in updates:
                self._watch.data_ready(micro_batches)
                on_device = [batch.to(self.engine.place.device) for batch in micro_batches]
                self._updates.do(self.state.update, on_device)
                self.state.update += 1
                progress.advance(1, self._after_update(on_device[0]))
                self._wait_for_data()

    def _wait_for_data(self) -> None:
        self._beat("data")
        self._watch.start()

    def _beat(self, phase: str) -> None:
        self.watchdog.beat(self.state.update, phase)

    def _after_update(self, batch: Batch) -> str | None:
        """Log, probe, save and stop where due; returns the progress line if there is a new one."""
        done, recipe = self.state.update, self.recipe
        last = done == recipe.max_updates
        log_due = last or done % recipe.log_every_updates == 0
        probe_due = self.probe is not None and (
            last or (recipe.probe_every_updates > 0 and done % recipe.probe_every_updates == 0)
        )
        if not self.engine.waits_to_tell or log_due or probe_due:
            self._stop_if_not_finite()
        line = self._log(batch, log_due, probe_due) if log_due or probe_due else None
        if last or done % recipe.checkpoint.every_updates == 0:
            self.save()
        self._stop_if_asked()
        return line

    def _log(self, batch: Batch, log_due: bool, probe_due: bool) -> str | None:
        """One row for history and tracker; all ranks add to its figures."""
        self._beat("log")
        metrics: dict[str, float] = {}
        if log_due:
            metrics |= self._figures()
        metrics[TRAINED_S] = self._watch.trained_s()
        with self._watch.paused():
            metrics |= self._look_at_student(batch, log_due, probe_due)
        if not self._leads:
            return None
        self.history.add(self.state.update, metrics, self.folder / "history.csv")
        self.tracker.log_metrics(metrics, self.state.update)
        if not log_due:
            return None
        self._guard.check(metrics, self.state.update, self.folder / "checkpoints")
        return progress_line(metrics, self._watch.seconds_left(self.state.update))

    def _figures(self) -> dict[str, float]:
        """What the updates since the last log told."""
        done, recipe = self.state.update, self.recipe
        metrics = self._window.take_means()
        metrics["train/lr"] = learning_rate(recipe.schedule, recipe.optimizer.lr, done - 1, recipe.max_updates)
        decay = self.objective.teacher_decay(done)
        if decay is not None:
            metrics["train/ema_decay"] = decay
        metrics["data/epoch"] = self.order.epochs(done)
        return metrics | self._watch.read()

    def _look_at_student(self, batch: Batch, watch_due: bool, probe_due: bool) -> dict[str, float]:
        """Norms, features and probe as they are now."""
        metrics: dict[str, float] = {}
        if watch_due:
            teacher = {} if self.objective.teacher is None else {"train/teacher_norm": self.objective.teacher}
            metrics |= norms({"train/student_norm": self.objective.student, **teacher}, self.engine)
        with whole_student(self.objective, self.engine) as student, torch.no_grad():
            if self._leads and watch_due:
                metrics |= watch(student, batch)
            if self._leads and probe_due and self.probe is not None:
                self._beat("probe")
                metrics |= self.probe(student)
        return metrics

    def save(self) -> None:
        """Write a checkpoint of this update, unless that is done."""
        if self._saved_update == self.state.update:
            return
        self._stop_if_not_finite()
        self._beat("checkpoint")
        self.state.window = {**self._window.to_lists(), TRAINED_S: [self._watch.trained_s()]}
        self.state.last_healthy = self._guard.last_healthy
        with self._watch.paused():
            folder, keep = self.folder / "checkpoints", self.recipe.checkpoint.keep
            checkpoint.save(folder, self.state, self.objective, self.engine, self.history, keep)
        self._saved_update = self.state.update

    def _stop_if_not_finite(self) -> None:
        bad = self.engine.first_bad_update()
        if bad is not None:
            rows = self.order.at(bad).indices.tolist()
            raise non_finite_error(bad, rows, self.engine.place.rank, self.folder / "checkpoints")

    def _stop_if_asked(self) -> None:
        """Save and stop if some rank was told to; all ranks learn of it after the same update."""
        asked = self.interrupts.requested
        agreed = self._ranks.agreed(signal.Signals[asked] if asked else 0)
        if not agreed:
            return
        self.save()
        name = signal.Signals(agreed).name
        raise Interrupted(
            f"Stopped by {name} after update {self.state.update} of {self.recipe.max_updates}. "
            f"Everything is saved in {self.folder}; the same command resumes.",
            by=name,
        )
