"""What a speech recipe says beyond the shared blocks."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from d2v.config import (
    BenchmarkConfig,
    Block,
    ClusterConfig,
    ColumnsConfig,
    Engine,
    EvaluateConfig,
    FinetuneConfig,
    Fraction,
    NonNegativeInt,
    Positive,
    PositiveInt,
    PromoteConfig,
    RetrainConfig,
    TrainConfig,
)
from d2v.modalities.checks import check_goes_with, check_heads, check_targets

RATE_HZ = 16_000
"""Every recording is brought to this rate."""

Resampler = Literal["soxr_hq", "torchaudio"]

ConvLayer = tuple[PositiveInt, PositiveInt, PositiveInt]

WAV2VEC_CONVS: tuple[ConvLayer, ...] = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)
"""(channels, kernel, stride) from 16 kHz to 50 Hz."""


class SpeechColumnsConfig(ColumnsConfig):
    """Names of the columns of tables, whatever their case: of Parquet that holds the recordings, and of tables beside
    the recordings. null: the first of the usual names; an empty text: none."""

    file: str | None = None
    """Column of the files that a table beside the items speaks of, relative to the table or to the root."""
    recording: str | None = None
    """Column of the encoded recordings in Parquet."""
    speaker: str | None = None
    """Column of the speaker."""
    transcript: str | None = None
    """Column of what is said."""


class SpeechIngestConfig(Block):
    """Where the recordings come from, and which are kept. A LibriSpeech tree, a table beside the recordings
    (manifest.tsv, metadata.csv) and fairseq's manifests are read with their transcripts and speakers. What is refused
    is listed in `quarantine.csv` with its reason."""

    source: str
    """The embedded corpus `spoken`, a path or an fsspec URL, or `torchaudio:<Class>`."""
    format: Literal["auto", "folder", "tar", "zip", "manifest", "parquet", "torchaudio", "spoken"] = "auto"
    """What the source is; `auto` finds it from names and contents."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source: those of `spoken` (such as `count`) or of a torchaudio class, or of a URL's file system
    such as `anon: true`."""
    test_fraction: Fraction = 0.1
    """Share that becomes the test split, by a hash of the content, of the items that the source puts into no split."""
    max_item_bytes: PositiveInt = 256 * 2**20
    """Files with more bytes are refused."""
    min_seconds: Positive = 0.1
    """Shorter recordings are refused, in seconds."""
    max_seconds: Positive = 3600.0
    """Longer recordings are refused, in seconds."""
    silence_peak: Fraction = 1e-3
    """A recording is silent, and refused, if it swings by less than this to either side, as a share of full scale."""
    max_clipped: Fraction = 0.02
    """A recording with a larger share of its samples at full scale is clipped, and refused."""
    resampler: Resampler = "soxr_hq"
    """What brings this corpus's recordings to 16 kHz. `soxr_hq`: nothing above 8 kHz folds into the band. `torchaudio`:
    the default filter of torchaudio, which corpora and models without this record were made with; another filter gives
    other features."""
    columns: SpeechColumnsConfig = SpeechColumnsConfig()
    """Names of the columns of tables."""
    no_label: tuple[str, ...] | None = None
    """Labels that mean no label, such as `["-1", "none"]`; null: only -1, unless it is a class beside 0 and 1."""
    parted_groups: Literal["move", "refuse"] | None = None
    """What to do where the source itself puts items of one group (`columns.group`) into several splits: `move` their
    training items into the other split, or `refuse`; null: they stay, and are named."""
    shard_bytes: PositiveInt = 64 * 2**20
    """Bytes of items in a shard, which also bounds memory; the content of the corpus does not depend on it."""
    engine: Engine = "local"
    """Where it computes: `local`, in this process, or `dask`, on the machines of a cluster. Both write the same
    bytes."""
    cluster: ClusterConfig = ClusterConfig()
    """Of the engine `dask`."""


class CodebookConfig(Block):
    """Clusters of the train recordings' frames, which `hubert` learns to name (Hsu et al. 2021): of MFCCs in a first
    iteration, of a trained encoder's features in further ones."""

    codes: Annotated[int, Field(ge=2, le=2**16)] = 100
    """Clusters."""
    encoder: str | None = None
    """Model folder of the encoder whose features are clustered; null: MFCCs with their first and second differences,
    39 numbers every 10 ms."""
    layer: PositiveInt = 6
    """Block of that encoder whose output is clustered, from 1."""
    share: Fraction = 0.1
    """Share of the train recordings that clusters are found on; every one gets its codes."""
    passes: PositiveInt = 5
    """How often these recordings are gone through."""
    batch_frames: PositiveInt = 10_000
    """Frames that move the centres at a time, which are in memory together."""
    seed: NonNegativeInt = 0
    """Seed of the share and of the first centres."""


class SpeechPrepareConfig(Block):
    """The model-ready store: 16 kHz, one channel, 16 bits, with each recording's mean and standard deviation, and a
    probe set."""

    min_seconds: Positive = 2.0
    """Shorter recordings are left out of training, in seconds; the reference's 2."""
    label: str = "label"
    """What is probed and classified: the source's own class (`label`), or a text column of the corpus such as
    `speaker`."""
    probe_train_items: PositiveInt = 2000
    """Labelled train recordings at most in the probe set, of each class as many if there are enough."""
    probe_test_items: PositiveInt = 1000
    """Labelled test recordings at most in the probe set."""
    probe_max_seconds: Positive = 8.0
    """Of longer recordings the probe hears the beginning, in seconds."""
    seed: NonNegativeInt = 0
    """Seed of the probe set's choice."""
    codebook: CodebookConfig | None = None
    """Clusters of frames for `hubert`; null: none."""
    engine: Engine = "local"
    """Where it computes: `local`, in this process, or `dask`, on the machines of a cluster. Both write the same
    bytes."""
    cluster: ClusterConfig = ClusterConfig()
    """Of the engine `dask`."""


class SpeechEncoderConfig(Block):
    """Convolutions from 16 kHz to frames at 50 Hz, convolutional positions, post-norm transformer."""

    layout: Literal["data2vec2", "data2vec1"] = "data2vec2"
    """`data2vec2`: ALiBi with learned scales, context norm, prenet. `data2vec1`: no ALiBi, masked frames become a
    learned vector."""
    convs: tuple[ConvLayer, ...] = WAV2VEC_CONVS
    """Convolutions over the waveform: (channels, kernel, stride) of each, in samples of the layer before."""
    tap_spread: Fraction = 1.0
    """How far the first weights of the convolutions after the first differ from tap to tap. At 1 they are random
    filters, as in the papers: in a narrow encoder their features follow the phase of the wave, and a frame says nothing
    about its neighbours. At 0 they average over time."""
    width: PositiveInt = 768
    """Numbers in a frame's features; a multiple of `heads` and of `position_groups`."""
    depth: PositiveInt = 12
    """Blocks of the trunk, whose outputs can be targets."""
    prenet_depth: NonNegativeInt = 0
    """Blocks before the trunk, whose outputs are never targets; of `data2vec2`."""
    heads: PositiveInt = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of the hidden layer of a block's MLP, as a multiple of `width`."""
    norm_eps: Positive = 1e-5
    """Added to the variance in the transformer's LayerNorms."""
    dropout: Fraction = 0.1
    """Dropout rate after attention and MLP; of `data2vec1` also before the first block."""
    attention_dropout: Fraction = 0.1
    """Dropout rate on attention weights."""
    layer_drop: Fraction = 0.0
    """Probability that training skips a block of the trunk (LayerDrop, Fan et al. 2020)."""
    prenet_dropout: Fraction = 0.0
    """Dropout rate before the prenet; of `data2vec2`."""
    prenet_layer_drop: Fraction = 0.0
    """Probability that training skips a block of the prenet."""
    position_layers: PositiveInt = 5
    """Convolutions one after the other that positions are made of."""
    position_kernel: PositiveInt = 19
    """Frames that each of them spans; an odd number, but in `data2vec1`, where an even one reaches a frame further back
    than ahead, as in wav2vec 2.0 and HuBERT."""
    position_groups: PositiveInt = 16
    """Groups of channels that they convolve apart."""
    position_norm: bool = True
    """Whether a norm follows each of them; wav2vec 2.0's single one has none."""
    pre_norm: bool = False
    """Pre-norm blocks and a norm after the last, to read models that were trained with them. Those of `data2vec2` are
    the reference's, whose MLP has no residual."""
    extra_tokens: NonNegativeInt = 0
    """Learned tokens before the frames, as emotion2vec has; of `data2vec2`."""
    stem_norm: Literal["layer", "group"] = "layer"
    """`layer`: a norm over channels after each of the convolutions over the waveform. `group`: one over time after the
    first alone, as wav2vec 2.0's base models; there a recording's features depend on how far it is padded."""
    stem_bias: bool = False
    """Whether these convolutions have a bias."""
    padding: Literal["invariant", "reference"] = "invariant"
    """`invariant`: a recording's features do not depend on how far it is padded. `reference`: positions see padding, as
    in fairseq."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> SpeechEncoderConfig:
        check_heads(self.width, self.heads)
        if self.width % self.position_groups:
            raise ValueError(
                f"width {self.width} does not split into {self.position_groups} groups: change encoder.position_groups"
            )
        if self.position_kernel % 2 == 0 and self.layout == "data2vec2":
            raise ValueError(f"position_kernel {self.position_kernel} is even: set it to an odd number")
        if self.layout == "data2vec1" and self.prenet_depth:
            raise ValueError("data2vec1 has no prenet: set encoder.prenet_depth=0")
        if self.layout == "data2vec1" and self.extra_tokens:
            raise ValueError("data2vec1 has no extra tokens: set encoder.extra_tokens=0")
        return self

    def frames(self, samples: int) -> int:
        """Frames that the convolutions make of so many samples."""
        for _, kernel, stride in self.convs:
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
        return samples

    @property
    def receptive_samples(self) -> int:
        """Samples that one frame sees, the fewest that make a frame."""
        samples = 1
        for _, kernel, stride in reversed(self.convs):
            samples = (samples - 1) * stride + kernel
        return samples

    @property
    def step_samples(self) -> int:
        """Samples from the start of one frame to that of the next."""
        return math.prod(stride for _, _, stride in self.convs)


class BlockSpanMask(Block):
    """data2vec 2.0's span masks: blocks of frames around random centres, then random frames until the count is
    exact."""

    kind: Literal["block"]
    """Picks this mask."""
    ratio: Fraction = 0.5
    """Share of the frames that is masked, exactly; larger is harder and cheaper."""
    adjust: Fraction = 0.05
    """Added to the share of frames that blocks are drawn for, to make up for overlaps."""
    block: PositiveInt = 5
    """Frames of a block, of 20 ms each with the papers' convolutions."""
    inverse: bool = False
    """The blocks are what stays visible, and not what is masked."""


class SpanMask(Block):
    """wav2vec 2.0's spans (section 3.1; data2vec 1.0): random starts without replacement, overlaps allowed."""

    kind: Literal["span"]
    """Picks this mask."""
    ratio: Fraction = 0.65
    """Share of the frames that spans would cover if they did not overlap; wav2vec 2.0's p is this over `span`."""
    span: PositiveInt = 10
    """Frames of a span, of 20 ms each with the papers' convolutions."""
    min_spans: PositiveInt = 1
    """Fewest spans of a recording."""


SpeechMaskConfig = Annotated[BlockSpanMask | SpanMask, Field(discriminator="kind")]


class SpeechAugmentConfig(Block):
    """Random crops, the same for student and teacher. Every recording of an update is cropped to its shortest one."""

    max_seconds: Positive = 20.0
    """Longest crop, in seconds; longer gives more context and needs more memory."""


class LogMelConfig(Block):
    """Log-mel energies in windows of 25 ms, one for about each 10 ms of a frame's step."""

    mels: PositiveInt = 40
    """Bands from 0 to 8 kHz of each window."""


LAYOUTS = {
    "data2vec2": ("data2vec2",),
    "data2vec1": ("data2vec1",),
    "maskfeat": ("data2vec1", "data2vec2"),
    "wav2vec2": ("data2vec1", "data2vec2"),
    "hubert": ("data2vec1", "data2vec2"),
}
MASKS = {
    "data2vec2": ("block",),
    "data2vec1": ("span",),
    "maskfeat": ("span", "block"),
    "wav2vec2": ("span",),
    "hubert": ("span",),
}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""


def _check_frames(key: str, seconds: float, encoder: SpeechEncoderConfig, least: int) -> None:
    """A recording of so many seconds has `least` frames; masks need two, one masked and one visible."""
    frames = encoder.frames(round(seconds * RATE_HZ))
    if frames < least:
        raise ValueError(f"{key} {seconds:g} gives {frames} frames, and {least} are needed: raise {key}")


class SpeechTrainConfig(TrainConfig):
    """Pretraining on recordings."""

    encoder: SpeechEncoderConfig
    """The student's architecture, which is the teacher's too."""
    mask: SpeechMaskConfig
    """What the student does not see."""
    augment: SpeechAugmentConfig = SpeechAugmentConfig()
    """How recordings are cropped."""
    descriptors: LogMelConfig = LogMelConfig()
    """What `maskfeat` predicts."""

    @model_validator(mode="after")
    def _parts_fit(self) -> SpeechTrainConfig:
        check_targets(self, self.encoder.depth)
        check_goes_with(self, "encoder.layout", self.encoder.layout, LAYOUTS)
        check_goes_with(self, "mask.kind", self.mask.kind, MASKS)
        _check_frames("augment.max_seconds", self.augment.max_seconds, self.encoder, 2)
        return self

    def remarks(self, at: str) -> list[str]:
        """Also a budget that holds short recordings alone."""
        budget, longest = self.batch_budget, self.longest_samples
        found = super().remarks(at)
        if budget is not None and budget.positions < budget.multiple_of * longest:
            fits_s = budget.positions / budget.multiple_of / RATE_HZ
            found.append(
                f"{at}.batch_budget.positions {budget.positions:,} holds {budget.multiple_of} recordings of "
                f"{fits_s:.1f} s, and training stops at longer ones: raise it to {budget.multiple_of * longest}, or "
                f"set {at}.augment.max_seconds={fits_s:.1f}"
            )
        return found

    @property
    def longest_samples(self) -> int:
        """Samples of the longest crop."""
        return round(self.augment.max_seconds * RATE_HZ)


class SpeechCropConfig(Block):
    """Random crops of training recordings, for tasks that need not hear all of one. Tests hear whole recordings."""

    crop_seconds: Positive | None = None
    """Longest crop, in seconds; null: whole recordings."""


class SpeechFinetuneConfig(FinetuneConfig):
    """Tuning to the transcripts or the classes of recordings."""

    augment: SpeechCropConfig = SpeechCropConfig()
    """How recordings are cropped."""
    max_seconds: Positive = 30.0
    """Longer recordings are left out of training, in seconds, unless they are cropped."""
    dev_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the recordings with a transcript that is kept out of training, to choose the language model's weight
    on."""
    text: Literal["transcript", "speaker"] = "transcript"
    """Text column that a transcription learns, or that names the classes of a multilabel task."""

    @model_validator(mode="after")
    def _task_hears_enough(self) -> SpeechFinetuneConfig:
        if self.task.name == "transcription":
            if self.augment.crop_seconds is not None:
                raise ValueError("a transcript needs its whole recording: set augment.crop_seconds=null")
            if self.text != "transcript":
                raise ValueError("what is said stands in the column transcript: set text=transcript")
        elif self.dev_share:
            raise ValueError("dev_share is for task.name=transcription: set dev_share=0")
        return self


class SpeechRecipe(Block):
    """All blocks of `conf/<env>/parameters_speech.yml`."""

    ingest: SpeechIngestConfig
    """Where raw data come from."""
    prepare: SpeechPrepareConfig = SpeechPrepareConfig()
    """From the corpus to the model-ready store."""
    train: SpeechTrainConfig
    """Pretraining."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Probes of the frozen encoder."""
    finetune: SpeechFinetuneConfig | None = None
    """Tuning to a task; null: there is none."""
    promote: PromoteConfig = PromoteConfig()
    """When a challenger takes the champion's place."""
    retrain: RetrainConfig = RetrainConfig()
    """What a scheduled retraining does."""
    benchmark: BenchmarkConfig | None = None
    """Objectives side by side; null: there is no benchmark."""

    @model_validator(mode="after")
    def _crops_hold_frames(self) -> SpeechRecipe:
        encoder, prepare = self.train.encoder, self.prepare
        _check_frames("ingest.min_seconds", self.ingest.min_seconds, encoder, 1)
        _check_frames("prepare.min_seconds", prepare.min_seconds, encoder, 2)
        _check_frames("prepare.probe_max_seconds", prepare.probe_max_seconds, encoder, 1)
        crop_seconds = self.finetune.augment.crop_seconds if self.finetune else None
        if crop_seconds is not None:
            _check_frames("finetune.augment.crop_seconds", crop_seconds, encoder, 1)
        return self

    @model_validator(mode="after")
    def _codebook_is_asked_for(self) -> SpeechRecipe:
        objective, codebook = self.train.objective, self.prepare.codebook
        if objective.name == "hubert" and (codebook is None or codebook.codes != objective.codes):
            has = "no codebook" if codebook is None else f"a codebook of {codebook.codes} codes"
            raise ValueError(
                f"hubert learns {objective.codes} codes, and there is {has}: set "
                f"prepare.codebook.codes={objective.codes}"
            )
        return self

    @model_validator(mode="after")
    def _budget_holds_recordings(self) -> SpeechRecipe:
        budget = self.train.batch_budget
        shortest = min(round(self.prepare.min_seconds * RATE_HZ), self.train.longest_samples)
        if budget is not None and budget.positions < budget.multiple_of * shortest:
            raise ValueError(
                f"train.batch_budget.positions {budget.positions} does not hold {budget.multiple_of} recordings of "
                f"prepare.min_seconds {self.prepare.min_seconds:g}: raise it to at least "
                f"{budget.multiple_of * shortest}, or lower train.batch_budget.multiple_of"
            )
        return self
