"""What an encoder can be tuned to, and how."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from d2v.config.training import MonitorConfig, RunConfig
from d2v.config.updates import PositiveUpdates, Updates, updates_of


class HeadConfig(Block):
    """From an encoder's features to one output an item: pooling over tokens, LayerNorm, a hidden layer, dropout, linear
    layer."""

    pool: Literal["mean", "first", "attention"] = "mean"
    """From tokens to an item: their `mean`, the CLS token or else the `first` one, or `attention` of a learned query
    (an attentive probe, Chen et al. 2023)."""
    heads: PositiveInt = 1
    """Attention heads of that query; they must divide the encoder's width. Read with `pool: attention` only."""
    norm: bool = True
    """LayerNorm after pooling."""
    norm_eps: Positive = 1e-6
    """Added to the variance in that LayerNorm."""
    hidden: bool = False
    """A layer of the encoder's width with tanh before the last one, as RoBERTa has for sentences."""
    dropout: Fraction = 0.0
    """Dropout rate before each linear layer of the head; larger regularises more."""
    init_std: Positive = 0.02
    """Standard deviation of the linear layers' first weights."""


class ClassificationTask(Block):
    """One class an item, by cross-entropy."""

    name: Literal["classification"]
    """Picks this task."""
    head: HeadConfig = HeadConfig()
    """From features to class scores."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes; larger makes the model less sure of itself."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Metrics to measure; the first decides between models."""


class MultilabelTask(Block):
    """Any number of classes an item, scored token by token and pooled over tokens."""

    name: Literal["multilabel"]
    """Picks this task."""
    dropout: Fraction = 0.0
    """Dropout rate before the linear layer."""
    metrics: tuple[str, ...] = ("mean_average_precision",)
    """Metrics to measure; the first decides between models."""
    thresholds: Literal["half", "validation"] = "half"
    """Least probability of a class that an item is said to have: one half, or for each class the one with the best F1
    on the validation items (see `validation`; without them on the training items). It changes no weights."""


class RegressionTask(Block):
    """A number an item, by the squared error."""

    name: Literal["regression"]
    """Picks this task."""
    head: HeadConfig = HeadConfig()
    """From features to the number."""
    range: tuple[float, float] = (0.0, 5.0)
    """Lowest and highest number of the data's scale, which the model learns as 0 and 1."""
    metrics: tuple[str, ...] = ("pearson_and_spearman", "pearson", "spearman")
    """Metrics to measure; the first decides between models."""

    @model_validator(mode="after")
    def _range_has_a_width(self) -> RegressionTask:
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {self.range} is empty: give the lowest and the highest number")
        return self


class DecodingConfig(Block):
    """From symbols' probabilities to words. Scores are natural logarithms: a weight of flashlight or KenLM, which count
    in base 10, is 2.303 times as large."""

    decoder: Literal["greedy", "beam", "flashlight"] = "greedy"
    """`greedy`: the best path, no language model. `beam`: prefix beam search with an n-gram model. `flashlight`: the
    decoder of the published results, which needs the extra packages `decoding`."""
    width: PositiveInt = 50
    """Prefixes kept after every frame; more find better texts and take longer."""
    lm_weight: float = 1.0
    """Weight of the language model's ln p; with `dev_share` it is chosen anew on recordings kept out of training."""
    word_bonus: float = 0.0
    """Added for each word; larger makes up for the language model's taste for few words. Chosen with `lm_weight`."""
    unknown_score: float = -10.0
    """Added to ln p of a word that the language model does not know; lower makes such words rarer."""
    language_model: str | None = None
    """Path of an ARPA file or of KenLM's binary file; null: estimated from the training transcripts."""
    lm_order: Annotated[int, Field(ge=1, le=5)] = 3
    """Words of the longest n-gram of the estimated model."""
    closed_vocabulary: bool = False
    """Write only words of the training transcripts and of an ARPA model; `flashlight` always does."""


class TranscriptionTask(Block):
    """What was said, letter by letter, by CTC (Graves et al. 2006)."""

    renamed: ClassVar = {"letters": "vocabulary"}

    name: Literal["transcription"]
    """Picks this task."""
    vocabulary: Literal["data", "fairseq"] = "data"
    """CTC vocabulary: the characters of the training transcripts, or the 32 symbols of fairseq's LibriSpeech models."""
    dropout: Fraction = 0.0
    """Dropout rate before the linear layer."""
    decoding: DecodingConfig = DecodingConfig()
    """From symbols to words. It changes no weights, so another one needs no new training."""
    metrics: tuple[str, ...] = ("wer", "cer")
    """Metrics to measure: word and character error rates (0 to 1, lower is better); the first decides between models.
    It changes no weights either."""


TaskConfig = Annotated[
    ClassificationTask | MultilabelTask | RegressionTask | TranscriptionTask, Field(discriminator="name")
]


class FeatureMaskConfig(Block):
    """What training masks of the local features, as in SpecAugment (Park et al. 2019) and wav2vec 2.0: spans of tokens
    and spans of channels. More of it regularises more."""

    time_ratio: Fraction = 0.0
    """Share of tokens that spans would cover if they did not overlap; 0: none."""
    time_span: PositiveInt = 10
    """Tokens of a span."""
    channel_ratio: Fraction = 0.0
    """Share of channels that spans would cover if they did not overlap; 0: none."""
    channel_span: PositiveInt = 64
    """Channels of a span; masked channels become zero in all tokens."""
    replacement: Literal["zero", "noise"] = "zero"
    """What masked tokens become."""
    noise_std: NonNegative = 0.01
    """Standard deviation of that noise."""


class MixConfig(Block):
    """Mixtures of two items and their classes (mixup, Zhang et al. 2017; cutmix, Yun et al. 2019), for classification
    of images. The first item of a batch is mixed with the last one, the second with the last but one, and so on."""

    mixup: NonNegative = 0.0
    """Alpha of the Beta distribution of mixup's shares; larger mixes more evenly, 0 switches mixup off."""
    cutmix: NonNegative = 0.0
    """Alpha of the Beta distribution of cutmix's shares of the area; 0 switches cutmix off."""
    probability: Fraction = 1.0
    """Probability that a batch is mixed."""
    cutmix_share: Fraction = 0.5
    """Where both are on: probability that a mixed batch is mixed by cutmix."""


class LabelConfig(Block):
    """How many of the training labels are used. A smaller amount is a part of a larger one with the same seed."""

    share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the labelled items. Classes take turns, so that a small share holds each of them as often."""
    minutes: Positive | None = None
    """Minutes of labelled recordings, instead of `share`."""
    seed: NonNegativeInt = 0
    """Another seed chooses other items."""


class ValidationConfig(Block):
    """Choosing the best state of a run on items that are neither trained on nor tested on. The model that is left is
    the one of the best validation, not of the last update. It reads the source's val split, and where there is none, a
    held-out part of the training items."""

    metric: str | None = None
    """What decides: a metric, or `loss`; null: the first of `task.metrics`."""
    every_updates: PositiveUpdates = 0.05
    """Updates between two validations, or a share of the run; the last update is always validated."""
    patience: PositiveInt | None = None
    """Validations in a row without a gain after which training stops; null: it goes on to `max_updates`."""
    min_gain: NonNegative = 0.0
    """A validation is better if it is better by more than this, in the metric's unit."""
    source: Literal["auto", "train"] = "auto"
    """`auto`: the val split, if there is one with labels. `train`: always a held-out part of the training items."""
    share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the training items that is held out where there is no val split; of each class as large a share."""
    group: str | None = None
    """Column whose values are held out as a whole: `group` (`ingest.columns.group`), `fold` or `speaker`; null: `group`
    where the corpus has groups."""
    seed: NonNegativeInt = 0
    """Another seed holds out other items."""


class FinetuneConfig(RunConfig):
    """Tuning an encoder to a task; modalities add `augment`."""

    renamed: ClassVar = {"hide": "mask"}

    task: TaskConfig
    """What is learned, and the head for it."""
    start: str = "pretrained"
    """Where the encoder comes from: `pretrained` (what the train step left), `scratch` (random weights), a model
    folder, or a registered model such as `models:/d2v-vision@champion`."""
    teacher: bool = False
    """Start from the teacher's weights instead of the student's."""
    trained: Literal["all", "head"] = "all"
    """`head` leaves the encoder frozen and trains the head alone (a linear or attentive probe)."""
    layer_decay: Fraction = 1.0
    """Multiplies the learning rate of a block once for each block above it and once more (BEiT); lower keeps early
    blocks closer to pretraining. The head has the full rate. So have the local encoder and extra tokens, but in
    data2vec 1.0's images, where they count as a block below all others."""
    frozen_updates: Updates = 0
    """Updates at the beginning, or their share of the run, in which only the head is trained."""
    frozen_local: bool = False
    """Never train the local encoder: patch or token embedding; of recordings the convolutions, but not their norm and
    projection."""
    encoder: dict[str, Any] = Field(default_factory=dict)
    """What changes of the pretrained encoder's block: settings that have no weights, such as `drop_path`."""
    mask: FeatureMaskConfig = FeatureMaskConfig()
    """What training masks of the local features."""
    mix: MixConfig = MixConfig()
    """Mixtures of two images."""
    validation: ValidationConfig | None = None
    """Model selection and early stopping; null: the val split is not read, and the last update's weights are kept."""
    folds: str | None = None
    """Column of the corpus with folds: `fold`, `group` or `speaker`. Beside the model of the train split, each fold is
    tested on a model of all others, and the mean is reported. null: no folds."""
    labels: LabelConfig = LabelConfig()
    """How many labels are used."""
    balance: Literal["weights", "sampling"] | None = None
    """For classes of unequal size. `weights`: the loss of an item is divided by the size of its class, and scaled so
    that the mean weight is 1; of several labels an item, each class's positive items weigh as much as its others.
    `sampling`: in each epoch every class is drawn as often as the largest. null: neither."""
    monitor: MonitorConfig = MonitorConfig(min_target_std=0.0, min_prediction_std=0.0, min_rank=0.0)
    """When a collapsed run is stopped; by default never, as labels prevent collapse."""
    bootstrap_resamples: PositiveInt = 1000
    """Resamples of the test items for the metrics' intervals."""
    evaluation_batch_size: PositiveInt = 64
    """Items that are measured at a time; changes no result."""
    register_flagged: bool = False
    """Register the model even if its report flags it as useless. Promotion refuses it all the same, unless
    `promote.refuse_flagged` is off."""

    def in_updates(self) -> Self:
        """The same run with every share of it as a number of updates."""
        changes: dict[str, Any] = {"frozen_updates": updates_of(self.frozen_updates, self.max_updates)}
        if self.validation is not None:
            every = updates_of(self.validation.every_updates, self.max_updates)
            changes["validation"] = self.validation.model_copy(update={"every_updates": every})
        return super().in_updates().model_copy(update=changes)

    @model_validator(mode="after")
    def _balance_has_classes(self) -> FinetuneConfig:
        if self.balance == "sampling" and self.task.name != "classification":
            raise ValueError("balance sampling is for task.name=classification: set balance=null")
        if self.balance == "weights" and self.task.name not in ("classification", "multilabel"):
            raise ValueError("balance is for classes: set balance=null, or task.name to classification or multilabel")
        return self
