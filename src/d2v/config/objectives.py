"""The objectives that an encoder can be pretrained with."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from d2v.config.blocks import Block, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from d2v.config.updates import Updates


class TargetConfig(Block):
    """How teacher activations become targets (data2vec section 3.3; data2vec 2.0 keeps it): top layers are normalised,
    averaged, and their average is normalised."""

    top_k_layers: PositiveInt
    """Teacher blocks, counted from the top, whose activations are averaged; at most the encoder's `depth`."""
    activation: Literal["ffn", "end_of_block"] = "ffn"
    """Activation of a block: the feed-forward network's output before the residual, or the block's own output."""
    layer_norms: tuple[Literal["batch", "instance", "layer"], ...] = ("instance",)
    """Norms of each layer, in the fixed order batch, instance, layer: of every channel over batch and tokens, of every
    channel over a sample's tokens, of every token over channels. Targets without any norm invite collapse."""
    average_norms: tuple[Literal["layer", "instance", "position"], ...] = ()
    """Norms of the average, in the order layer, instance, position. `position` takes out of every target the mean over
    the batch at its position, so that nothing is won by telling positions. The reference has no such norm. Ranks and
    accumulation steps each take the mean of their own part of the batch, which wants some ten samples."""

    @property
    def by_token(self) -> bool:
        """Whether a token's target depends on no other token's activations."""
        return {*self.layer_norms, *self.average_norms} <= {"layer"}


class EmaConfig(Block):
    """The teacher: an exponential moving average of the student, with decay tau (data2vec section 3.2)."""

    decay_start: Fraction
    """tau at the first update. Higher follows the student more slowly and is safer against collapse."""
    decay_end: Fraction
    """tau from `anneal_updates` on; 1 freezes the teacher."""
    anneal_updates: Updates = 0
    """Updates, or their share of the run, over which tau goes in a straight line from `decay_start` to `decay_end`."""
    copied: tuple[str, ...] = ()
    """Name prefixes of the encoder's parameters that the teacher takes over verbatim instead of averaging, such as
    `stem.positions.`"""
    shared_local: bool = False
    """The teacher has no local encoder of its own: it continues from the student's local features."""

    def decay(self, update: int) -> float:
        """tau of the EMA step that follows optimiser update number `update` (from 1).

        tau(n) = tau_end - (tau_end - tau_start) * (1 - n / n_anneal) while n < n_anneal, then tau_end
        (data2vec section 3.2). n_anneal is a number of updates: see `TrainConfig.in_updates` for shares.
        """
        if update >= self.anneal_updates:
            return self.decay_end
        left = 1.0 - update / self.anneal_updates
        return self.decay_end - (self.decay_end - self.decay_start) * left


class LossConfig(Block):
    """Regression loss (data2vec section 3.4): a sum over channels, a mean over masked tokens."""

    beta: NonNegative = 0.0
    """0: squared error. Above: smooth L1, quadratic up to errors of this size and linear beyond, so larger errors count
    less."""
    scale: Literal["rsqrt_width", "inverse_width"] | Positive = "rsqrt_width"
    """Factor on the sum over channels: 1/sqrt(width), 1/width (a mean over channels), or a number."""


class DecoderConfig(Block):
    """The convolutional decoder of data2vec 2.0 (the paper's appendix)."""

    layers: PositiveInt = 6
    """Convolutions; each widens what a masked token sees of the others."""
    width: PositiveInt = 768
    """Channels of every convolution."""
    kernel: PositiveInt = 3
    """Tokens that a convolution spans, in images along each side."""
    groups: PositiveInt = 16
    """Groups of channels that are convolved apart; more are cheaper. They must divide both widths."""
    residual: bool = True
    """Add a convolution's input to its output where widths agree."""
    input_dropout: Fraction = 0.0
    """Dropout rate on what the encoder gives the decoder."""
    projection_layers: PositiveInt = 1
    """Linear layers from the last convolution to the targets' width, with GELU between."""
    projection_ratio: Positive = 2.0
    """Width of the layers between, as a multiple of `width`."""
    projection_scale: Positive = 1.0
    """Factor on the first weights of the last linear layer. First predictions as large as the targets are errors that
    training removes by making everything alike: below 1 a short warm-up does not collapse speech."""


class Data2Vec2Config(Block):
    """data2vec 2.0: encode what is visible, many masks per teacher pass, fill in with a decoder."""

    name: Literal["data2vec2"]
    """Picks this objective."""
    masks_per_sample: PositiveInt = 8
    """Masks of each sample for one pass of the teacher; more learn more from a sample and need more memory."""
    mask_noise_std: NonNegative = 0.01
    """Standard deviation of the Gaussian noise that stands at masked tokens where the decoder begins."""
    decoder: DecoderConfig = DecoderConfig()
    """Fills in masked tokens."""
    targets: TargetConfig
    """From the teacher's activations to targets."""
    ema: EmaConfig
    """How the teacher follows the student."""
    loss: LossConfig = LossConfig()
    """Distance of predictions and targets."""
    cls_loss: NonNegative = 0.0
    """Weight of the loss between CLS tokens and their samples' mean targets, for images; 0: none. It is the reference's
    `cls_loss` times the rows on one of its workers."""


class Data2Vec1Config(Block):
    """data2vec 1.0: mask tokens in the full sequence, one mask per sample."""

    name: Literal["data2vec1"]
    """Picks this objective."""
    head: Literal["linear", "mlp", "none"] = "linear"
    """From final features to predictions: a linear layer, two with GELU between (text), or nothing (the reference's
    later port for images)."""
    teacher_view: Literal["whole", "hidden"] = "whole"
    """What the teacher sees: the whole sample, as in the paper, or only the tokens that the student does not see,
    closed up to a shorter sequence, as the reference does for text."""
    targets: TargetConfig
    """From the teacher's activations to targets."""
    ema: EmaConfig
    """How the teacher follows the student."""
    loss: LossConfig = LossConfig()
    """Distance of predictions and targets."""

    @model_validator(mode="after")
    def _positions_are_known(self) -> Data2Vec1Config:
        if self.teacher_view == "hidden" and "position" in self.targets.average_norms:
            raise ValueError(
                "average_norms has position, but a teacher that sees hidden tokens alone gets them closed up: set "
                "objective.teacher_view=whole"
            )
        return self


class MaeDecoderConfig(Block):
    """The transformer that fills in what MAE's encoder did not see (He et al. 2022, appendix A.1)."""

    layers: PositiveInt = 8
    """Transformer blocks."""
    width: PositiveInt = 512
    """Width of their tokens: a multiple of `heads`, and of 4 for 2-D sin-cos positions."""
    heads: PositiveInt = 16
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of the hidden layer of a block's MLP, as a multiple of `width`."""

    @model_validator(mode="after")
    def _width_splits(self) -> MaeDecoderConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} does not split into {self.heads} heads: change decoder.heads")
        if self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, which 2-D sin-cos positions need: change it")
        return self


class MaeConfig(Block):
    """Masked autoencoder: encode the visible patches, predict the pixels of the others (He et al. 2022). The paper's
    random masks are block masks with `mask.block: 1`."""

    name: Literal["mae"]
    """Picks this objective."""
    decoder: MaeDecoderConfig = MaeDecoderConfig()
    """Fills in masked patches."""
    normalise_targets: bool = True
    """Give the pixels of each patch zero mean and unit variance before they are predicted."""


class MaskFeatConfig(Block):
    """MaskFeat: regress hand-made features of masked tokens from the full sequence (Wei et al. 2021): histograms of
    oriented gradients of images, log-mel energies of recordings. What they are made of stands in the train block's
    `descriptors`."""

    name: Literal["maskfeat"]
    """Picks this objective."""


class BeitConfig(Block):
    """BEiT: name the code that a trained tokenizer gives a masked token (Bao et al. 2021). The tokenizer's sizes stand
    in the train block's `codebook`. The prepare step trains it on the corpus at hand (`prepare.codebook`), unlike the
    paper's, which learned from other images."""

    name: Literal["beit"]
    """Picks this objective."""


class QuantizerConfig(Block):
    """Product quantisation with Gumbel noise (wav2vec 2.0 section 2): one vector of each codebook, side by side."""

    groups: PositiveInt = 2
    """Codebooks."""
    entries: PositiveInt = 320
    """Vectors in each codebook."""
    width: PositiveInt = 256
    """Width of a quantised feature: the vectors of all codebooks together."""
    init_std: Positive = 0.5
    """Standard deviation of the first weights that score the entries, for features of unit variance. 1 as in fairseq
    makes the softmax so steep that a short training hardly moves the choice; well below 0.5 the noise decides it."""
    temperature_start: Positive = 2.0
    """Temperature of the Gumbel softmax at the first update; higher spreads gradients over more entries."""
    temperature_end: Positive = 0.5
    """Lowest temperature."""
    temperature_decay: Fraction = 0.999995
    """Factor on the temperature at each update."""

    @model_validator(mode="after")
    def _width_splits(self) -> QuantizerConfig:
        if self.width % self.groups:
            raise ValueError(f"width {self.width} does not split into {self.groups} groups: change quantizer.width")
        return self


class Wav2Vec2Config(Block):
    """wav2vec 2.0: find the quantised features of a masked frame among those of other masked frames of the same
    recording (Baevski et al. 2020, "wav2vec 2.0").

    Sizes are those of its Base model. Three defaults are for short trainings, which stay at chance or collapse with the
    Base model's `diversity_weight: 0.1`, `penalty_weight: 10` and `quantizer.init_std: 1`. Before there is anything to
    learn from, the penalty alone shapes the features, and the diversity must outweigh that distractors with the own
    codes are left out. A small encoder needs a small `encoder.tap_spread` as well."""

    name: Literal["wav2vec2"]
    """Picks this objective."""
    quantizer: QuantizerConfig = QuantizerConfig()
    """From local features to codebook entries, which are the targets."""
    projection_width: PositiveInt = 256
    """Width in which predictions and targets are compared."""
    distractors: PositiveInt = 100
    """Wrong candidates for each masked frame, of the same recording; more make the task harder."""
    temperature: Positive = 0.1
    """Cosine similarities are divided by this; smaller makes the loss look at the nearest candidates only."""
    diversity_weight: NonNegative = 0.5
    """Weight of the loss that asks for codebook entries to be used evenly."""
    penalty_weight: NonNegative = 0.0
    """Weight of the mean square of the local features."""
    feature_dropout: Fraction = 0.1
    """Dropout rate on local features, for the encoder and for the quantiser."""
    feature_gradient: Fraction = 0.1
    """Factor on the gradient of the convolutions; smaller trains them more slowly than the rest."""


class HubertConfig(Block):
    """HuBERT: name the cluster that a masked frame belongs to (Hsu et al. 2021). Clusters are found before, by the
    prepare step's `codebook`: of MFCCs at first, and of a trained encoder's features after that.

    Sizes are those of its Base model."""

    name: Literal["hubert"]
    """Picks this objective."""
    codes: PositiveInt
    """Clusters, as many as `prepare.codebook.codes`."""
    projection_width: PositiveInt = 256
    """Width in which features and clusters are compared."""
    temperature: Positive = 0.1
    """Cosine similarities are divided by this."""
    masked_weight: NonNegative = 1.0
    """Weight of the loss at masked frames (the paper's alpha)."""
    unmasked_weight: NonNegative = 0.0
    """Weight of the loss at the other frames; above 0 an update takes longer."""
    penalty_weight: NonNegative = 10.0
    """Weight of the mean square of the local features."""
    feature_dropout: Fraction = 0.1
    """Dropout rate on local features."""
    feature_gradient: Fraction = 0.1
    """Factor on the gradient of the convolutions; smaller trains them more slowly than the rest."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> HubertConfig:
        if not self.masked_weight and not self.unmasked_weight:
            raise ValueError("masked_weight and unmasked_weight are both 0: set objective.masked_weight=1")
        return self


class MlmConfig(Block):
    """Masked language model, as RoBERTa (Liu et al. 2019) or BERT (Devlin et al. 2019). Selected tokens that become
    neither <mask> nor another word stay as they are."""

    name: Literal["mlm"]
    """Picks this objective."""
    mask_share: Fraction = 0.8
    """Share of the selected tokens that become <mask>."""
    random_share: Fraction = 0.1
    """Share of the selected tokens that become another word, drawn at random."""
    random_specials: bool = False
    """Whether that may be a special token, too, as in BERT's code."""
    select: Literal["mask", "roberta", "bert"] = "mask"
    """How tokens are selected. `mask`: by the recipe's mask. `roberta`: floor(share x tokens + u) of all, u uniform
    from 0 to 1. `bert`: round(share x tokens) of those that are not special, at least one, at most `most_selected`."""
    share: Fraction = 0.15
    """Share of the tokens that `roberta` and `bert` select."""
    most_selected: PositiveInt | None = None
    """Most tokens that `bert` selects of a text; null: no limit."""
    whole_words: bool = False
    """Whether `bert` selects all tokens of a word together."""
    static_masks: NonNegativeInt = 0
    """Sets of masks and replacements that a text has, one epoch after the other, as many as BERT's copies of its data
    (10). 0: new ones each time, as in RoBERTa."""
    next_sentence: bool = False
    """Also tell whether the second part of a text follows the first one (BERT): of texts that prepare packed in
    `pairs`."""

    @model_validator(mode="after")
    def _shares_fit(self) -> MlmConfig:
        if self.mask_share + self.random_share > 1.0:
            raise ValueError("mask_share and random_share are more than 1 together: lower objective.random_share")
        if self.select != "bert" and (self.whole_words or self.most_selected is not None):
            raise ValueError("whole_words and most_selected are bert's: leave them out, or set objective.select=bert")
        return self


ObjectiveConfig = Annotated[
    Data2Vec2Config
    | Data2Vec1Config
    | MaeConfig
    | MaskFeatConfig
    | BeitConfig
    | Wav2Vec2Config
    | HubertConfig
    | MlmConfig,
    Field(discriminator="name"),
]
