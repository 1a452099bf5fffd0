"""The objectives that an encoder can be pretrained with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegativeInt, Positive, PositiveInt


class TargetConfig(Block):
    """How teacher activations become targets (data2vec section 3.3; data2vec 2.0 keeps it).

    `layer_norms` are applied to each of the `top_k_layers`, in the fixed order batch, instance, layer;
    then the layers are averaged; then `average_norms` in the order layer, instance.
    """

    top_k_layers: PositiveInt
    activation: Literal["ffn", "end_of_block"] = "ffn"
    layer_norms: tuple[Literal["batch", "instance", "layer"], ...] = ("instance",)
    average_norms: tuple[Literal["layer", "instance"], ...] = ()

    @property
    def by_token(self) -> bool:
        """Whether a token's target depends on no other token's activations."""
        return {*self.layer_norms, *self.average_norms} <= {"layer"}


class EmaConfig(Block):
    """Teacher decay tau: linear from `decay_start` to `decay_end` over `anneal_updates`, then constant."""

    decay_start: Fraction
    decay_end: Fraction
    anneal_updates: NonNegativeInt = 0
    copied: tuple[str, ...] = Field((), description="name prefixes of parameters taken over verbatim, not averaged")
    shared_local: bool = Field(
        False, description="the teacher has no local encoder of its own: it continues from the student's local features"
    )

    def decay(self, update: int) -> float:
        """tau of the EMA step that follows optimiser update number `update` (from 1).

        tau(n) = tau_end - (tau_end - tau_start) * (1 - n / n_anneal) while n < n_anneal, then tau_end
        (data2vec section 3.2).
        """
        if update >= self.anneal_updates:
            return self.decay_end
        left = 1.0 - update / self.anneal_updates
        return self.decay_end - (self.decay_end - self.decay_start) * left


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


class MaeDecoderConfig(Block):
    """The transformer that fills in what MAE's encoder did not see (He et al. 2022, appendix A.1)."""

    layers: PositiveInt = 8
    width: PositiveInt = 512
    heads: PositiveInt = 16
    mlp_ratio: Positive = 4.0

    @model_validator(mode="after")
    def _width_splits(self) -> MaeDecoderConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not split into {self.heads} heads: change decoder.heads")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, which 2-D sin-cos positions need: change it")
        return self


class MaeConfig(Block):
    """Masked autoencoder: encode the visible patches, predict the pixels of the others (He et al. 2022).

    The paper's random masks are block masks with `mask.block: 1`. `normalise_targets` gives each patch zero mean and
    unit variance."""

    name: Literal["mae"]
    decoder: MaeDecoderConfig = MaeDecoderConfig()
    normalise_targets: bool = True


class QuantizerConfig(Block):
    """Product quantisation with Gumbel noise (wav2vec 2.0 section 2): one of `entries` vectors in each of `groups`
    codebooks. Its temperature is `temperature_decay` to the power of the update times `temperature_start`, at least
    `temperature_end`.

    Scores start with weights of `init_std`, for features of unit variance. 1 as in fairseq makes the softmax so steep
    that a short training hardly moves the choice; well below 0.5 the noise decides it."""

    groups: PositiveInt = 2
    entries: PositiveInt = 320
    width: PositiveInt = Field(default=256, description="of the vectors of all codebooks together")
    init_std: Positive = 0.5
    temperature_start: Positive = 2.0
    temperature_end: Positive = 0.5
    temperature_decay: Fraction = 0.999995

    @model_validator(mode="after")
    def _width_splits(self) -> QuantizerConfig:
        if self.width % self.groups:
            raise ValueError(f"width {self.width} does not split into {self.groups} groups: change quantizer.width")
        return self


class Wav2Vec2Config(Block):
    """wav2vec 2.0: find the quantised features of a hidden frame among those of other hidden frames of the same
    recording (Baevski et al. 2020, "wav2vec 2.0").

    Sizes are those of its Base model. Three defaults are for short trainings, which stay at chance or collapse with the
    Base model's `diversity_weight: 0.1`, `penalty_weight: 10` and `quantizer.init_std: 1`. Before there is anything to
    learn from, the penalty alone shapes the features, and the diversity must outweigh that distractors with the own
    codes are left out. A small encoder needs a small `encoder.tap_spread` as well."""

    name: Literal["wav2vec2"]
    quantizer: QuantizerConfig = QuantizerConfig()
    projection_width: PositiveInt = Field(256, description="of what is compared")
    distractors: PositiveInt = 100
    temperature: Positive = Field(0.1, description="that cosine similarities are divided by")
    diversity_weight: Annotated[float, Field(ge=0.0)] = 0.5
    penalty_weight: Annotated[float, Field(ge=0.0)] = Field(0.0, description="of the features' mean square")
    feature_dropout: Fraction = 0.1
    feature_gradient: Fraction = Field(0.1, description="factor on the gradient of the convolutions")


class MlmConfig(Block):
    """Masked language model, as RoBERTa (Liu et al. 2019): of the hidden tokens `mask_share` become <mask>,
    `random_share` other words, and the rest stay as they are."""

    name: Literal["mlm"]
    mask_share: Fraction = 0.8
    random_share: Fraction = 0.1

    @model_validator(mode="after")
    def _shares_fit(self) -> MlmConfig:
        if self.mask_share + self.random_share > 1.0:
            raise ValueError("mask_share and random_share are more than 1 together: lower objective.random_share")
        return self


ObjectiveConfig = Annotated[
    Data2Vec2Config | Data2Vec1Config | MaeConfig | Wav2Vec2Config | MlmConfig, Field(discriminator="name")
]
