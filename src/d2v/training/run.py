"""A whole training: from a prepared folder to an encoder, however often it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2v.config import TrainConfig
from d2v.data.disk import full_disk_named, write_json
from d2v.data.order import Order, open_order
from d2v.errors import CheckpointError
from d2v.modalities.base import Modality, PreparedData
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.progress import say
from d2v.training import checkpoint, resume
from d2v.training.engine import Engine, open_engine
from d2v.training.feed import Feed
from d2v.training.history import History
from d2v.training.interrupts import Interrupts
from d2v.training.launch import Place, check_place, local_place
from d2v.training.loop import Loop, Probe
from d2v.training.performance import duration, total_flops
from d2v.training.precision import Precision, choose_precision
from d2v.training.summary import summarise
from d2v.training.tracker import NullTracker, Tracker

KEPT = "What was written before is whole: the run goes on from its last checkpoint."

Export = Callable[[Path, Objective], None]


@dataclass(frozen=True)
class TrainResult:
    """What a training left in its folder.

    Attributes:
        folder: the run folder with `checkpoints/`, `history.csv`, `result.json` and `encoder/`.
        updates: updates done.
        metrics: the last value of every logged metric.
        resumed_from: updates that were already done when this call began.
        tracker_run_id: the tracked run that trained it, if any.
    """

    folder: Path
    updates: int
    metrics: dict[str, float] = field(default_factory=dict)
    resumed_from: int = 0
    tracker_run_id: str | None = None

    @property
    def encoder(self) -> Path:
        """The exported encoder's folder."""
        return self.folder / "encoder"

    @property
    def history(self) -> Path:
        """The table of metrics."""
        return self.folder / "history.csv"


def train(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    tracker: Tracker | None = None,
    probe: Probe | None = None,
    export: Export | None = None,
) -> TrainResult:
    """Train, or go on training, until the recipe's last update.

    The same call resumes an interrupted run, returns at once for a finished one, and after a change of recipe or
    data moves a finished run aside and refuses to touch an unfinished one.

    Args:
        modality: what the data is.
        recipe: the modality's `train` block.
        prepared: folder that prepare left.
        out: run folder.
        tracker: gets metrics.
        probe: student -> metrics, called every `probe_every_updates` and at the end.
        export: called as (folder, objective) at the end, to write the encoder for users.

    Raises:
        ConfigError, DataError: the recipe does not fit this machine or the data.
        CheckpointError: another unfinished run is in `out`, all its checkpoints are damaged, or a disk is full.
        CollapseError: representations collapsed, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    check_place(recipe.distributed)
    with Interrupts() as interrupts, full_disk_named(out, CheckpointError, KEPT):
        data = modality.open(prepared)
        order = open_order(recipe, data.num_train, data.train_lengths(recipe))
        identity = (resume.shaping(recipe), data.fingerprint)
        if finished := _finished(modality.name, recipe, identity, out):
            return finished
        found = _resume_point(modality.name, identity, out)
        run = _Run(modality, recipe, data, order, out, tracker or NullTracker(), interrupts, probe, export)
        return run.finish(found, identity)


def _finished(modality: str, recipe: TrainConfig, identity: tuple[Any, str], out: Path) -> TrainResult | None:
    """The result of a finished run of this identity; any other finished run moves aside."""
    if recipe.resume == "restart":
        resume.move_aside(out, "train.resume=restart")
        return None
    result = resume.finished_result(out)
    if result is None:
        return None
    lines = resume.differences(modality, (result["recipe"], result["data_fingerprint"]), identity)
    if lines:
        resume.move_aside(out, f"the finished run was another one ({'; '.join(lines)})")
        return None
    say(f"train: the run in {out} is finished ({result['updates']} updates)")
    return TrainResult(out, result["updates"], result["metrics"], result["updates"], result["tracker_run_id"])


def _resume_point(modality: str, identity: tuple[Any, str], out: Path) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from; refuses one of another run."""
    found = checkpoint.newest(out / "checkpoints")
    if found is not None:
        old = (found.state.recipe, found.state.data_fingerprint)
        resume.refuse_differences(modality, resume.differences(modality, old, identity), out)
    return found


@dataclass
class _Run:
    """The phases of a run that is not finished yet."""

    modality: Modality
    recipe: TrainConfig
    data: PreparedData
    order: Order
    out: Path
    tracker: Tracker
    interrupts: Interrupts
    probe: Probe | None
    export: Export | None

    def finish(self, found: checkpoint.Checkpoint | None, identity: tuple[dict[str, Any], str]) -> TrainResult:
        """Build, resume, say what will happen, loop, export."""
        began = time.monotonic()
        place = local_place()
        precision, reason = self._precision(found, place)
        objective = build_objective(self.modality, self.recipe)
        state = found.state if found else checkpoint.RunState(0, *identity, precision)
        start = state.update
        with open_engine(objective, self.recipe, place, precision) as engine:
            history = checkpoint.load(found, objective, engine) if found else History()
            self._announce(objective, engine, state, reason)
            loop = self._loop(objective, engine, state, history)
            loop.run()
            self._export(objective)
        flops = total_flops(objective, self.order, state.update)
        return self._write_result(state, history, precision, start, time.monotonic() - began, flops)

    def _precision(self, found: checkpoint.Checkpoint | None, place: Place) -> tuple[Precision, str]:
        """A resumed run keeps its format, whatever a new measurement would say."""
        if found is not None and self.recipe.precision == "auto":
            return ("bf16" if found.state.precision == "bf16" else "fp32"), "as in the checkpoint"
        return choose_precision(self.recipe.precision, place.device)

    def _announce(self, objective: Objective, engine: Engine, state: checkpoint.RunState, reason: str) -> None:
        for line in summarise(self.recipe, objective, engine, self.order, state.update, reason):
            say(line)
        tags = {"modality": self.modality.name, "data_fingerprint": self.data.fingerprint}
        self.tracker.set_tags(tags | {"precision": engine.precision, "device": engine.place.device.type})

    def _loop(self, objective: Objective, engine: Engine, state: checkpoint.RunState, history: History) -> Loop:
        state.tracker_run_id = self.tracker.run_id or state.tracker_run_id
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "history.csv").unlink(missing_ok=True)  # rows after the resume point will come again
        if history.rows:
            history.write(self.out / "history.csv")
        return Loop(
            recipe=self.recipe,
            objective=objective,
            engine=engine,
            feed=Feed(self.data, self.order, self.recipe, engine.place, state.update),
            order=self.order,
            state=state,
            history=history,
            folder=self.out,
            tracker=self.tracker,
            interrupts=self.interrupts,
            probe=self.probe,
        )

    def _export(self, objective: Objective) -> None:
        if self.export is not None:
            objective.eval()
            self.export(self.out / "encoder", objective)

    def _write_result(
        self,
        state: checkpoint.RunState,
        history: History,
        precision: str,
        start: int,
        seconds: float,
        flops: float,
    ) -> TrainResult:
        """`result.json` is written last and at once: its presence means that the run is finished."""
        metrics = {name: value for row in history.rows for name, value in row.items() if name != "update"}
        content = {
            "modality": self.modality.name,
            "updates": state.update,
            "samples": self.order.samples(state.update),
            "flops": flops,
            "recipe": state.recipe,
            "data_fingerprint": state.data_fingerprint,
            "precision": precision,
            "seconds": round(seconds, 1),
            "tracker_run_id": state.tracker_run_id,
            "metrics": metrics,
        }
        write_json(self.out / resume.RESULT, content)
        say(f"train: finished {state.update} updates, {duration(seconds)} in this session")
        return TrainResult(self.out, state.update, metrics, start, state.tracker_run_id)
