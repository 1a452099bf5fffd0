"""Recordings: what speech supplies to the shared pipelines.

Methods import what computes with tensors when they run: ingest does not wait for torch.

Shape legend: B recordings, S samples, T frames, C channels of a local feature, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from d2v.data.batch import Inputs
from d2v.data.ingest import Reader, Record
from d2v.data.sources.source import Source
from d2v.modalities.base import (
    Descriptors,
    Foreign,
    Frames,
    GraphInputs,
    LabelledSplit,
    LocalFrames,
    Modality,
    Preprocessing,
    Preview,
    Quantity,
    encoder_block,
    refuse_tokenizer,
)
from d2v.modalities.requests import NO_TABLES, OWN_FILES
from d2v.modalities.speech import raw_inputs
from d2v.modalities.speech.config import (
    RATE_HZ,
    SpeechEncoderConfig,
    SpeechFinetuneConfig,
    SpeechIngestConfig,
    SpeechPrepareConfig,
    SpeechRecipe,
    SpeechTrainConfig,
)
from d2v.modalities.speech.raw_inputs import Recording
from d2v.modalities.speech.reading import FACTS, read_recording
from d2v.modalities.speech.resampling import RESAMPLER_OF_OLD
from d2v.modalities.speech.sources import TEXTS, is_source, open_source
from d2v.modalities.suggestion import Hardware, Suggestion, Survey

if TYPE_CHECKING:
    from torch import Tensor

    from d2v.data.prepared import Corpus
    from d2v.modalities.probes import CodeCounts, Probe
    from d2v.modalities.speech.data import SpeechData
    from d2v.models.encoder import Encoder
    from d2v.models.masking import Count


class Speech(Modality[SpeechIngestConfig, SpeechPrepareConfig, SpeechTrainConfig, SpeechFinetuneConfig, "SpeechData"]):
    """Recordings of one channel at RATE_HZ, as waves."""

    name = "speech"
    recipe = SpeechRecipe
    facts = FACTS
    native_decoders = True
    texts = TEXTS
    baseline_name = "log-mel statistics"
    images_per_row = 4
    packages = ("av", "soundfile", "soxr", "torchaudio")
    request = raw_inputs.REQUEST
    own_files = MappingProxyType({**raw_inputs.ingest_limits(OWN_FILES), "columns": NO_TABLES})

    # -------------------------------------------------------------------------------------------- data

    def open_source(self, config: SpeechIngestConfig) -> Source:
        """See `d2v.modalities.speech.sources`."""
        return open_source(config)

    def reader(self, config: SpeechIngestConfig) -> Reader:
        """See `d2v.modalities.speech.reading`."""
        return partial(read_recording, config=config)

    def settings(self, config: SpeechIngestConfig) -> dict[str, object]:
        """What brings the corpus to 16 kHz."""
        return {"resampler": config.resampler}

    def suggest(self, survey: Survey, hardware: Hardware) -> Suggestion:
        """See `d2v.modalities.speech.suggestion`."""
        from d2v.modalities.speech.suggestion import suggest

        return suggest(survey, hardware)

    def quantities(self) -> Sequence[Quantity]:
        """Duration, sample rate and channels."""
        return [
            Quantity("duration", "s", ("samples", "rate_hz"), np.divide, ("hours", 3600.0)),
            Quantity("sample rate", "Hz", ("rate_hz",), np.asarray),
            Quantity("channels", "", ("channels",), np.asarray),
        ]

    def preview(self, data: bytes, said: Mapping[str, object]) -> Preview:
        """Its first seconds at 16 kHz, with what is said."""
        from d2v.modalities.speech.preview import preview

        return preview(data, said)

    def prepare(self, config: SpeechPrepareConfig, corpus: Path, out: Path) -> Mapping[str, object]:
        """16-bit samples with mean and standard deviation of each recording."""
        from d2v.modalities.speech.preparation import prepare

        return prepare(config, corpus, out)

    def open(self, folder: Path) -> SpeechData:
        """A prepared folder."""
        from d2v.modalities.speech.data import SpeechData

        return SpeechData(folder)

    def describe(self, data: SpeechData) -> dict[str, object]:
        """Sample rate and how recordings are brought to it, class names, source and fingerprint."""
        names = ("rate_hz", "class_names", "source")
        resampler = {"resampler": data.about.get("resampler", RESAMPLER_OF_OLD)}
        return {name: data.about[name] for name in names} | resampler | {"data_fingerprint": data.fingerprint}

    def labelled(
        self, data: SpeechData, config: SpeechFinetuneConfig, encoder: SpeechTrainConfig
    ) -> Mapping[str, LabelledSplit]:
        """Recordings with their classes and transcripts."""
        from d2v.modalities.speech.labelled import labelled

        return labelled(data, config, encoder)

    def captions(self, corpus: Corpus) -> Sequence[str | None]:
        """Transcripts."""
        said = corpus.column("transcript")
        return said if any(said) else super().captions(corpus)

    # ------------------------------------------------------------------------------------------ models

    def build_encoder(self, recipe: SpeechTrainConfig) -> Encoder:
        """Convolutions and a transformer, of either version."""
        from d2v.modalities.speech.encoder import build_encoder

        return build_encoder(recipe)

    def max_tokens(self, recipe: SpeechTrainConfig) -> int:
        """Frames of the longest crop."""
        return recipe.encoder.frames(recipe.longest_samples)

    def num_masked(self, recipe: SpeechTrainConfig, tokens: Count) -> Count:
        """Frames that every block mask masks. Raises ConfigError for data2vec 1.0's spans, which vary."""
        from d2v.modalities.speech.masking import num_masked

        return num_masked(recipe, tokens)

    def draw_masks(self, recipe: SpeechTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
        """Spans of frames that are not padding."""
        from d2v.modalities.speech.masking import draw_masks

        return draw_masks(recipe, keys, tokens, lengths)

    def descriptors(self, recipe: SpeechTrainConfig) -> Descriptors:
        """Log-mel energies of each frame."""
        from d2v.modalities.speech.descriptors import log_mel_flops, log_mel_of_frames, windows_of

        encoder, mels = recipe.encoder, recipe.descriptors.mels
        windows = windows_of(encoder.step_samples)
        make = partial(log_mel_of_frames, encoder=encoder, mels=mels)
        return Descriptors(windows * mels, make, flops=partial(log_mel_flops, windows=windows, mels=mels))

    def frames(self, recipe: SpeechTrainConfig) -> Frames:
        """Features of the convolutions."""
        return Frames(recipe.encoder.convs[-1][0], local_frames)

    # ----------------------------------------------------------------------------------------- looking

    def baseline_features(self, inputs: Inputs) -> Tensor:
        """Mean and standard deviation over time of 80 log-mel energies: (n, 160)."""
        from d2v.modalities.speech.data import baseline_features

        return baseline_features(inputs)

    def to_images(self, inputs: Inputs, data: SpeechData) -> np.ndarray:
        """Log-mel spectrograms: (n, 64, columns of 10 ms, 3) uint8."""
        from d2v.modalities.speech.data import to_images

        return to_images(inputs)

    def image_grid(self, tokens: int) -> tuple[int, int]:
        """Frames of a recording lie side by side."""
        return 1, tokens

    def further_probes(self, data: SpeechData, recipe: SpeechTrainConfig, items: int) -> Sequence[Probe]:
        """Which of two recordings is whole, halves exchanged."""
        from d2v.modalities.speech.probes import further_probes

        return further_probes(data, recipe, items)

    def code_counts(self, data: SpeechData, items: int) -> CodeCounts | None:
        """HuBERT's clusters beside phones, or the classes of recordings."""
        from d2v.modalities.speech.phones import code_counts

        return code_counts(data, items)

    # --------------------------------------------------------------------------------------- raw items

    def holds_items(self, file: Path) -> bool:
        """Whether it is an archive, a table or a manifest."""
        return is_source(file)

    def from_record(self, record: Record) -> Recording:
        """A recording at its own sample rate."""
        return raw_inputs.from_record(record)

    def item_words(self, about: Mapping[str, object]) -> str:
        """See `Modality.item_words`."""
        return f"recordings at {RATE_HZ:,} Hz"

    def is_item(self, given: object) -> bool:
        """A file, or an array of one axis."""
        return raw_inputs.is_item(given)

    def read_item(self, item: object, rate_hz: float | None = None) -> Recording:
        """A sound file or an array at its own sample rate."""
        return raw_inputs.read_item(item, rate_hz)

    def tokens_of(self, item: object, about: Mapping[str, object]) -> int:
        """One for 20 ms."""
        return int(item.wave.size / item.rate_hz * 50) if isinstance(item, Recording) else 1

    def to_inputs(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """(n, samples) float32, normalised as config.json says, padded with zeros, with their lengths."""
        return raw_inputs.to_inputs(items, about)

    # ---------------------------------------------------------------------------------- other programs

    def graph_inputs(self, about: Mapping[str, object]) -> GraphInputs:
        """Recordings of any lengths."""
        import torch

        samples = 4 * encoder_block(about, SpeechEncoderConfig).receptive_samples
        normalised = about.get("do_normalize", True)
        values = "each item of zero mean and unit variance" if normalised else "from -1 to 1, not normalised"
        return GraphInputs(
            torch.zeros(2, samples),
            f"(items, samples) float32 at 16 kHz, {values}, padded with zeros",
            lengths=torch.tensor([samples, samples - 1]),
            note="the graph takes recordings of two frames or more",
        )

    def preprocessing(self, about: Mapping[str, object]) -> Preprocessing:
        """transformers' feature extractor."""
        return raw_inputs.preprocessing(about)

    def about_foreign(self, recipe: SpeechTrainConfig, source: Foreign) -> tuple[dict[str, object], tuple[str, ...]]:
        """Sample rate, resampler, and whether recordings are normalised; see `raw_inputs.about_recordings`."""
        refuse_tokenizer(self.name, source)
        return raw_inputs.about_recordings(source)


def local_frames(encoder: Encoder, waves_BS: Tensor, gradient: float) -> LocalFrames:
    """The way of `ConvFeatures`, step by step."""
    from d2v.modalities.speech.encoder import ConvFeatures

    local = encoder.stem.local
    if not isinstance(local, ConvFeatures):
        raise TypeError(f"frames are made by ConvFeatures, not by {type(local).__name__}")
    raw_BTC = waves_BS.unsqueeze(-1)
    for layer in local.layers:
        raw_BTC = layer(raw_BTC)
    raw_BTC = raw_BTC.detach() + gradient * (raw_BTC - raw_BTC.detach())
    normal_BTC = local.norm(raw_BTC)
    return LocalFrames(raw_BTC, normal_BTC, local.projection(normal_BTC))
