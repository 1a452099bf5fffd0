"""What a speech recipe says beyond the shared blocks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from d2v.config import (
    BenchmarkConfig,
    Block,
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

ConvLayer = tuple[PositiveInt, PositiveInt, PositiveInt]

WAV2VEC_CONVS: tuple[ConvLayer, ...] = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)
"""(channels, kernel, stride) from 16 kHz to 50 Hz."""


class SpeechIngestConfig(Block):
    """Where the recordings come from. `source` is the embedded corpus `spoken`, a path or an fsspec URL, or
    `torchaudio:<Class>`; `format` is found from it unless said. A LibriSpeech tree, a table beside the recordings
    (manifest.tsv, metadata.csv) and fairseq's manifests are read with their transcripts and speakers."""

    source: str
    format: Literal["auto", "folder", "tar", "zip", "manifest", "parquet", "torchaudio", "spoken"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the source, e.g. count of spoken")
    test_fraction: Fraction = Field(0.1, description="share of the hash split where the source has no test split")
    max_item_bytes: PositiveInt = 256 * 2**20
    min_seconds: Positive = 0.1
    max_seconds: Positive = 3600.0
    silence_peak: Fraction = Field(1e-3, description="a recording whose largest sample is below this is silent")
    max_clipped: Fraction = Field(0.02, description="share of samples at full scale above which it is clipped")
    shard_bytes: PositiveInt = 64 * 2**20


class SpeechPrepareConfig(Block):
    """The model-ready store: 16 kHz, one channel, 16 bits, with each recording's mean and standard deviation.

    Recordings shorter than `min_seconds` (the reference's 2) are left out of training. `label` says what is probed: the
    source's own class (`label`), or a text column of the corpus such as `speaker`."""

    min_seconds: Positive = 2.0
    label: str = "label"
    probe_train_items: PositiveInt = 2000
    probe_test_items: PositiveInt = 1000
    probe_max_seconds: Positive = 8.0
    seed: NonNegativeInt = 0


class SpeechEncoderConfig(Block):
    """Convolutions to 50 Hz, convolutional positions, post-norm transformer. `data2vec2`: ALiBi with learned scales,
    context norm, prenet. `data2vec1`: no ALiBi, masked frames replaced by a vector.

    `tap_spread` is how far the first weights of the convolutions after the first differ from tap to tap. At 1 they are
    random filters, as in the papers: in a narrow encoder their features follow the phase of the wave, and a frame says
    nothing about its neighbours. At 0 they average over time."""

    layout: Literal["data2vec2", "data2vec1"] = "data2vec2"
    convs: tuple[ConvLayer, ...] = WAV2VEC_CONVS
    tap_spread: Fraction = 1.0
    width: PositiveInt = 768
    depth: PositiveInt = Field(12, description="blocks of the trunk, whose outputs can be targets")
    prenet_depth: NonNegativeInt = 0
    heads: PositiveInt = 12
    mlp_ratio: Positive = 4.0
    norm_eps: Positive = 1e-5
    dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.1
    layer_drop: Fraction = 0.0
    prenet_dropout: Fraction = 0.0
    prenet_layer_drop: Fraction = 0.0
    position_layers: PositiveInt = 5
    position_kernel: PositiveInt = 19
    position_groups: PositiveInt = 16
    padding: Literal["invariant", "reference"] = Field(
        "invariant", description="invariant: a recording's features do not depend on padding; the reference's do"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> SpeechEncoderConfig:
        check_heads(self.width, self.heads)
        if self.width % self.position_groups:
            raise ValueError(
                f"width {self.width} does not split into {self.position_groups} groups: change encoder.position_groups"
            )
        if self.position_kernel % 2 == 0:
            raise ValueError(f"position_kernel {self.position_kernel} is even: set it to an odd number")
        if self.layout == "data2vec1" and self.prenet_depth:
            raise ValueError("data2vec1 has no prenet: set encoder.prenet_depth=0")
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


class BlockSpanMask(Block):
    """data2vec 2.0's spans with exact counts: spans of `block` frames around random centres, then random frames
    until exactly `ratio` of them are hidden."""

    kind: Literal["block"]
    ratio: Fraction = 0.5
    adjust: Fraction = 0.05
    block: PositiveInt = 5
    inverse: bool = False


class SpanMask(Block):
    """wav2vec 2.0's spans (data2vec 1.0): `ratio` x frames / `span` starts without replacement, overlaps allowed."""

    kind: Literal["span"]
    ratio: Fraction = 0.65
    span: PositiveInt = 10
    min_spans: PositiveInt = 1


SpeechMaskConfig = Annotated[BlockSpanMask | SpanMask, Field(discriminator="kind")]


class SpeechAugmentConfig(Block):
    """Random crops, the same for student and teacher. Every recording of an update is cropped to its shortest one."""

    max_seconds: Positive = 20.0


LAYOUTS = {"data2vec2": ("data2vec2",), "data2vec1": ("data2vec1",), "wav2vec2": ("data2vec1", "data2vec2")}
MASKS = {"data2vec2": ("block",), "data2vec1": ("span",), "wav2vec2": ("span",)}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""


def _check_frames(key: str, seconds: float, encoder: SpeechEncoderConfig, least: int) -> None:
    """A recording of so many seconds has `least` frames; masks need two, one hidden and one visible."""
    frames = encoder.frames(round(seconds * RATE_HZ))
    if frames < least:
        raise ValueError(f"{key} {seconds:g} gives {frames} frames, and {least} are needed: raise {key}")


class SpeechTrainConfig(TrainConfig):
    encoder: SpeechEncoderConfig
    mask: SpeechMaskConfig
    augment: SpeechAugmentConfig = SpeechAugmentConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> SpeechTrainConfig:
        check_targets(self, self.encoder.depth)
        check_goes_with(self, "encoder.layout", self.encoder.layout, LAYOUTS)
        check_goes_with(self, "mask.kind", self.mask.kind, MASKS)
        _check_frames("augment.max_seconds", self.augment.max_seconds, self.encoder, 2)
        return self

    @property
    def longest_samples(self) -> int:
        """Samples of the longest crop."""
        return round(self.augment.max_seconds * RATE_HZ)


class SpeechCropConfig(Block):
    """Random crops of training recordings, for tasks that need not hear all of one. Tests hear whole recordings."""

    crop_seconds: Positive | None = None


class SpeechFinetuneConfig(FinetuneConfig):
    """Training leaves out recordings longer than `max_seconds`, unless it crops them. `dev_share` of the recordings
    with a transcript are kept out of training: on them the weight of the language model is chosen. Names of several
    classes stand in the text column `text`."""

    augment: SpeechCropConfig = SpeechCropConfig()
    max_seconds: Positive = 30.0
    dev_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    text: Literal["transcript", "speaker"] = "transcript"

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
    prepare: SpeechPrepareConfig = SpeechPrepareConfig()
    train: SpeechTrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    finetune: SpeechFinetuneConfig | None = None
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    benchmark: BenchmarkConfig | None = None

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
