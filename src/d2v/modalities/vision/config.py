"""What a vision recipe says beyond the shared blocks."""

from __future__ import annotations

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
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    PromoteConfig,
    RetrainConfig,
    TrainConfig,
)
from d2v.modalities.checks import check_goes_with, check_heads, check_no_budget, check_targets


class VisionColumnsConfig(ColumnsConfig):
    """Names of the columns of tables, whatever their case: of Parquet that holds the images, and of tables beside the
    images. null: the first of the usual names; an empty text: none."""

    file: str | None = None
    """Column of the files that a table beside the items speaks of, relative to the table or to the root."""
    image: str | None = None
    """Column of the encoded images in Parquet."""


class VisionIngestConfig(Block):
    """Where the images come from, and which are kept. What is refused is listed in `quarantine.csv` with its reason."""

    source: str
    """An embedded corpus (`glyphs`, `digits`), a path or an fsspec URL, or `torchvision:<Class>`."""
    format: Literal["auto", "folder", "tar", "zip", "idx", "npz", "parquet", "torchvision", "glyphs", "digits"] = "auto"
    """What the source is; `auto` finds it from names and contents."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the source: those of an embedded corpus (such as `count` of `glyphs`) or of a torchvision class, or
    of a URL's file system such as `anon: true`."""
    test_fraction: Fraction = 0.1
    """Share that becomes the test split, by a hash of the content, of the items that the source puts into no split."""
    max_pixels: PositiveInt = 100_000_000
    """Images with more pixels (width x height) are refused, before they are decoded."""
    max_item_bytes: PositiveInt = 256 * 2**20
    """Files with more bytes are refused."""
    min_side_px: PositiveInt = 4
    """Images whose shorter side has fewer pixels are refused."""
    bits: Annotated[int, Field(ge=1, le=16)] | None = None
    """Significant bits of images and arrays of 16 bits, such as 12 of many cameras and scanners; null: 16, and ingest
    says how many have no value that needs more than 12 or 8."""
    columns: VisionColumnsConfig = VisionColumnsConfig()
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


class DvaeConfig(Block):
    """Sizes of the discrete autoencoder that BEiT's codes come from."""

    codes: Annotated[int, Field(ge=2)] = 8192
    """Codes of a token."""
    width: PositiveInt = 512
    """Numbers in a code's vector, which the decoder starts from."""
    hidden: PositiveInt = 64
    """Channels between."""
    layers: PositiveInt = 3
    """Convolutions that halve the side: a token has 2^layers pixels along each side of what the autoencoder sees, to
    which images are resized."""

    def sizes(self) -> dict[str, int]:
        """What must agree between the recipe's blocks, and with what prepare left."""
        return {name: getattr(self, name) for name in DvaeConfig.model_fields}


class VisionCodebookConfig(DvaeConfig):
    """Training of that autoencoder on the corpus's own images (Ramesh et al. 2021, section 2.1)."""

    image_px: PositiveInt | None = None
    """Side of the images that it learns on, in pixels; null: `store_px`."""
    updates: PositiveInt = 3000
    """Updates."""
    batch_size: PositiveInt = 64
    """Images of an update."""
    lr: Positive = 1e-3
    """Adam's learning rate."""
    temperature_end: Positive = 0.0625
    """Last temperature of the Gumbel softmax, which falls from 1 along half a cosine."""
    divergence_weight: NonNegative = 0.0
    """Weight of the divergence of codes from even use, in nats a token."""
    seed: NonNegativeInt = 0
    """Seed of weights, order and noise."""


class VisionPrepareConfig(Block):
    """The model-ready store of RGB images, with the channels' means and standard deviations, and a probe set."""

    store_px: PositiveInt = 32
    """Pixels of a stored image's side (`pixels`) or shorter side (`jpeg`); at least the encoder's `image_px`. Larger
    leaves random crops more detail and takes more disk."""
    storage: Literal["pixels", "jpeg"] = "pixels"
    """`pixels`: the central square, uncompressed and fast to read. `jpeg`: the whole image, compressed."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 92
    """Quality of stored JPEG files (1 to 100); higher is truer and larger."""
    probe_train_images: PositiveInt = 4000
    """Labelled train images at most in the probe set, of each class as many if there are enough."""
    probe_test_images: PositiveInt = 2000
    """Labelled test images at most in the probe set."""
    seed: NonNegativeInt = 0
    """Seed of the probe set's choice."""
    codebook: VisionCodebookConfig | None = None
    """A tokenizer for `beit`; null: none."""
    engine: Engine = "local"
    """Where it computes: `local`, in this process, or `dask`, on the machines of a cluster. Both write the same
    bytes."""
    cluster: ClusterConfig = ClusterConfig()
    """Of the engine `dask`."""


class VisionEncoderConfig(Block):
    """A vision transformer (ViT)."""

    layout: Literal["data2vec2", "beit", "vit"] = "data2vec2"
    """`data2vec2`: post-norm, fixed sin-cos positions, CLS token, context norm, prenet. `beit` (data2vec 1.0): pre-norm
    with LayerScale, relative position bias, mask token, final norm. `vit`: the first ViT, pre-norm with learned
    positions, CLS token, final norm."""
    image_px: PositiveInt = 224
    """Side of the images that the encoder takes, in pixels: a multiple of `patch_px`. Cost grows with its square."""
    patch_px: PositiveInt = 16
    """Side of a patch, one token, in pixels; smaller gives more tokens."""
    width: PositiveInt = 768
    """Numbers in a token's features; a multiple of `heads`."""
    depth: PositiveInt = 10
    """Blocks of the trunk, whose outputs can be targets."""
    prenet_depth: NonNegativeInt = 0
    """Blocks before the trunk, whose outputs are never targets; of `data2vec2`."""
    heads: PositiveInt = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of the hidden layer of a block's MLP, as a multiple of `width`."""
    norm_eps: Positive = 1e-6
    """Added to the variance in every LayerNorm."""
    dropout: Fraction = 0.0
    """Dropout rate after attention and MLP."""
    attention_dropout: Fraction = 0.0
    """Dropout rate on attention weights."""
    drop_path: Fraction = 0.0
    """Stochastic depth: rate at which an image skips the last block's branches; it rises in a straight line from 0 at
    the first block."""
    pre_norm: bool = False
    """The reference's pre-norm blocks, whose MLP has no residual, and a norm after the last: to read models that were
    trained with them. Of `data2vec2`."""
    extra_tokens: NonNegativeInt = 1
    """Learned tokens before the patches, of which the first is CLS. Of `data2vec2`."""
    fixed_positions: bool = True
    """Whether sin-cos positions are added to the patches. Of `data2vec2`."""
    channels: PositiveInt = 3
    """Channels of an image. Other than 3 only of encoders from elsewhere, such as those of spectrograms. Of
    `data2vec2`."""
    image_width_px: PositiveInt | None = None
    """Width of images that are no square, in pixels, with `image_px` as their height: only of encoders from elsewhere;
    null: a square. Of `data2vec2`."""
    alibi: Literal["manhattan", "euclidean"] | None = None
    """ALiBi: attention falls with this distance between patches, by a learned scale of each head; null: it does not. Of
    `data2vec2`."""
    layer_scale_init: Positive | None = None
    """First value of LayerScale, a learned factor on each channel of a branch; null: no LayerScale. Of `beit`."""
    relative_bias: Literal["shared", "per_block"] = "shared"
    """One table of relative position biases for all blocks, or one for each, as BEiT's fine-tuned models have. Of
    `beit`."""
    final_norm: bool = True
    """LayerNorm after the last block. BEiT's fine-tuned models normalise what they have averaged instead, and MaskFeat
    has its norm in the head. Of `beit` and `vit`."""

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
        if self.layout == "data2vec2" and not self.final_norm:
            raise ValueError("final_norm is that of beit and vit: leave it out, or set layout=beit or vit")
        if self.layout != "beit" and (self.relative_bias == "per_block"):
            raise ValueError("relative_bias is beit's: leave it out, or set layout=beit")
        if self.image_width_px is not None and self.image_width_px % self.patch_px:
            raise ValueError(f"image_width_px {self.image_width_px} is not a multiple of patch_px {self.patch_px}")
        is_other = self.pre_norm or self.extra_tokens != 1 or not self.fixed_positions or self.alibi is not None
        if self.layout != "data2vec2" and (is_other or self.is_from_elsewhere):
            raise ValueError(
                "pre_norm, extra_tokens, fixed_positions, alibi, channels and image_width_px are data2vec2's: leave "
                "them out, or set layout=data2vec2"
            )
        if self.alibi is not None and self.columns != self.grid:
            raise ValueError("alibi is for square images: set image_width_px=null")
        return self

    @property
    def grid(self) -> int:
        """Patches along one side, of images that are no square along their height."""
        return self.image_px // self.patch_px

    @property
    def columns(self) -> int:
        """Patches along the width."""
        return self.grid if self.image_width_px is None else self.image_width_px // self.patch_px

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.grid * self.columns

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether its images are not those that are read and trained on here."""
        return self.channels != 3 or self.columns != self.grid


class BlockMask(Block):
    """data2vec 2.0's block masks: square blocks around random centres, then random patches until the count is exact."""

    kind: Literal["block"]
    """Picks this mask."""
    ratio: Fraction = 0.8
    """Share of the patches that is masked, exactly; larger is harder, and cheaper where the encoder sees what is
    left."""
    adjust: Fraction = 0.07
    """Added to the share of patches that blocks are drawn for, to make up for overlaps and for blocks cut at the
    border."""
    block: PositiveInt = 3
    """Side of a block, in patches; 1: single random patches."""
    inverse: bool = True
    """The blocks are what stays visible, and not what is masked."""


class BeitMask(Block):
    """BEiT's block-wise mask: rectangles until `ratio` of the patches are masked, never above."""

    kind: Literal["beit"]
    """Picks this mask."""
    ratio: Fraction = 0.6
    """Largest share of the patches that is masked."""
    min_patches: PositiveInt = 16
    """Smallest area that is drawn for a rectangle, in patches."""
    min_aspect: Positive = 0.3
    """Narrowest rectangle, as height over width; the widest is 1 over this."""
    shrink: bool = False
    """Draw rectangles smaller than `min_patches` where less is left to mask, as in the authors' code: two masks in
    three then mask all that `ratio` allows, else fewer than half."""


VisionMaskConfig = Annotated[BlockMask | BeitMask, Field(discriminator="kind")]


class VisionAugmentConfig(Block):
    """Random resized crop (bicubic, aspect 3/4 to 4/3), flip and colours; the same view for student and teacher."""

    crop_scale: tuple[Fraction, Fraction] = (0.2, 1.0)
    """Smallest and largest area of a crop, as a share of the image's; a smaller first number varies more."""
    flip: Fraction = 0.5
    """Probability of a horizontal flip."""
    colour_jitter: NonNegative = 0.0
    """Largest relative change of brightness, contrast and saturation each; data2vec 1.0 has 0.4, 0 switches it off."""


class HogConfig(Block):
    """Histograms of oriented gradients (Dalal and Triggs 2005), which MaskFeat predicts of images (Wei et al. 2021)."""

    bins: PositiveInt = 9
    """Orientations from 0 to 180 degrees that gradients are counted by; a gradient and its opposite are one."""
    cell_px: PositiveInt = 8
    """Side of the squares that gradients are counted in, in pixels; it divides the encoder's `patch_px`."""
    gaussian_window: NonNegativeInt = 0
    """Side in pixels of Gaussian windows, side by side over the image, that gradients are weighted with; 0: none, as in
    the authors' code. Another well-known implementation has 16."""


LAYOUTS = {
    "data2vec2": ("data2vec2",),
    "data2vec1": ("beit",),
    "mae": ("data2vec2",),
    "maskfeat": ("vit", "data2vec2", "beit"),
    "beit": ("beit", "vit", "data2vec2"),
}
MASKS = {
    "data2vec2": ("block",),
    "data2vec1": ("beit", "block"),
    "mae": ("block",),
    "maskfeat": ("beit", "block"),
    "beit": ("beit", "block"),
}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""


class VisionTrainConfig(TrainConfig):
    """Pretraining on images."""

    encoder: VisionEncoderConfig
    """The student's architecture, which is the teacher's too."""
    mask: VisionMaskConfig
    """What the student does not see."""
    augment: VisionAugmentConfig = VisionAugmentConfig()
    """How images vary from epoch to epoch."""
    descriptors: HogConfig = HogConfig()
    """What `maskfeat` predicts."""
    codebook: DvaeConfig = DvaeConfig()
    """Sizes of the tokenizer whose codes `beit` predicts, as in `prepare.codebook`."""

    @model_validator(mode="after")
    def _cells_fit(self) -> VisionTrainConfig:
        hog, patch, image = self.descriptors, self.encoder.patch_px, self.encoder.image_px
        if self.objective.name != "maskfeat":
            return self
        if patch % hog.cell_px:
            half = max(patch // 2, 1)
            raise ValueError(
                f"descriptors.cell_px {hog.cell_px} does not divide encoder.patch_px {patch}: set it to {half}"
            )
        if hog.gaussian_window and image % hog.gaussian_window:
            raise ValueError(
                f"descriptors.gaussian_window {hog.gaussian_window} does not divide encoder.image_px {image}: "
                "set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> VisionTrainConfig:
        check_targets(self, self.encoder.depth)
        check_no_budget(self, "images")
        check_goes_with(self, "encoder.layout", self.encoder.layout, LAYOUTS)
        check_goes_with(self, "mask.kind", self.mask.kind, MASKS)
        patches = self.encoder.patches
        masked = int(patches * self.mask.ratio)
        if isinstance(self.mask, BlockMask) and self.mask.inverse:  # blocks are painted visible, so they round down
            masked = patches - int(patches * (1.0 - self.mask.ratio))
        if not 0 < masked < patches:
            raise ValueError(
                f"mask.ratio {self.mask.ratio} masks {masked} of {patches} patches: at least one must be masked and "
                "one visible; change mask.ratio or encoder.patch_px"
            )
        return self


class RandAugmentConfig(Block):
    """RandAugment (Cubuk et al. 2020) with timm's 15 operations. `operations: 2` is timm's `rand-m9-mstd0.5-inc1`."""

    operations: NonNegativeInt = 0
    """Random operations one after the other; 0 switches RandAugment off."""
    magnitude: Annotated[float, Field(ge=0.0, le=10.0)] = 9.0
    """Mean strength of an operation, of at most 10."""
    magnitude_std: NonNegative = 0.5
    """Standard deviation of the strength."""
    probability: Fraction = 0.5
    """Probability that each of the operations is carried out."""


class VisionFinetuneAugment(VisionAugmentConfig):
    """Crop, flip and colours as in pretraining, then RandAugment, then random erasing (Zhong et al. 2017)."""

    crop_scale: tuple[Fraction, Fraction] = (0.08, 1.0)
    """Smallest and largest area of a crop, as a share of the image's."""
    rand_augment: RandAugmentConfig = RandAugmentConfig()
    """Random operations on colours and geometry."""
    erase: Fraction = 0.0
    """Probability that one box of an image is filled with noise."""


class VisionFinetuneConfig(FinetuneConfig):
    """Tuning to the classes of images."""

    augment: VisionFinetuneAugment = VisionFinetuneAugment()
    """How images vary from epoch to epoch."""


class VisionRecipe(Block):
    """All blocks of `conf/<env>/parameters_vision.yml`."""

    ingest: VisionIngestConfig
    """Where raw data come from."""
    prepare: VisionPrepareConfig = VisionPrepareConfig()
    """From the corpus to the model-ready store."""
    train: VisionTrainConfig
    """Pretraining."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Probes of the frozen encoder."""
    finetune: VisionFinetuneConfig | None = None
    """Tuning to a task; null: there is none."""
    promote: PromoteConfig = PromoteConfig()
    """When a challenger takes the champion's place."""
    retrain: RetrainConfig = RetrainConfig()
    """What a scheduled retraining does."""
    benchmark: BenchmarkConfig | None = None
    """Objectives side by side; null: there is no benchmark."""

    @model_validator(mode="after")
    def _codebook_is_asked_for(self) -> VisionRecipe:
        wanted, made = self.train.codebook.sizes(), self.prepare.codebook
        if self.train.objective.name == "beit" and (made is None or made.sizes() != wanted):
            listed = ", ".join(f"{name} {value}" for name, value in wanted.items())
            raise ValueError(f"beit names codes of train.codebook ({listed}): give prepare.codebook the same sizes")
        return self

    @model_validator(mode="after")
    def _store_is_large_enough(self) -> VisionRecipe:
        if self.train.encoder.is_from_elsewhere:
            raise ValueError(
                "images here are squares with 3 channels: leave train.encoder.channels and image_width_px out"
            )
        if self.prepare.store_px < self.train.encoder.image_px:
            raise ValueError(
                f"prepare.store_px {self.prepare.store_px} is smaller than train.encoder.image_px "
                f"{self.train.encoder.image_px}: raise prepare.store_px or lower train.encoder.image_px"
            )
        return self
