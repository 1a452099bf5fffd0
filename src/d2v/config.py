"""The typed, frozen recipe tree.

What all modalities share is here; what one modality adds (its sources, encoder, masks) is declared in
`d2v.modalities.<name>.config`. Unknown keys are refused. `parse` reports every error at once, each with the
dotted key, the given value, what is allowed and the nearest known key.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from d2v.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


class Block(BaseModel):
    """One block of a recipe: frozen, no unknown keys, defaults checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


# ---------------------------------------------------------------------------------------- objectives


class TargetConfig(Block):
    """How teacher activations become targets (data2vec section 3.3; data2vec 2.0 keeps it).

    `layer_norms` are applied to each of the `top_k_layers`, in the fixed order batch, instance, layer;
    then the layers are averaged; then `average_norms` in the order layer, instance.
    """

    top_k_layers: PositiveInt
    activation: Literal["ffn", "end_of_block"] = "ffn"
    layer_norms: tuple[Literal["batch", "instance", "layer"], ...] = ("instance",)
    average_norms: tuple[Literal["layer", "instance"], ...] = ()


class EmaConfig(Block):
    """Teacher decay tau: linear from `decay_start` to `decay_end` over `anneal_updates`, then constant."""

    decay_start: Fraction
    decay_end: Fraction
    anneal_updates: NonNegativeInt = 0
    copied: tuple[str, ...] = Field((), description="name prefixes of parameters taken over verbatim, not averaged")
    shared_local: bool = Field(
        False, description="the teacher has no local encoder of its own: it continues from the student's local features"
    )


class LossConfig(Block):
    """Regression loss. `beta` 0 is the squared error, above 0 smooth L1. The sum over channels is multiplied
    by `scale`: 1/sqrt(width), 1/width (a mean over channels), or a number."""

    beta: Annotated[float, Field(ge=0.0)] = 0.0
    scale: Literal["rsqrt_width", "inverse_width"] | Positive = "rsqrt_width"


class DecoderConfig(Block):
    """The convolutional decoder of data2vec 2.0 (the paper's appendix).

    `projection_scale` multiplies the first weights of the last projection. First predictions as large as the targets
    are errors that training removes by making everything alike: below 1 a short warm-up does not collapse speech."""

    layers: PositiveInt = 6
    width: PositiveInt = 768
    kernel: PositiveInt = 3
    groups: PositiveInt = 16
    residual: bool = True
    input_dropout: Fraction = 0.0
    projection_layers: PositiveInt = 1
    projection_ratio: Positive = 2.0
    projection_scale: Positive = 1.0


class Data2Vec2Config(Block):
    """data2vec 2.0: encode what is visible, many masks per teacher pass, fill in with a decoder."""

    name: Literal["data2vec2"]
    masks_per_sample: PositiveInt = 8
    mask_noise_std: Annotated[float, Field(ge=0.0)] = 0.01
    decoder: DecoderConfig = DecoderConfig()
    targets: TargetConfig
    ema: EmaConfig
    loss: LossConfig = LossConfig()
    cls_loss: Annotated[float, Field(ge=0.0)] = Field(
        0.0, description="weight of the mean CLS loss; the reference's cls_loss times the rows on one worker"
    )


class Data2Vec1Config(Block):
    """data2vec 1.0: mask tokens in the full sequence, one mask per sample, and a head: linear, two layers with a
    GELU between (`mlp`, for text), or none (as in the reference's later port for images).

    `teacher_view: hidden` shows the teacher only the tokens that the student does not see, closed up to a shorter
    sequence. That is what the reference does for text, against its paper; the paper's teacher sees the whole."""

    name: Literal["data2vec1"]
    head: Literal["linear", "mlp", "none"] = "linear"
    teacher_view: Literal["whole", "hidden"] = "whole"
    targets: TargetConfig
    ema: EmaConfig
    loss: LossConfig = LossConfig()


ObjectiveConfig = Annotated[Data2Vec2Config | Data2Vec1Config, Field(discriminator="name")]


# ------------------------------------------------------------------------------------------ training


class OptimizerConfig(Block):
    """AdamW. The reference decays every parameter; `decay_all: true` reproduces that."""

    lr: Positive
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.05
    decay_all: bool = False
    clip_norm: Positive | None = 4.0


class ScheduleConfig(Block):
    """Learning rate over updates. `cosine`: linear warm-up, one cosine to `min_lr`.
    `tri_stage`: warm-up, hold and exponential decay in the shares `phases` of the run, from and to the
    fractions `init_scale` and `final_scale` of the peak."""

    name: Literal["cosine", "tri_stage"] = "cosine"
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
    """Where training runs. None of it changes the result, so none of it is part of a run's identity."""

    ranks: PositiveInt = 1
    zero_stage: Literal[0, 1, 2, 3] = 0
    hostfile: str | None = None


class BatchBudget(Block):
    """Batches of items of like length: as many as `positions` inputs hold (waveform samples, tokens), in multiples
    of `multiple_of`, all cropped to the shortest. Lengths are alike if they differ by less than `bucket_ratio`."""

    positions: PositiveInt
    multiple_of: PositiveInt = 8
    bucket_ratio: Annotated[float, Field(gt=1.0)] = 1.1


class TrainConfig(Block):
    """What every modality's training has; modalities add `encoder`, `mask` and `augment`. An update trains on
    `batch_size` items, or on as many as a `batch_budget` holds."""

    objective: ObjectiveConfig
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
    log_every_updates: PositiveInt = 50
    probe_every_updates: NonNegativeInt = Field(0, description="online probe interval; 0 probes only at the ends")
    checkpoint: CheckpointConfig = CheckpointConfig()
    monitor: MonitorConfig = MonitorConfig()
    distributed: DistributedConfig = DistributedConfig()
    data_workers: NonNegativeInt = 0
    resume: Literal["auto", "restart"] = "auto"

    @model_validator(mode="after")
    def _batch_divides(self) -> TrainConfig:
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


RESULT_NEUTRAL = (
    "distributed",
    "data_workers",
    "resume",
    "checkpoint",
    "monitor",
    "log_every_updates",
    "probe_every_updates",
)
"""Keys of TrainConfig that do not change the trained weights (beyond rounding)."""


class EvaluateConfig(Block):
    """Probes of a frozen encoder on the prepared probe set."""

    knn_k: PositiveInt = 20
    knn_temperature: Positive = 0.07
    linear_l2: tuple[Positive, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    bootstrap_resamples: PositiveInt = 1000
    neighbour_queries: PositiveInt = 8
    picture_items: PositiveInt = 8
    batch_size: PositiveInt = 256


# ------------------------------------------------------------------------------------------- parsing

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], values: Mapping[str, Any], at: str = "") -> Model:
    """Build a block from plain values.

    Raises ConfigError listing every wrong key at once; `at` is the dotted path the block stands under.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(model, values, item, at) for item in error.errors()]
        head = f"{len(lines)} wrong {'entry' if len(lines) == 1 else 'entries'} in the recipe"
        raise ConfigError("\n".join([f"{head}:", *(f"  {line}" for line in lines)])) from None


def _describe(model: type[BaseModel], values: Any, error: Mapping[str, Any], at: str) -> str:
    location = tuple(str(part) for part in error["loc"])
    key = ".".join(filter(None, (at, *_written(values, error))))
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known keys here: {', '.join(sorted(known))}"
        return f"{key}: unknown key (value {error['input']!r}); {hint}"
    if error["type"] == "missing":
        return f"{key}: required, but not given"
    message = error["msg"].removeprefix("Value error, ")
    if isinstance(error["input"], Mapping):
        return f"{key}: {message}"
    return f"{key}: {error['input']!r} does not fit; {message[0].lower()}{message[1:]}"


def _written(values: Any, error: Mapping[str, Any]) -> list[str]:
    """Where an error stands as the recipe writes it: pydantic's location without the tags of unions, which come
    first in a block that has a `name` or a `kind`."""
    keys: list[str] = []
    entered = True
    for part in error["loc"]:
        block = values if isinstance(values, Mapping) else {}
        is_tag = entered and part in (block.get("name"), block.get("kind"))
        entered = not is_tag
        if is_tag:
            continue
        if part in block or isinstance(values, list | tuple):
            values = values[part]
        elif error["type"] != "missing" or part != error["loc"][-1]:
            continue
        keys.append(str(part))
    return keys


def _known_keys(annotation: Any, path: tuple[str, ...]) -> list[str]:
    """Field names of the block that `path` leads to from `annotation` (union tags are part of the path)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return list(annotation.model_fields)
        field = annotation.model_fields.get(path[0])
        return _known_keys(field.annotation, path[1:]) if field else []
    keys: list[str] = []
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        for option in typing.get_args(annotation):
            tags = [f.annotation for n, f in getattr(option, "model_fields", {}).items() if n in ("name", "kind")]
            tag = typing.get_args(tags[0])[0] if tags else None
            if tag is None or (path and path[0] == tag):
                keys += _known_keys(option, path[1:] if tag is not None else path)
    return keys
