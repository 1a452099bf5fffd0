"""How a model is trained, whatever it is trained for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from d2v.config.objectives import ObjectiveConfig
from d2v.config.updates import PositiveUpdates, Updates, updates_of

BlockT = TypeVar("BlockT", bound=Block)


class OptimizerConfig(Block):
    """AdamW."""

    lr: Positive
    """Peak learning rate, for the whole batch: it is not scaled with the batch's size."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Decays of the running means of gradients and of their squares; closer to 1 averages over more updates."""
    eps: Positive = 1e-8
    """Added to the root of the mean square before it divides; larger shortens steps where gradients are tiny."""
    weight_decay: NonNegative = 0.05
    """Decoupled weight decay, times the learning rate in each update; larger pulls weights harder towards 0."""
    decay_all: bool = False
    """Decay vectors, scalars and biases too. The reference does so, though it meant to leave them out."""
    clip_norm: Positive | None = 4.0
    """Longest norm of the gradient of all parameters together; longer ones are scaled down to it. null: no clipping."""


class ScheduleConfig(Block):
    """The learning rate as a function of the update."""

    name: Literal["cosine", "linear", "tri_stage"] = "cosine"
    """`cosine` and `linear`: a linear warm-up, then one half cosine or a straight line down to `min_lr`. `tri_stage`:
    warm-up, constant rate and exponential decay, in the shares that `phases` gives."""
    warmup_updates: Updates = 0
    """Updates over which the rate rises to its peak; longer is safer against collapse. A number with a point, such as
    0.05, is a share of the run here and in the other keys of this type. Not read by `tri_stage`."""
    min_lr: NonNegative = 0.0
    """Learning rate that the warm-up starts at and the run ends with. Not read by `tri_stage`."""
    phases: tuple[Fraction, Fraction, Fraction] = (0.03, 0.9, 0.07)
    """Shares of the run for the three stages of `tri_stage`; they add up to 1."""
    init_scale: Positive = 0.01
    """First learning rate of `tri_stage`, as a fraction of the peak."""
    final_scale: Positive = 0.01
    """Last learning rate of `tri_stage`, as a fraction of the peak."""

    @model_validator(mode="after")
    def _phases_fill_the_run(self) -> ScheduleConfig:
        if abs(sum(self.phases) - 1.0) > 1e-6:
            raise ValueError(f"phases must add up to 1, not {sum(self.phases):g}: set e.g. phases: [0.03, 0.9, 0.07]")
        return self

    def warmup(self, max_updates: int) -> int:
        """Updates until the learning rate of a run of `max_updates` is at its peak."""
        if self.name == "tri_stage":
            return int(max_updates * self.phases[0])
        return updates_of(self.warmup_updates, max_updates)


class CheckpointConfig(Block):
    """How often a run is saved. A killed run loses what came after its last checkpoint; Ctrl-C and SIGTERM save
    first."""

    every_updates: PositiveUpdates = 500
    """Updates between two checkpoints, or their share of the run; the last update is always saved."""
    keep: Annotated[int, Field(ge=2)] = 2
    """How many of the newest checkpoints stay on disk."""


class MonitorConfig(Block):
    """Stops of a run whose representations collapse to a constant: it ends with a CollapseError that shows the
    evidence."""

    grace_updates: Updates = 1000
    """Updates, or their share of the run, before which nothing stops the run."""
    min_target_std: NonNegative = 0.01
    """Least standard deviation of the targets over positions, mean over channels; 0 switches the check off."""
    min_prediction_std: NonNegative = 0.001
    """The same of the student's predictions."""
    min_rank: NonNegative = 1.5
    """Least effective rank (RankMe) of the student's features; 0 switches the check off."""
    max_position_share: Fraction = 0.3
    """Most of the targets' variance that their positions alone may explain after the warm-up. Above it a line warns,
    once; nothing stops. 1 switches the check off."""


class DistributedConfig(Block):
    """Where training runs. None of it changes the result beyond rounding, so none of it is part of a run's identity."""

    ranks: PositiveInt = 1
    """Processes that train together, over all machines. They share the batch, so more ranks need less memory each."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What ZeRO shards over the ranks: 0 nothing, 1 the optimiser's state, 2 gradients too, 3 parameters too, and with
    them the teacher's. Higher saves memory and costs communication."""
    hostfile: str | None = None
    """Path of DeepSpeed's list of machines, a line `host slots=ranks` each; null: this machine alone."""
    timeout_s: PositiveInt = 600
    """Seconds without progress after which a rank counts as hung and all ranks stop. It must be longer than the longest
    phase, such as a probe or a checkpoint."""
    offload_optimizer: bool = False
    """Keep gradients and moments in CPU memory, to save GPU memory; for `zero_stage` 2 and 3."""
    activation_checkpointing: bool = False
    """Compute each block's activations again in the backward pass instead of storing them: less memory, more time."""

    @model_validator(mode="after")
    def _offload_needs_shards(self) -> DistributedConfig:
        if self.offload_optimizer and self.zero_stage < 2:
            raise ValueError("offload_optimizer works with zero_stage 2 or 3: set zero_stage=2")
        return self


class BatchBudget(Block):
    """Batches of items of like length, as many as a budget of input positions holds, all cropped to the shortest."""

    positions: PositiveInt
    """Input positions of an update, over all ranks and accumulation steps: waveform samples or tokens."""
    multiple_of: PositiveInt = 8
    """The number of items in a batch is a multiple of this; it must split into ranks times accumulation steps."""
    bucket_ratio: Annotated[float, Field(gt=1.0)] = 1.1
    """Items of one bucket differ in length by less than this ratio; larger mixes the order more and crops more away."""
    crop_multiple: PositiveInt = 1
    """Crops in pretraining are rounded down to a multiple of so many input positions; shorter ones stay as they are.
    Shapes then repeat, and a CPU compiles its kernels once: a new shape costs it a third of a small step."""


class RunConfig(Block):
    """What every training has. An update trains on `batch_size` items, or on as many as a `batch_budget` holds."""

    renamed: ClassVar = {"float32_products": "float32_matmul"}

    optimizer: OptimizerConfig
    """AdamW's settings."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over updates."""
    batch_size: PositiveInt | None = None
    """Items per update, over all ranks and accumulation steps. Give this or `batch_budget`."""
    batch_budget: BatchBudget | None = None
    """Batches by length instead of a fixed number of items."""
    accumulation_steps: PositiveInt = 1
    """Parts that each rank's share of the batch is split into, one after the other; more need less memory."""
    max_updates: PositiveInt
    """Optimiser updates of the run; the schedule is stretched to them."""
    seed: NonNegativeInt = 0
    """Seed of first weights, order, augmentation and masks."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of matrix products; weights, teacher and losses stay in fp32. `auto`: bf16 where the hardware has
    it."""
    float32_matmul: Literal["auto", "blas", "onednn"] = "auto"
    """Library that multiplies float32 matrices on a CPU. `auto`: oneDNN where torch's BLAS is MKL and the
    processor not Intel's, if it is as exact there; else torch's BLAS."""
    log_every_updates: PositiveInt = 50
    """Updates between two log lines; also the interval of the collapse checks."""
    probe_every_updates: Updates = 0
    """Updates between two online probes of the encoder in pretraining, or their share of the run; the last update is
    always probed. 0: that alone."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """How often the run is saved."""
    monitor: MonitorConfig = MonitorConfig()
    """When a collapsed run is stopped."""
    distributed: DistributedConfig = DistributedConfig()
    """Processes, machines and sharding."""
    data_workers: NonNegativeInt = 0
    """Processes of each rank that load data. 0: the rank loads itself, on a GPU in a thread beside the computation."""
    resume: Literal["auto", "restart"] = "auto"
    """`auto` goes on from the run folder's newest checkpoint. `restart` moves what is there aside and begins anew."""

    @model_validator(mode="after")
    def _batch_divides(self) -> RunConfig:
        if (self.batch_size is None) == (self.batch_budget is None):
            raise ValueError("give either batch_size or batch_budget, and not both")
        key = "batch_size" if self.batch_size else "batch_budget.multiple_of"
        parts = self.accumulation_steps * self.distributed.ranks
        if self.batch_unit % parts:
            raise ValueError(
                f"{key} {self.batch_unit} does not split into {self.accumulation_steps} accumulation steps x "
                f"{self.distributed.ranks} ranks: set {key} to a multiple of {parts}"
            )
        return self

    def in_updates(self) -> Self:
        """The same run with every share of it as a number of updates."""
        most = self.max_updates
        return self.model_copy(
            update={
                "schedule": _counted(self.schedule, most, "warmup_updates"),
                "checkpoint": _counted(self.checkpoint, most, "every_updates"),
                "monitor": _counted(self.monitor, most, "grace_updates"),
                "probe_every_updates": updates_of(self.probe_every_updates, most),
            }
        )

    def remarks(self, at: str) -> list[str]:
        """What the block alone says against the run, a sentence each.

        Args:
            at: dotted path of the block, such as "vision.train".
        """
        warmup = self.schedule.warmup(self.max_updates)
        if 2 * warmup <= self.max_updates:
            return []
        much = "all" if warmup >= self.max_updates else f"{warmup:,}"
        return [
            f"{much} of the {self.max_updates:,} updates of {at} are warm-up, so the learning rate is hardly ever what "
            f"optimizer.lr says: raise max_updates, or set {at}.schedule.warmup_updates=0.1, a share of the run"
        ]

    @property
    def batch_unit(self) -> int:
        """The number that the samples of every update are a multiple of."""
        return self.batch_size or (self.batch_budget.multiple_of if self.batch_budget else 1)


def _counted(block: BlockT, max_updates: int, *keys: str) -> BlockT:
    """A block with updates in place of shares."""
    return block.model_copy(update={key: updates_of(getattr(block, key), max_updates) for key in keys})


class TrainConfig(RunConfig):
    """Pretraining; modalities add `encoder`, `mask` and `augment`."""

    objective: ObjectiveConfig
    """What is learned: targets, loss, decoder or heads."""
    start: str | None = None
    """Where weights come from: null for random ones, a model folder, or a registered model such as
    `models:/d2v-vision@champion`, whose student, teacher and, if they fit, decoder and heads are trained on."""

    def in_updates(self) -> Self:
        """The same run with every share of it as a number of updates, those of the teacher's decay included."""
        counted = super().in_updates()
        ema = getattr(self.objective, "ema", None)
        if ema is None:
            return counted
        ema = _counted(ema, self.max_updates, "anneal_updates")
        return counted.model_copy(update={"objective": self.objective.model_copy(update={"ema": ema})})


RESULT_NEUTRAL = (
    "distributed",
    "accumulation_steps",
    "float32_matmul",
    "data_workers",
    "resume",
    "checkpoint",
    "monitor",
    "log_every_updates",
    "probe_every_updates",
    "bootstrap_resamples",
    "evaluation_batch_size",
    "folds",
    "register_flagged",
)
"""Keys of RunConfig that do not change the trained weights, beyond rounding and the draws of dropout: those follow
the parts into which ranks and accumulation split a batch."""
