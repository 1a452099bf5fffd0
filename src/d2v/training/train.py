"""A whole training: from a job to its run folder, however often it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d2v.config import RunConfig
from d2v.data.batch_sampler import BatchSampler, open_batch_sampler
from d2v.data.disk import full_disk_named, write_json
from d2v.distributed.environment import DistEnv, read_dist_env
from d2v.distributed.interrupts import Interrupts
from d2v.distributed.launch import ForMain, check_distributed, launch, runs_here
from d2v.distributed.process_group import ProcessGroup, init_process_group
from d2v.distributed.watchdog import Watchdog
from d2v.errors import CheckpointError, ConfigError, Interrupted
from d2v.objectives.base import Objective
from d2v.progress import log
from d2v.tracker import NullTracker, Tracker
from d2v.training import checkpoint, resume
from d2v.training.callbacks import standard_callbacks
from d2v.training.data_loader import BatchLoader
from d2v.training.engine import Engine, open_engine
from d2v.training.history import History
from d2v.training.job import Job, TrainingData
from d2v.training.kernels import keep_kernels_of
from d2v.training.loop import Loop
from d2v.training.matmul import MatmulBackend, choose_matmul_backend, keep_matmul_backend, using_matmul_backend
from d2v.training.memory import freed_memory_kept, old_objects_uncollected
from d2v.training.performance import PEAK_MEMORY_MB, TRAINED_S, Stopwatch, duration, total_flops
from d2v.training.precision import Precision, choose_precision, emulated
from d2v.training.states import whole_weights
from d2v.training.summary import describe_device, summarise

KEPT = "What was written before is whole: the run goes on from its last checkpoint."


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


def train(job: Job, out: Path, tracker: Tracker | None = None) -> TrainResult:
    """Train, or go on training, until the recipe's last update, on as many ranks as the recipe asks for.

    The same call resumes an interrupted run, returns at once for a finished one, and after a change of recipe or
    data moves a finished run aside and refuses to touch an unfinished one.

    Args:
        job: what is trained, on what.
        out: run folder.
        tracker: where metrics go, such as an MLflow run.

    Raises:
        ConfigError, DataError: the recipe does not fit this machine, the ranks or the data.
        CheckpointError: another unfinished run is in `out` or is being trained there, all its checkpoints are damaged,
            or a disk is full.
        CollapseError: representations collapsed, or the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
        LaunchError: a rank died, hangs, or could not be started.
    """
    opened = ForMain(tracker or NullTracker())
    if runs_here(job.recipe.distributed):
        return train_rank(job, out, opened)
    return launch(job.recipe.distributed, out, train_rank, job=job, out=out, tracker=opened)


def train_rank(job: Job, out: Path, tracker: ForMain[Tracker]) -> TrainResult:
    """What every rank of a training does. Raises as `train` does."""
    recipe = job.recipe
    env, timeout_s = _own_env(recipe), recipe.distributed.timeout_s
    with (
        Interrupts() as interrupts,
        init_process_group(env, timeout_s, interrupts) as group,
        Watchdog(env, group.store, timeout_s, interrupts) as watchdog,
        resume.alone_in(out, env.is_main),
        full_disk_named(out, CheckpointError, KEPT),
    ):
        data = job.open_data()
        fingerprint = f"{data.fingerprint}+{job.origin}" if job.origin else data.fingerprint
        identity = (resume.shaping(recipe), fingerprint)
        _agree(group, identity)
        begin = group.broadcast_object(_begin(job, identity, out) if env.is_main else None)
        if isinstance(begin, TrainResult):
            return begin
        tracked = tracker.open() if env.is_main else NullTracker()
        result = _Run(job, data, out, tracked, interrupts, watchdog, group).finish(begin, identity)
        if by := interrupts.requested:  # a signal that came after the last update must still end the command
            message = f"Stopped by {by}. The training in {out} is finished; the same command goes on from there."
            raise Interrupted(message, by=by)
        return result


def _own_env(recipe: RunConfig) -> DistEnv:
    """This rank, if it is one of as many as the recipe says."""
    check_distributed(recipe.distributed)
    env = read_dist_env()
    if env.world_size != recipe.distributed.ranks:
        raise ConfigError(
            f"train.distributed.ranks {recipe.distributed.ranks}: this process is one of {env.world_size}; let "
            "d2v.training.train.train start the ranks."
        )
    return env


def _agree(group: ProcessGroup, identity: tuple[dict[str, Any], str]) -> None:
    """Refuse to train if the ranks would not do the same."""
    for rank, (recipe, fingerprint) in enumerate(group.all_gather_object(identity)):
        for what, same in (("recipe", recipe == identity[0]), ("prepared data", fingerprint == identity[1])):
            if not same:
                raise ConfigError(
                    f"rank {rank} has another {what} than rank {group.env.rank}: start all ranks with the same "
                    "command, in the same revision, on folders that all machines share."
                )


def _begin(job: Job, identity: tuple[dict[str, Any], str], out: Path) -> TrainResult | checkpoint.Checkpoint | None:
    """What is there already: a finished run of this identity, a checkpoint to go on from, or nothing. Any other
    finished run moves aside; any other unfinished one is refused."""
    if job.recipe.resume == "restart":
        resume.move_aside(out, "train.resume=restart")
    elif (result := resume.finished_result(out)) is not None:
        lines = resume.differences(job.name, type(job.recipe), (result["recipe"], result["data_fingerprint"]), identity)
        if not lines:
            log(f"train: the run in {out} is finished ({result['updates']} updates)")
            return TrainResult(out, result["updates"], result["metrics"], result["updates"], result["tracker_run_id"])
        resume.move_aside(out, f"the finished run was another one ({'; '.join(lines)})")
    found = checkpoint.newest(out / "checkpoints")
    if found is not None:
        old = (found.state.recipe, found.state.data_fingerprint)
        resume.refuse_differences(job.name, resume.differences(job.name, type(job.recipe), old, identity), out)
    return found


@dataclass
class _Run:
    """The phases of a run that is not finished yet."""

    job: Job
    data: TrainingData
    out: Path
    tracker: Tracker
    interrupts: Interrupts
    watchdog: Watchdog
    group: ProcessGroup

    def finish(self, found: checkpoint.Checkpoint | None, identity: tuple[dict[str, Any], str]) -> TrainResult:
        """Choose number formats, build, resume, say what will happen, loop, export."""
        began, recipe, device = time.monotonic(), self.job.recipe, self.group.env.device
        sampler = open_batch_sampler(recipe, self.data.num_train, self.data.train_lengths(recipe))
        keep_kernels_of(sampler.shapes())
        precision, reason = self._precision(found)
        backend, why = self._matmul_backend(found, precision)
        objective = self.job.build()
        state = found.state if found else checkpoint.RunState(0, *identity, precision)
        state.matmul_backend, start = backend, state.update
        if found:
            checkpoint.load_weights(found, objective)
        with (
            using_matmul_backend(backend),
            freed_memory_kept(device),
            old_objects_uncollected(),
            open_engine(objective, recipe, self.group, precision) as engine,
        ):
            history = checkpoint.load_rest(found, objective, engine) if found else History()
            for line in summarise(recipe, objective, engine, sampler, start, "; ".join(filter(None, (reason, why)))):
                log(line)
            self._prepare_tracking(engine, state, history)
            self._loop(objective, engine, sampler, state, history).run()
            self._export(objective, engine, state)
            if engine.env.is_main:
                self._write_result(state, history, engine, sampler, total_flops(objective, sampler, state.update))
                log(f"train: finished {state.update} updates, {duration(time.monotonic() - began)} in this session")
            self.group.barrier()
        return TrainResult(self.out, state.update, history.last(), start, state.tracker_run_id)

    def _precision(self, found: checkpoint.Checkpoint | None) -> tuple[Precision, str]:
        """A resumed run keeps its format, whatever a new measurement would say."""
        wanted = self.job.recipe.precision
        if found is not None and wanted == "auto":
            precision: Precision = "bf16" if found.state.precision == "bf16" else "fp32"
            slow = emulated(torch.bfloat16, self.group.env.device) if precision == "bf16" else ""
            return precision, "; ".join(filter(None, ("as in the checkpoint", slow)))
        return self.group.broadcast_object(choose_precision(wanted, self.group.env.device))

    def _matmul_backend(self, found: checkpoint.Checkpoint | None, precision: Precision) -> tuple[MatmulBackend, str]:
        """What multiplies float32 matrices, the same on all ranks; a resumed run keeps it."""
        wanted, device = self.job.recipe.float32_matmul, self.group.env.device
        if found is not None and precision == "fp32" and wanted == "auto":
            return self.group.broadcast_object(keep_matmul_backend(found.state.matmul_backend, device))
        return self.group.broadcast_object(choose_matmul_backend(wanted, precision, device))

    def _prepare_tracking(self, engine: Engine, state: checkpoint.RunState, history: History) -> None:
        """Tags of the tracked run, and `history.csv` as it was at the resume point: rows after it will come again."""
        tags = {"modality": self.job.modality, "data_fingerprint": self.data.fingerprint}
        self.tracker.set_tags(tags | {"precision": engine.precision, "device": engine.env.device.type})
        state.tracker_run_id = self.tracker.run_id or state.tracker_run_id
        if engine.env.is_main:
            self.out.mkdir(parents=True, exist_ok=True)
            if history.rows:
                history.write(self.out / "history.csv")
            else:
                (self.out / "history.csv").unlink(missing_ok=True)

    def _loop(
        self,
        objective: Objective,
        engine: Engine,
        sampler: BatchSampler,
        state: checkpoint.RunState,
        history: History,
    ) -> Loop:
        stopwatch = Stopwatch(engine, objective, self.job.recipe, sum(state.window.pop(TRAINED_S, [])))
        return Loop(
            recipe=self.job.recipe,
            objective=objective,
            engine=engine,
            loader=BatchLoader(self.data, sampler, self.job.recipe, engine.env, state.update),
            sampler=sampler,
            state=state,
            history=history,
            folder=self.out,
            watchdog=self.watchdog,
            has_probe=self.job.probe is not None,
            callbacks=standard_callbacks(self.job, engine, stopwatch, state, self.tracker, self.interrupts),
            validate_every=self.job.selection.every_updates if self.job.selection else None,
        )

    def _export(self, objective: Objective, engine: Engine, state: checkpoint.RunState) -> None:
        """The last state, or the best one of a run with validations."""
        if self.job.export is not None:
            self.watchdog.heartbeat(self.job.recipe.max_updates, "export")
            objective.eval()
            if state.selection:
                self.job.export(self.out, objective, partial(_best_weights, objective, state.best))
            else:
                self.job.export(self.out, objective, lambda module, wanted: whole_weights(module, engine, wanted))

    def _write_result(
        self, state: checkpoint.RunState, history: History, engine: Engine, sampler: BatchSampler, flops: float
    ) -> None:
        """`result.json` is written last and at once: its presence means that the run is finished. Its cost is that of
        all sessions: `seconds` of updates, and the most memory that rank 0 held in one of them."""
        checkpoint.prune(self.out / "checkpoints", self.job.recipe.checkpoint.keep)  # which a kill may have put off
        metrics = history.last()
        content = {
            "modality": self.job.modality,
            "updates": state.update,
            "samples": sampler.samples(state.update),
            "flops": flops,
            "recipe": state.recipe,
            "data_fingerprint": state.data_fingerprint,
            "precision": engine.precision,
            "device": describe_device(engine.env.device),
            "torch": torch.__version__,
            "seconds": round(metrics[TRAINED_S], 3),
            "peak_memory_mb": round(max(row.get(PEAK_MEMORY_MB, 0.0) for row in history.rows), 1),
            "tracker_run_id": state.tracker_run_id,
            "metrics": metrics,
        }
        if state.selection:
            content["selection"] = state.selection
        write_json(self.out / resume.RESULT, content)


def _best_weights(
    objective: Objective, best: dict[str, Tensor], module: nn.Module, wanted: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Of a part of the objective, the weights of the best state; none on ranks that do not hold it."""
    name = next(name for name, child in objective.named_modules() if child is module)
    prefix = f"{name}." if name else ""
    names = {full.removeprefix(prefix): full for full in best if full.startswith(prefix)}
    return {own: best[full] for own, full in names.items() if wanted(own)}
