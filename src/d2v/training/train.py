"""A whole training: from a prepared folder to an encoder, however often it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from d2v.config import RunConfig
from d2v.data.batch_sampler import Order, open_order
from d2v.data.disk import full_disk_named, write_json
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launch import Place, check_distributed, find_place
from d2v.distributed.process_group import Ranks, meet
from d2v.distributed.watchdog import Watchdog
from d2v.errors import CheckpointError, ConfigError, Interrupted
from d2v.modalities.base import Modality, PreparedData
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.progress import say
from d2v.tracker import NullTracker, Tracker
from d2v.training import checkpoint, resume
from d2v.training.data_loader import Feed
from d2v.training.engine import Engine, open_engine
from d2v.training.history import History
from d2v.training.loop import Loop, Probe
from d2v.training.matmul import Library, choose_library, keep_library, multiplied_by
from d2v.training.memory import freed_memory_kept, old_objects_uncollected
from d2v.training.performance import PEAK_MEMORY_MB, TRAINED_S, duration, total_flops
from d2v.training.precision import Precision, choose_precision
from d2v.training.states import whole_weights
from d2v.training.summary import summarise

KEPT = "What was written before is whole: the run goes on from its last checkpoint."

Build = Callable[[Any, Any], Objective]

Export = Callable[[Path, Objective, WeightsOf], None]


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
    recipe: RunConfig,
    prepared: Path,
    out: Path,
    tracker: Tracker | None = None,
    probe: Probe | None = None,
    export: Export | None = None,
    build: Build = build_objective,
    at: str = "train",
    origin: str = "",
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
        export: called as (folder, objective, weights_of) on every rank at the end, to write the encoder for users.
        build: (modality, recipe) -> what is trained.
        at: the recipe's block, for messages.
        origin: digest of the weights that `build` starts from, if they are not random: part of the run's identity.

    Raises:
        ConfigError, DataError: the recipe does not fit this machine, the ranks or the data.
        CheckpointError: another unfinished run is in `out` or is being trained there, all its checkpoints are damaged,
            or a disk is full.
        CollapseError: representations collapsed, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
    """
    place, timeout_s = _own_place(recipe), recipe.distributed.timeout_s
    with (
        Interrupts() as interrupts,
        meet(place, timeout_s, interrupts) as ranks,
        Watchdog(place, ranks.store, timeout_s, interrupts) as watchdog,
        resume.alone_in(out, place.leads),
        full_disk_named(out, CheckpointError, KEPT),
    ):
        data = modality.open(prepared)
        identity = (resume.shaping(recipe), f"{data.fingerprint}+{origin}" if origin else data.fingerprint)
        _agree(ranks, identity)
        begin = ranks.from_lead(_begin(f"{modality.name}.{at}", recipe, identity, out) if place.leads else None)
        if isinstance(begin, TrainResult):
            return begin
        order = open_order(recipe, data.num_train, data.train_lengths(recipe))
        tracker = tracker if tracker and place.leads else NullTracker()
        run = _Run(modality, recipe, data, order, out, tracker, interrupts, watchdog, ranks, probe, export, build)
        result = run.finish(begin, identity)
        _stop_if_asked(interrupts, out)
        return result


def _own_place(recipe: RunConfig) -> Place:
    """This rank's place, if it is one of as many as the recipe says."""
    check_distributed(recipe.distributed)
    place = find_place()
    if place.ranks != recipe.distributed.ranks:
        raise ConfigError(
            f"train.distributed.ranks {recipe.distributed.ranks}: this process is one of {place.ranks}; let "
            "d2v.distributed.launch.launch call train on every rank, as d2v.pretraining.pretrain.pretrain does."
        )
    return place


def _stop_if_asked(interrupts: Interrupts, out: Path) -> None:
    """A signal that came after the last update must still end the command."""
    if by := interrupts.requested:
        message = f"Stopped by {by}. The training in {out} is finished; the same command goes on from there."
        raise Interrupted(message, by=by)


def _agree(ranks: Ranks, identity: tuple[dict[str, Any], str]) -> None:
    """Refuse to train if the ranks would not do the same."""
    for rank, (recipe, fingerprint) in enumerate(ranks.of_all(identity)):
        for what, same in (("recipe", recipe == identity[0]), ("prepared data", fingerprint == identity[1])):
            if not same:
                raise ConfigError(
                    f"rank {rank} has another {what} than rank {ranks.place.rank}: start all ranks with the same "
                    "command, in the same revision, on folders that all machines share."
                )


def _begin(
    block: str, recipe: RunConfig, identity: tuple[dict[str, Any], str], out: Path
) -> TrainResult | checkpoint.Checkpoint | None:
    """What is there already: a finished run, a checkpoint to go on from, or nothing."""
    return _finished(block, recipe, identity, out) or _resume_point(block, recipe, identity, out)


def _finished(block: str, recipe: RunConfig, identity: tuple[Any, str], out: Path) -> TrainResult | None:
    """The result of a finished run of this identity; any other finished run moves aside."""
    if recipe.resume == "restart":
        resume.move_aside(out, "train.resume=restart")
        return None
    result = resume.finished_result(out)
    if result is None:
        return None
    lines = resume.differences(block, type(recipe), (result["recipe"], result["data_fingerprint"]), identity)
    if lines:
        resume.move_aside(out, f"the finished run was another one ({'; '.join(lines)})")
        return None
    say(f"train: the run in {out} is finished ({result['updates']} updates)")
    return TrainResult(out, result["updates"], result["metrics"], result["updates"], result["tracker_run_id"])


def _resume_point(block: str, recipe: RunConfig, identity: tuple[Any, str], out: Path) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from; refuses one of another run."""
    found = checkpoint.newest(out / "checkpoints")
    if found is not None:
        old = (found.state.recipe, found.state.data_fingerprint)
        resume.refuse_differences(block, resume.differences(block, type(recipe), old, identity), out)
    return found


@dataclass
class _Run:
    """The phases of a run that is not finished yet."""

    modality: Modality
    recipe: RunConfig
    data: PreparedData
    order: Order
    out: Path
    tracker: Tracker
    interrupts: Interrupts
    watchdog: Watchdog
    ranks: Ranks
    probe: Probe | None
    export: Export | None
    build: Build

    def finish(self, found: checkpoint.Checkpoint | None, identity: tuple[dict[str, Any], str]) -> TrainResult:
        """Build, resume, say what will happen, loop, export."""
        began = time.monotonic()
        precision, reason = self._precision(found)
        library, why = self._library(found, precision)
        objective = self.build(self.modality, self.recipe)
        state = found.state if found else checkpoint.RunState(0, *identity, precision)
        state.library = library
        start = state.update
        if found:
            checkpoint.load_weights(found, objective)
        device = self.ranks.place.device
        with (
            multiplied_by(library),
            freed_memory_kept(device),
            old_objects_uncollected(),
            open_engine(objective, self.recipe, self.ranks, precision) as engine,
        ):
            history = checkpoint.load_rest(found, objective, engine) if found else History()
            self._announce(objective, engine, state, "; ".join(filter(None, (reason, why))))
            self._loop(objective, engine, state, history).run()
            self._export(objective, engine)
            flops = total_flops(objective, self.order, state.update)
            result = self._result(state, history, start)
            if self.ranks.place.leads:
                self._write_result(state, history, precision, flops)
                say(f"train: finished {state.update} updates, {duration(time.monotonic() - began)} in this session")
            self.ranks.wait()
        return result

    def _precision(self, found: checkpoint.Checkpoint | None) -> tuple[Precision, str]:
        """A resumed run keeps its format, whatever a new measurement would say."""
        if found is not None and self.recipe.precision == "auto":
            return ("bf16" if found.state.precision == "bf16" else "fp32"), "as in the checkpoint"
        return self.ranks.from_lead(choose_precision(self.recipe.precision, self.ranks.place.device))

    def _library(self, found: checkpoint.Checkpoint | None, precision: Precision) -> tuple[Library, str]:
        """What multiplies float32 matrices, the same on all ranks; a resumed run keeps it."""
        wanted, device = self.recipe.float32_matmul, self.ranks.place.device
        if found is not None and precision == "fp32" and wanted == "auto":
            return self.ranks.from_lead(keep_library(found.state.library, device))
        return self.ranks.from_lead(choose_library(wanted, precision, device))

    def _announce(self, objective: Objective, engine: Engine, state: checkpoint.RunState, reason: str) -> None:
        for line in summarise(self.recipe, objective, engine, self.order, state.update, reason):
            say(line)
        tags = {"modality": self.modality.name, "data_fingerprint": self.data.fingerprint}
        self.tracker.set_tags(tags | {"precision": engine.precision, "device": engine.place.device.type})

    def _loop(self, objective: Objective, engine: Engine, state: checkpoint.RunState, history: History) -> Loop:
        state.tracker_run_id = self.tracker.run_id or state.tracker_run_id
        if self.ranks.place.leads:
            self.out.mkdir(parents=True, exist_ok=True)
            if history.rows:  # those after the resume point will come again
                history.write(self.out / "history.csv")
            else:
                (self.out / "history.csv").unlink(missing_ok=True)
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
            watchdog=self.watchdog,
            probe=self.probe,
        )

    def _export(self, objective: Objective, engine: Engine) -> None:
        def weights_of(module: nn.Module, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
            return whole_weights(module, engine, wanted)

        if self.export is not None:
            self.watchdog.beat(self.recipe.max_updates, "export")
            objective.eval()
            self.export(self.out / "encoder", objective, weights_of)

    def _result(self, state: checkpoint.RunState, history: History, start: int) -> TrainResult:
        return TrainResult(self.out, state.update, history.last(), start, state.tracker_run_id)

    def _write_result(self, state: checkpoint.RunState, history: History, precision: str, flops: float) -> None:
        """`result.json` is written last and at once: its presence means that the run is finished. Its cost is that of
        all sessions: `seconds` of updates, and the most memory that rank 0 held in one of them."""
        metrics = history.last()
        content = {
            "modality": self.modality.name,
            "updates": state.update,
            "samples": self.order.samples(state.update),
            "flops": flops,
            "recipe": state.recipe,
            "data_fingerprint": state.data_fingerprint,
            "precision": precision,
            "seconds": round(metrics[TRAINED_S], 3),
            "peak_memory_mb": round(max(row.get(PEAK_MEMORY_MB, 0.0) for row in history.rows), 1),
            "tracker_run_id": state.tracker_run_id,
            "metrics": metrics,
        }
        write_json(self.out / resume.RESULT, content)
