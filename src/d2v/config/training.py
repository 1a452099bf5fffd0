"""How a model is trained, whatever it is trained for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, Positive, PositiveInt
from d2v.config.objectives import ObjectiveConfig


class OptimizerConfig(Block):
    """AdamW. The reference decays every parameter; `decay_all: true` reproduces that."""

    lr: Positive
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    decay_all: bool = False
    clip_norm: Positive | None = 4.0


class ScheduleConfig(Block):
    """Learning rate over updates. `cosine`: linear warm-up, one cosine to `min_lr`. `linear`: straight lines.
    `tri_stage`: warm-up, hold and exponential decay in the shares `phases` of the run, from and to the
    fractions `init_scale` and `final_scale` of the peak."""

    name: Literal["cosine", "linear", "tri_stage"] = "cosine"
    warmup_updates: NonNegativeInt = 0
    min_lr: Annotated[float, Field(ge=0.0)] = 0.0
    phases: tuple[Fraction, Fraction, Fraction] = (0.03, 0.9, 0.07)
    init_scale: Positive = 0.01
    final_scale: Positive = 0.01

    @model_validator(mode="after")
    def _phases_fill_the_run(self) -> ScheduleConfig:
        if abs(sum(self.phases) - 1.0) > 1e-6:
            raise ValueError(f"phases must add up to 1, not {sum(self.phases):g}: set e.g. phases: [0.03, 0.9, 0.07]")
        return self


class CheckpointConfig(Block):
    every_updates: PositiveInt = 500
    keep: Annotated[int, Field(ge=2)] = 2


class MonitorConfig(Block):
    """Collapse stops. After `grace_updates`, target and prediction standard deviations under the minima, or
    an effective rank under `min_rank`, end the run with a CollapseError. 0 switches a check off."""

    grace_updates: NonNegativeInt = 1000
    min_target_std: Annotated[float, Field(ge=0.0)] = 0.01
    min_prediction_std: Annotated[float, Field(ge=0.0)] = 0.001
    min_rank: Annotated[float, Field(ge=0.0)] = 1.5


class DistributedConfig(Block):
    """Where training runs. None of it changes the result beyond rounding, so none of it is part of a run's identity."""

    ranks: PositiveInt = Field(default=1, description="processes that train together, over all machines")
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=0, description="shard over the ranks: 1 optimiser, 2 and gradients, 3 and parameters, the teacher's too"
    )
    hostfile: str | None = Field(
        default=None, description="DeepSpeed's list of machines: a line `host slots=ranks` each"
    )
    timeout_s: PositiveInt = Field(
        default=600, description="a rank that does not move for so long hangs: all ranks stop"
    )
    offload_optimizer: bool = Field(
        default=False, description="keep gradients and moments in CPU memory; stages 2 and 3"
    )
    activation_checkpointing: bool = Field(
        default=False, description="compute blocks again in backward instead of storing"
    )

    @model_validator(mode="after")
    def _offload_needs_shards(self) -> DistributedConfig:
        if self.offload_optimizer and self.zero_stage < 2:
            raise ValueError("offload_optimizer works with zero_stage 2 or 3: set zero_stage=2")
        return self


class BatchBudget(Block):
    """Batches of items of like length: as many as `positions` inputs hold (waveform samples, tokens), in multiples
    of `multiple_of`, all cropped to the shortest. Lengths are alike if they differ by less than `bucket_ratio`."""

    positions: PositiveInt
    multiple_of: PositiveInt = 8
    bucket_ratio: Annotated[float, Field(gt=1.0)] = 1.1


class RunConfig(Block):
    """What every training has. An update trains on `batch_size` items, or on as many as a `batch_budget` holds."""

    renamed: ClassVar = {"float32_products": "float32_matmul"}

    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    batch_size: PositiveInt | None = Field(
        None, description="samples per update, over all ranks and accumulation steps"
    )
    batch_budget: BatchBudget | None = None
    accumulation_steps: PositiveInt = 1
    max_updates: PositiveInt
    seed: NonNegativeInt = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    float32_matmul: Literal["auto", "blas", "onednn"] = Field(
        "auto", description="what multiplies float32 matrices on a CPU; auto takes the much faster one, if as exact"
    )
    log_every_updates: PositiveInt = 50
    probe_every_updates: NonNegativeInt = Field(0, description="online probe interval; 0 probes only at the ends")
    checkpoint: CheckpointConfig = CheckpointConfig()
    monitor: MonitorConfig = MonitorConfig()
    distributed: DistributedConfig = DistributedConfig()
    data_workers: NonNegativeInt = 0
    resume: Literal["auto", "restart"] = "auto"

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

    @property
    def batch_unit(self) -> int:
        """The number that the samples of every update are a multiple of."""
        return self.batch_size or (self.batch_budget.multiple_of if self.batch_budget else 1)


class TrainConfig(RunConfig):
    """Pretraining; modalities add `encoder`, `mask` and `augment`.

    `start`: null for random weights, or a model folder, or a registered model such as `models:/d2v-vision@champion`,
    whose student, teacher and, if they fit, decoder and heads are trained on."""

    objective: ObjectiveConfig
    start: str | None = None


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
)
"""Keys of RunConfig that do not change the trained weights, beyond rounding and the draws of dropout: those follow
the parts into which ranks and accumulation split a batch."""
