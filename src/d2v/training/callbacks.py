"""What happens around the loop of every run. To add something, write a `Callback` here and name it in
`standard_callbacks`.

A metric of the row that is logged every `log_every_updates` updates comes from `measure`, if `due.log`. A figure that
each batch tells is one of the objective's `LossOutput.statistics`; `StepMetrics` logs its mean. `Loop._due` says what
is due when.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

import torch
from torch import Tensor

from d2v.data.batch import Batch
from d2v.distributed.interrupts import Interrupts
from d2v.errors import Interrupted
from d2v.progress import log
from d2v.tracker import Tracker
from d2v.training import checkpoint
from d2v.training.engine import Engine
from d2v.training.job import Job, Selection
from d2v.training.loop import Callback, Due, Loop
from d2v.training.monitor import Window, check_collapse, non_finite_error, position_warning, watch
from d2v.training.performance import TRAINED_S, Stopwatch, progress_line
from d2v.training.schedule import learning_rate
from d2v.training.states import norms, whole_student, whole_weights


def standard_callbacks(
    job: Job,
    engine: Engine,
    stopwatch: Stopwatch,
    state: checkpoint.RunState,
    tracker: Tracker,
    interrupts: Interrupts,
) -> list[Callback]:
    """Those of every run. The order is that of a row's columns, and of what comes first: a bad loss stops before it is
    logged, a row is written before a collapse stops the run, and a checkpoint before a signal does.

    Args:
        job: its probe.
        engine: for means over ranks.
        stopwatch: the run's stopwatch.
        state: where the run was left.
        tracker: gets every row.
        interrupts: asked after each update.
    """
    checkpoints = Checkpoints(stopwatch, state.update)
    return [
        FiniteLoss(),
        StepMetrics(Window(state.window, engine.group.all_reduce_mean)),
        Speed(stopwatch),
        Monitor(stopwatch),
        *([OnlineProbing(job, stopwatch)] if job.probe else []),
        *([Validation(job.selection, stopwatch)] if job.selection else []),
        HistoryLog(tracker),
        PositionWarning(),
        CollapseStop(state.last_healthy),
        checkpoints,
        StopOnSignal(interrupts, checkpoints),
    ]


class FiniteLoss(Callback):
    """Stops a run whose loss or gradient is not finite, before that is logged or saved. Where the answer waits for the
    device it is asked for only then."""

    def after_update(self, loop: Loop, due: Due) -> None:
        """Ask."""
        if not loop.engine.waits_to_tell or due.log or due.probe:
            self.before_save(loop)

    def before_save(self, loop: Loop) -> None:
        """Raises CollapseError."""
        bad = loop.engine.first_bad_update()
        if bad is not None:
            rows = loop.sampler.at(bad).indices.tolist()
            raise non_finite_error(bad, rows, loop.engine.env.rank, loop.checkpoints)


class StepMetrics(Callback):
    """Means over the updates since the last log of what objective and engine tell, learning rate and EMA decay."""

    def __init__(self, window: Window) -> None:
        self._window = window

    def on_step_metrics(self, values: dict[str, Tensor]) -> None:
        """Keep them on the device."""
        self._window.add(values)

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """`train/*` and `data/epoch`."""
        if not due.log:
            return {}
        done, recipe = loop.state.update, loop.recipe
        metrics = self._window.take_means()
        metrics["train/lr"] = learning_rate(recipe.schedule, recipe.optimizer.lr, done - 1, recipe.max_updates)
        decay = loop.objective.teacher_decay(done)
        if decay is not None:
            metrics["train/ema_decay"] = decay
        return metrics | {"data/epoch": loop.sampler.epochs(done)}

    def before_save(self, loop: Loop) -> None:
        """A window that a checkpoint cuts in two is kept."""
        loop.state.window = dict(self._window.to_lists())


class Speed(Callback):
    """Throughput, times of data and step, memory."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def on_wait(self, loop: Loop) -> None:
        """The clock of the data runs."""
        self._stopwatch.start()

    def on_batches(self, loop: Loop, micro_batches: Sequence[Batch]) -> None:
        """The clock of the step runs."""
        self._stopwatch.data_ready(micro_batches)

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """`perf/*`."""
        return (self._stopwatch.read() if due.log else {}) | {TRAINED_S: self._stopwatch.trained_s()}

    def record(self, loop: Loop, due: Due, metrics: dict[str, float]) -> None:
        """The line behind the progress bar."""
        if due.log:
            loop.progress_line = progress_line(metrics, self._stopwatch.seconds_left(loop.state.update))

    def before_save(self, loop: Loop) -> None:
        """Seconds go on where they were."""
        loop.state.window[TRAINED_S] = [self._stopwatch.trained_s()]


class Monitor(Callback):
    """Norms of student and teacher, spread and rank of the student's features."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        self._stopwatch = stopwatch

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """`train/student_norm`, `train/teacher_norm`, `features/*`."""
        if not due.log:
            return {}
        objective, engine = loop.objective, loop.engine
        with self._stopwatch.paused():
            teacher = {} if objective.teacher is None else {"train/teacher_norm": objective.teacher}
            metrics = norms({"train/student_norm": objective.student, **teacher}, engine)
            with whole_student(objective, engine) as student, torch.no_grad():
                return metrics | (watch(student, batch) if engine.env.is_main else {})


class OnlineProbing(Callback):
    """The job's probes of the student and of the whole objective."""

    def __init__(self, job: Job, stopwatch: Stopwatch) -> None:
        self._probe, self._whole_probe, self._stopwatch = job.probe, job.whole_probe, stopwatch

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """`online/*`."""
        if not due.probe or self._probe is None:
            return {}
        with self._stopwatch.paused(), torch.no_grad():
            weights = whole_weights(loop.objective, loop.engine) if self._whole_probe else {}
            with whole_student(loop.objective, loop.engine) as student:
                if not loop.engine.env.is_main:
                    return {}
                loop.begin("probe")
                metrics = self._probe(student, loop.state.update)
            return metrics | (self._whole_probe(weights, loop.state.update) if self._whole_probe else {})


class Validation(Callback):
    """Measures the run on items that it does not train on, keeps the best state, and ends a run that gets no better."""

    def __init__(self, selection: Selection, stopwatch: Stopwatch) -> None:
        self._selection, self._stopwatch = selection, stopwatch

    def measure(self, loop: Loop, due: Due, batch: Batch) -> dict[str, float]:
        """`val/*`."""
        if not due.validate:
            return {}
        objective, engine = loop.objective, loop.engine
        loop.begin("probe")
        with self._stopwatch.paused(), torch.no_grad():
            beside = whole_weights(objective, engine, lambda name: not name.startswith(("student.", "teacher.")))
            metrics: dict[str, float] = {}
            with whole_student(objective, engine) as student:
                if engine.env.is_main:
                    metrics = self._selection.measure(student, beside, lambda: loop.begin("probe"))
            metrics = engine.group.broadcast_object(metrics)
            self._note(loop, metrics[self._selection.metric])
        return metrics

    def _note(self, loop: Loop, value: float) -> None:
        """Keep this state if it is the best; else wait, at most as long as patience lasts."""
        before, update = loop.state.selection, loop.state.update
        if not before or self._selection.is_better(value, before["value"]):
            loop.state.selection = {"value": value, "update": update, "waited": 0, "stopped": 0}
            loop.state.best = whole_weights(loop.objective, loop.engine, lambda name: not name.startswith("teacher."))
            return
        waited, patience = before["waited"] + 1, self._selection.patience
        stopped = patience is not None and waited >= patience and update < loop.recipe.max_updates
        loop.state.selection = before | {"waited": waited, "stopped": int(stopped)}
        if stopped:
            log(
                f"train: {self._selection.metric} was best after update {before['update']:.0f} ({before['value']:.4g}) "
                f"and {waited:.0f} validations since were no better: training stops after update {update}"
            )


class HistoryLog(Callback):
    """Every row goes into `history.csv` and to the tracker."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def record(self, loop: Loop, due: Due, metrics: dict[str, float]) -> None:
        """Write it."""
        loop.history.add(loop.state.update, metrics, loop.folder / "history.csv")
        self._tracker.log_metrics(metrics, loop.state.update)


class PositionWarning(Callback):
    """Says once in a session that targets are mostly position."""

    def __init__(self) -> None:
        self._said = False

    def record(self, loop: Loop, due: Due, metrics: dict[str, float]) -> None:
        """Only after the warm-up."""
        warmup = loop.recipe.schedule.warmup(loop.recipe.max_updates)
        if self._said or not due.log or loop.state.update <= warmup:
            return
        if line := position_warning(loop.recipe.monitor, metrics):
            log(f"train: update {loop.state.update}: {line}")
            self._said = True


class CollapseStop(Callback):
    """Stops a run whose representations became constant, after the evidence is logged."""

    def __init__(self, last_healthy: int) -> None:
        self._last_healthy = last_healthy

    def record(self, loop: Loop, due: Due, metrics: dict[str, float]) -> None:
        """Raises CollapseError."""
        if due.log and check_collapse(
            loop.recipe.monitor, metrics, loop.state.update, self._last_healthy, loop.checkpoints
        ):
            self._last_healthy = loop.state.update

    def before_save(self, loop: Loop) -> None:
        """A resumed run knows when it was healthy last."""
        loop.state.last_healthy = self._last_healthy


class Checkpoints(Callback):
    """Checkpoints when they are due, and when the run is told to stop."""

    def __init__(self, stopwatch: Stopwatch, saved_update: int) -> None:
        self._stopwatch, self._saved_update = stopwatch, saved_update

    def finish_update(self, loop: Loop, due: Due) -> None:
        """Save if due, and at the end of a run that ends early."""
        if due.save or loop.has_stopped():
            self.save(loop)

    def save(self, loop: Loop) -> None:
        """Write a checkpoint of this update, unless that is done. All ranks call it.

        Raises:
            CheckpointError: the disk is full or failed.
            CollapseError: the loss is not finite.
        """
        if self._saved_update == loop.state.update:
            return
        loop.begin("checkpoint")  # some callbacks wait for the other ranks
        for callback in loop.callbacks:
            callback.before_save(loop)
        keep = loop.recipe.checkpoint.keep
        with self._stopwatch.paused():
            checkpoint.save(loop.checkpoints, loop.state, loop.objective, loop.engine, loop.history, keep)
        self._saved_update = loop.state.update


class StopOnSignal(Callback):
    """Saves and stops after Ctrl-C or SIGTERM to some rank; all ranks learn of it after the same update."""

    def __init__(self, interrupts: Interrupts, checkpoints: Checkpoints) -> None:
        self._interrupts, self._checkpoints = interrupts, checkpoints

    def on_start(self, loop: Loop) -> None:
        """A signal may have come while the run was built."""
        self._stop_if_asked(loop)

    def finish_update(self, loop: Loop, due: Due) -> None:
        """Raises Interrupted."""
        self._stop_if_asked(loop)

    def _stop_if_asked(self, loop: Loop) -> None:
        asked = self._interrupts.requested
        number = loop.engine.group.lagged_max(signal.Signals[asked] if asked else 0)
        if not number:
            return
        self._checkpoints.save(loop)
        name = signal.Signals(number).name
        raise Interrupted(
            f"Stopped by {name} after update {loop.state.update} of {loop.recipe.max_updates}. "
            f"Everything is saved in {loop.folder}; the same command resumes.",
            by=name,
        )
