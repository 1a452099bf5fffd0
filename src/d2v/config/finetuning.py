"""What an encoder can be tuned to, and how."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, Positive, PositiveInt
from d2v.config.training import MonitorConfig, RunConfig


class HeadConfig(Block):
    """From an encoder's features to one output an item: pooling over tokens (`mean`, the `first` or CLS token, or
    `attention` of a learned query with `heads`), LayerNorm, a hidden layer with tanh, dropout, linear layer."""

    pool: Literal["mean", "first", "attention"] = "mean"
    heads: PositiveInt = 1
    norm: bool = True
    norm_eps: Positive = 1e-6
    hidden: bool = False
    dropout: Fraction = 0.0
    init_std: Positive = 0.02


class ClassificationTask(Block):
    """One class an item."""

    name: Literal["classification"]
    head: HeadConfig = HeadConfig()
    label_smoothing: Fraction = 0.0
    metrics: tuple[str, ...] = ("accuracy",)


class MultilabelTask(Block):
    """Any number of classes an item, pooled over tokens."""

    name: Literal["multilabel"]
    dropout: Fraction = 0.0
    metrics: tuple[str, ...] = ("mean_average_precision",)


class RegressionTask(Block):
    """A number an item, in `range`."""

    name: Literal["regression"]
    head: HeadConfig = HeadConfig()
    range: tuple[float, float] = (0.0, 5.0)
    metrics: tuple[str, ...] = ("pearson_and_spearman", "pearson", "spearman")

    @model_validator(mode="after")
    def _range_has_a_width(self) -> RegressionTask:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {self.range} is empty: give the lowest and the highest number")
        return self


class DecodingConfig(Block):
    """From letters' probabilities to words. `beam` searches with an n-gram language model, estimated from the training
    transcripts or read from `language_model` (ARPA or KenLM); scores are natural logarithms. `flashlight` is the
    decoder of the published figures and needs the extra packages `decoding`."""

    decoder: Literal["greedy", "beam", "flashlight"] = "greedy"
    width: PositiveInt = 50
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    unknown_score: float = -10.0
    language_model: str | None = None
    lm_order: Annotated[int, Field(ge=1, le=5)] = 3
    closed_vocabulary: bool = False


class TranscriptionTask(Block):
    """The letters of what was said, by CTC: those of the training transcripts, or the 32 symbols of fairseq."""

    renamed: ClassVar = {"letters": "vocabulary"}

    name: Literal["transcription"]
    vocabulary: Literal["data", "fairseq"] = "data"
    dropout: Fraction = 0.0
    decoding: DecodingConfig = DecodingConfig()
    metrics: tuple[str, ...] = ("wer", "cer")


TaskConfig = Annotated[
    ClassificationTask | MultilabelTask | RegressionTask | TranscriptionTask, Field(discriminator="name")
]


class FeatureMaskConfig(Block):
    """What training hides of the local features (as SpecAugment): spans of `time_span` tokens beginning at a share
    `time_ratio` / `time_span` of them, and spans of channels. Hidden tokens become zero or noise of `noise_std`, hidden
    channels zero."""

    time_ratio: Fraction = 0.0
    time_span: PositiveInt = 10
    channel_ratio: Fraction = 0.0
    channel_span: PositiveInt = 64
    replacement: Literal["zero", "noise"] = "zero"
    noise_std: Annotated[float, Field(ge=0.0)] = 0.01


class MixConfig(Block):
    """Mixtures of two items and their classes (mixup, Zhang et al. 2017; cutmix, Yun et al. 2019), for classification
    of images: with `probability` a batch is mixed, in `cutmix_share` of the cases by cutting."""

    mixup: Annotated[float, Field(ge=0.0)] = Field(default=0.0, description="alpha of the Beta distribution; 0 is off")
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    probability: Fraction = 1.0
    cutmix_share: Fraction = 0.5


class LabelConfig(Block):
    """How many of the training labels are used: a share of the items, class by class, or minutes of recordings. A
    smaller share is a part of a larger one with the same seed."""

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    minutes: Positive | None = None
    seed: NonNegativeInt = 0


class FinetuneConfig(RunConfig):
    """Tuning to a task; modalities add `augment`.

    `start`: `pretrained` (the encoder that the train step left), `scratch` (random weights), a model folder, or a
    registered model such as `models:/d2v-vision@champion`. `trained: head` leaves the encoder frozen (a linear or
    attentive probe). `layer_decay` multiplies the learning rate of a block for each block above it and once more; the
    local encoder and extra tokens have that of a block below all others in data2vec 1.0's images, as in BEiT, and like
    the head the full rate elsewhere. For `frozen_updates` only the head is trained; `frozen_local` never trains the
    local encoder (of recordings only its convolutions, not their projection). `encoder` changes settings of the
    encoder that have no weights, such as drop_path."""

    renamed: ClassVar = {"hide": "mask"}

    task: TaskConfig
    start: str = "pretrained"
    teacher: bool = Field(default=False, description="start from the teacher's weights instead of the student's")
    trained: Literal["all", "head"] = "all"
    layer_decay: Fraction = 1.0
    frozen_updates: NonNegativeInt = 0
    frozen_local: bool = False
    encoder: dict[str, Any] = Field(default_factory=dict)
    mask: FeatureMaskConfig = FeatureMaskConfig()
    mix: MixConfig = MixConfig()
    labels: LabelConfig = LabelConfig()
    monitor: MonitorConfig = MonitorConfig(min_target_std=0.0, min_prediction_std=0.0, min_rank=0.0)
    bootstrap_resamples: PositiveInt = 1000
    evaluation_batch_size: PositiveInt = 64
