"""Images: what vision supplies to the shared pipelines.

Methods import what computes with tensors when they run: ingest does not wait for torch.

Shape legend: B images, S side, T patches, p patch side, P = 3 p^2 values of a patch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from d2v.data.batch import Inputs
from d2v.data.ingest import Reader, Record
from d2v.data.sources.source import Source
from d2v.modalities.base import (
    Codes,
    Descriptors,
    Foreign,
    GraphInputs,
    LabelledSplit,
    Modality,
    Patches,
    PreparedData,
    Preprocessing,
    Preview,
    Quantity,
    encoder_block,
    refuse_tokenizer,
)
from d2v.modalities.requests import NO_TABLES, OWN_FILES
from d2v.modalities.suggestion import Hardware, Suggestion, Survey
from d2v.modalities.vision import raw_inputs
from d2v.modalities.vision.config import (
    VisionEncoderConfig,
    VisionFinetuneConfig,
    VisionIngestConfig,
    VisionPrepareConfig,
    VisionRecipe,
    VisionTrainConfig,
)
from d2v.modalities.vision.foreign import about_images
from d2v.modalities.vision.reading import ADVICE, FACTS, read_image
from d2v.modalities.vision.sources import format_of, open_source

if TYPE_CHECKING:
    from torch import Tensor

    from d2v.data.prepared import Corpus
    from d2v.modalities.probes import Probe
    from d2v.modalities.vision.data import VisionData
    from d2v.models.encoder import Encoder
    from d2v.models.masking import Count


class Vision(Modality[VisionIngestConfig, VisionPrepareConfig, VisionTrainConfig, VisionFinetuneConfig, "VisionData"]):
    """Images of one size, cut into patches."""

    name = "vision"
    recipe = VisionRecipe
    facts = FACTS
    native_decoders = True
    baseline_name = "raw pixels"
    packages = ("imagecodecs", "tifffile", "torchvision")
    request = raw_inputs.REQUEST
    advice = MappingProxyType(ADVICE)
    own_files = MappingProxyType({**raw_inputs.ingest_limits(OWN_FILES), "columns": NO_TABLES})

    # -------------------------------------------------------------------------------------------- data

    def open_source(self, config: VisionIngestConfig) -> Source:
        """See `d2v.modalities.vision.sources`."""
        return open_source(config)

    def reader(self, config: VisionIngestConfig) -> Reader:
        """See `d2v.modalities.vision.reading`."""
        return partial(read_image, config=config)

    def suggest(self, survey: Survey, hardware: Hardware) -> Suggestion:
        """See `d2v.modalities.vision.suggestion`."""
        from d2v.modalities.vision.suggestion import suggest

        return suggest(survey, hardware)

    def quantities(self) -> Sequence[Quantity]:
        """Width and height."""
        return [Quantity(name, "px", (name,), np.asarray) for name in self.facts]

    def preview(self, data: bytes, said: Mapping[str, object]) -> Preview:
        """A thumbnail."""
        from d2v.modalities.vision.preview import preview

        return preview(data)

    def prepare(self, config: VisionPrepareConfig, corpus: Path, out: Path) -> Mapping[str, object]:
        """Images of one stored size, and their mean and standard deviation."""
        from d2v.modalities.vision.preparation import prepare

        return prepare(config, corpus, out)

    def open(self, folder: Path) -> VisionData:
        """A prepared folder."""
        from d2v.modalities.vision.data import VisionData

        return VisionData(folder)

    def describe(self, data: VisionData) -> dict[str, object]:
        """Normalisation, class names, source and fingerprint."""
        names = ("mean", "std", "class_names", "source")
        return {name: data.about[name] for name in names} | {"data_fingerprint": data.fingerprint}

    def labelled(
        self, data: VisionData, config: VisionFinetuneConfig, encoder: VisionTrainConfig
    ) -> Mapping[str, LabelledSplit]:
        """Images with their classes, at the encoder's side."""
        from d2v.modalities.vision.labelled import labelled

        return labelled(data, config, encoder)

    def captions(self, corpus: Corpus) -> Sequence[str | None]:
        """Of the embedded `glyphs` what their generator knows; see `d2v.modalities.vision.named`."""
        from d2v.modalities.vision.named import captions

        return captions(corpus) if corpus.source == "glyphs" else super().captions(corpus)

    # ------------------------------------------------------------------------------------------ models

    def build_encoder(self, recipe: VisionTrainConfig) -> Encoder:
        """A vision transformer of either version."""
        from d2v.modalities.vision.encoder import build_encoder

        return build_encoder(recipe)

    def grid(self, recipe: VisionTrainConfig) -> tuple[int, int]:
        """Patches along height and width."""
        return recipe.encoder.grid, recipe.encoder.columns

    def max_tokens(self, recipe: VisionTrainConfig) -> int:
        """Patches of an image."""
        return recipe.encoder.patches

    def num_masked(self, recipe: VisionTrainConfig, tokens: Count) -> Count:
        """Patches that every block mask masks. Raises ConfigError for BEiT masks, which vary."""
        from d2v.modalities.vision.masking import num_masked

        return num_masked(recipe, tokens)

    def draw_masks(self, recipe: VisionTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
        """Block masks or BEiT's rectangles; images are never padded."""
        from d2v.modalities.vision.masking import draw_masks

        return draw_masks(recipe, keys, tokens, lengths)

    def patches(self, recipe: VisionTrainConfig) -> Patches:
        """The pixels of each patch, and fixed 2-D positions."""
        from d2v.modalities.vision.encoder import CHANNELS, sincos_positions

        size = recipe.encoder.patch_px
        positions = partial(sincos_positions, grid=recipe.encoder.grid)
        return Patches(CHANNELS * size**2, partial(cut_patches, patch_px=size), positions)

    def descriptors(self, recipe: VisionTrainConfig) -> Descriptors:
        """Histograms of oriented gradients of each patch's cells."""
        from d2v.modalities.vision.encoder import CHANNELS
        from d2v.modalities.vision.hog import hog_of_patches

        config, patch_px = recipe.descriptors, recipe.encoder.patch_px
        values = CHANNELS * config.bins * (patch_px // config.cell_px) ** 2
        return Descriptors(values, partial(hog_of_patches, config=config, patch_px=patch_px), flops=no_products)

    def codes(self, recipe: VisionTrainConfig) -> Codes:
        """Codes of the tokenizer that prepare trained."""
        from d2v.modalities.vision.dvae import ImageCodes, encoder_flops

        config = recipe.codebook
        build = partial(ImageCodes, config, recipe.encoder.grid)
        return Codes(config.codes, build, partial(codebook_of, recipe=recipe), partial(encoder_flops, config))

    # ----------------------------------------------------------------------------------------- looking

    def baseline_features(self, inputs: Inputs) -> Tensor:
        """Raw pixels, flattened: (n, 3 * S * S)."""
        return inputs.values.flatten(1)

    def to_images(self, inputs: Inputs, data: VisionData) -> np.ndarray:
        """The images without their normalisation: (n, S, S, 3) uint8."""
        import torch

        pixels = (inputs.values.cpu().float() * data.std + data.mean).clamp(0.0, 1.0) * 255.0
        return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()

    def pictures(self, inputs: Inputs, about: Mapping[str, object]) -> np.ndarray:
        """Mean and standard deviation are the encoder's."""
        import torch

        scale = {key: torch.tensor(about[key]).view(3, 1, 1) for key in ("mean", "std")}
        return self.to_images(inputs, cast("VisionData", SimpleNamespace(**scale)))

    def image_grid(self, tokens: int) -> tuple[int, int]:
        """Patches of a square image along height and width."""
        side = math.isqrt(tokens)
        return side, side

    def further_probes(self, data: VisionData, recipe: VisionTrainConfig, items: int) -> Sequence[Probe]:
        """Which of two images is whole, halves exchanged."""
        from d2v.modalities.vision.probes import further_probes

        return further_probes(data, recipe, items)

    # --------------------------------------------------------------------------------------- raw items

    def holds_items(self, file: Path) -> bool:
        """Whether it is an archive, a table or a file of arrays."""
        return format_of(file.name) is not None

    def from_record(self, record: Record) -> np.ndarray:
        """An image (height, width, 3) of uint8."""
        return raw_inputs.from_record(record)

    def item_words(self, about: Mapping[str, object]) -> str:
        """See `Modality.item_words`."""
        encoder = encoder_block(about, VisionEncoderConfig)
        return f"images of {encoder.image_px} px in patches of {encoder.patch_px}"

    def is_item(self, given: object) -> bool:
        """A file, a PIL image, or an array of at most three axes."""
        return raw_inputs.is_item(given)

    def read_item(self, item: object, rate_hz: float | None = None) -> np.ndarray:
        """(height, width, 3) of a file, a PIL image or an array."""
        return raw_inputs.read_item(item)

    def to_inputs(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """(n, 3, S, S) float32, resized and normalised."""
        return raw_inputs.to_inputs(items, about)

    def tokens_of(self, item: object, about: Mapping[str, object]) -> int:
        """The encoder's patches."""
        return encoder_block(about, VisionEncoderConfig).patches

    # ---------------------------------------------------------------------------------- other programs

    def graph_inputs(self, about: Mapping[str, object]) -> GraphInputs:
        """Images of one side."""
        import torch

        from d2v.modalities.vision.encoder import CHANNELS

        encoder = encoder_block(about, VisionEncoderConfig)
        if encoder.is_from_elsewhere:
            height, width = encoder.image_px, encoder.columns * encoder.patch_px
            shape = f"(items, {encoder.channels}, {height}, {width}) float32, as the model's authors prepare them"
            return GraphInputs(torch.zeros(2, encoder.channels, height, width), shape)
        side = encoder.image_px
        return GraphInputs(torch.zeros(2, CHANNELS, side, side), "(items, 3, side, side) float32, normalised")

    def preprocessing(self, about: Mapping[str, object]) -> Preprocessing:
        """transformers' image processor."""
        return raw_inputs.preprocessing(about)

    def about_foreign(self, recipe: VisionTrainConfig, source: Foreign) -> tuple[dict[str, object], tuple[str, ...]]:
        """Mean, standard deviation and resizing, as the source says them; see `d2v.modalities.vision.foreign`."""
        refuse_tokenizer(self.name, source)
        encoder = recipe.encoder
        if encoder.is_from_elsewhere:
            note = (
                f"its images have {encoder.channels} channel(s) and {encoder.image_px} x "
                f"{encoder.columns * encoder.patch_px} values, such as spectrograms of (frames, mel bands), and are "
                "not made here: give (items, channels, height, width) to the encoder itself"
            )
            return {}, (note,)
        return about_images(source, encoder.image_px)


def codebook_of(data: PreparedData, recipe: VisionTrainConfig) -> Mapping[str, Tensor]:
    """Weights of the tokenizer that prepare left with these images."""
    return cast("VisionData", data).codebook(recipe)


def no_products(tokens: int) -> float:
    """Gradients and their histograms are sums."""
    return 0.0


def cut_patches(images_BCHW: Tensor, patch_px: int) -> Tensor:
    """(B, 3, S, S) -> (B, T, P), row by row; in a patch the channel runs fastest."""
    rows = images_BCHW.unfold(2, patch_px, patch_px).unfold(3, patch_px, patch_px)  # (B, 3, g, g, p, p)
    return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
