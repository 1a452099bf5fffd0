"""What a vision recipe says beyond the shared blocks."""

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


class VisionIngestConfig(Block):
    """Where the images come from. `source` is an embedded corpus (`glyphs`, `digits`), a path or an fsspec URL,
    or `torchvision:<Class>`; `format` is found from it unless said."""

    source: str
    format: Literal["auto", "folder", "tar", "zip", "idx", "npz", "parquet", "torchvision", "glyphs", "digits"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the source, e.g. count of glyphs")
    test_fraction: Fraction = Field(0.1, description="share of the hash split where the source has no test split")
    max_pixels: PositiveInt = 100_000_000
    max_item_bytes: PositiveInt = 256 * 2**20
    min_side_px: PositiveInt = 4
    shard_bytes: PositiveInt = 64 * 2**20


class VisionPrepareConfig(Block):
    """The model-ready store: RGB, `store_px` on a side (`pixels`), or the shorter side `store_px` and JPEG."""

    store_px: PositiveInt = 32
    storage: Literal["pixels", "jpeg"] = "pixels"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 92
    probe_train_images: PositiveInt = 4000
    probe_test_images: PositiveInt = 2000
    seed: NonNegativeInt = 0


class VisionEncoderConfig(Block):
    """A vision transformer. `data2vec2`: post-norm, fixed sin-cos positions, CLS token, context norm, prenet.
    `beit`: pre-norm with LayerScale, relative position bias, mask token, final norm. Its fine-tuned models have a
    position bias in every block (`per_block`) and no final norm, as they normalise what they have averaged."""

    layout: Literal["data2vec2", "beit"] = "data2vec2"
    image_px: PositiveInt = 224
    patch_px: PositiveInt = 16
    width: PositiveInt = 768
    depth: PositiveInt = Field(10, description="blocks of the trunk, whose outputs can be targets")
    prenet_depth: NonNegativeInt = 0
    heads: PositiveInt = 12
    mlp_ratio: Positive = 4.0
    norm_eps: Positive = 1e-6
    dropout: Fraction = 0.0
    attention_dropout: Fraction = 0.0
    drop_path: Fraction = 0.0
    layer_scale_init: Positive | None = None
    relative_bias: Literal["shared", "per_block"] = Field("shared", description="of beit")
    final_norm: bool = Field(True, description="of beit")

    @model_validator(mode="after")
    def _sizes_fit(self) -> VisionEncoderConfig:
        if self.image_px % self.patch_px:
            raise ValueError(
                f"image_px {self.image_px} is not a multiple of patch_px {self.patch_px}: "
                f"set image_px to {max(self.image_px // self.patch_px, 1) * self.patch_px}"
            )
        check_heads(self.width, self.heads)
        if self.layout == "data2vec2" and self.width % 4:
            raise ValueError(f"width {self.width} is not a multiple of 4, which 2-D sin-cos positions need: change it")
        if self.layout == "data2vec2" and (self.relative_bias == "per_block" or not self.final_norm):
            raise ValueError("relative_bias and final_norm are beit's: leave them out, or set layout=beit")
        return self

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_px // self.patch_px


class InverseBlockMask(Block):
    """data2vec 2.0 block masks with exact counts; with `inverse` the painted blocks are what stays visible."""

    kind: Literal["block"]
    ratio: Fraction = 0.8
    adjust: Fraction = 0.07
    block: PositiveInt = 3
    inverse: bool = True


class BeitMask(Block):
    """BEiT's block-wise mask: rectangles until `ratio` of the patches are hidden, never above."""

    kind: Literal["beit"]
    ratio: Fraction = 0.6
    min_patches: PositiveInt = 16
    min_aspect: Positive = 0.3


VisionMaskConfig = Annotated[InverseBlockMask | BeitMask, Field(discriminator="kind")]


class VisionAugmentConfig(Block):
    """Random resized crop (bicubic, aspect 3/4 to 4/3) and flip, the same view for student and teacher.
    `colour_jitter` is data2vec 1.0's (0.4 each); 0 switches it off."""

    crop_scale: tuple[Fraction, Fraction] = (0.2, 1.0)
    flip: Fraction = 0.5
    colour_jitter: Annotated[float, Field(ge=0.0)] = 0.0


LAYOUTS = {"data2vec2": ("data2vec2",), "data2vec1": ("beit",), "mae": ("data2vec2",)}
MASKS = {"data2vec2": ("block",), "data2vec1": ("beit", "block"), "mae": ("block",)}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""


class VisionTrainConfig(TrainConfig):
    encoder: VisionEncoderConfig
    mask: VisionMaskConfig
    augment: VisionAugmentConfig = VisionAugmentConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> VisionTrainConfig:
        check_targets(self, self.encoder.depth)
        check_goes_with(self, "encoder.layout", self.encoder.layout, LAYOUTS)
        check_goes_with(self, "mask.kind", self.mask.kind, MASKS)
        patches = self.encoder.grid**2
        hidden = int(patches * self.mask.ratio)
        if not 0 < hidden < patches:
            raise ValueError(
                f"mask.ratio {self.mask.ratio} hides {hidden} of {patches} patches: at least one must be hidden and "
                "one visible; change mask.ratio or encoder.patch_px"
            )
        return self


class RandAugmentConfig(Block):
    """RandAugment (Cubuk et al. 2020): so many of timm's 15 `operations` one after the other, each with `probability`
    and by `magnitude` of 10, which varies by `magnitude_std`. `operations: 2` is timm's `rand-m9-mstd0.5-inc1`."""

    operations: NonNegativeInt = 0
    magnitude: Annotated[float, Field(ge=0.0, le=10.0)] = 9.0
    magnitude_std: Annotated[float, Field(ge=0.0)] = 0.5
    probability: Fraction = 0.5


class VisionFinetuneAugment(VisionAugmentConfig):
    """Crop, flip and colours as in pretraining, then RandAugment, then random erasing of one box with probability
    `erase`."""

    crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    rand_augment: RandAugmentConfig = RandAugmentConfig()
    erase: Fraction = 0.0


class VisionFinetuneConfig(FinetuneConfig):
    augment: VisionFinetuneAugment = VisionFinetuneAugment()


class VisionRecipe(Block):
    """All blocks of `conf/<env>/parameters_vision.yml`."""

    ingest: VisionIngestConfig
    prepare: VisionPrepareConfig = VisionPrepareConfig()
    train: VisionTrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    finetune: VisionFinetuneConfig | None = None
    promote: PromoteConfig = PromoteConfig()
    retrain: RetrainConfig = RetrainConfig()
    benchmark: BenchmarkConfig | None = None

    @model_validator(mode="after")
    def _store_is_large_enough(self) -> VisionRecipe:
        if self.prepare.store_px < self.train.encoder.image_px:
            raise ValueError(
                f"prepare.store_px {self.prepare.store_px} is smaller than train.encoder.image_px "
                f"{self.train.encoder.image_px}: raise prepare.store_px or lower train.encoder.image_px"
            )
        return self
