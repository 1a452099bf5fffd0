"""Text: what it supplies to the shared pipelines.

Methods import what computes with tensors when they run: ingest does not wait for torch.

Shape legend: B blocks of tokens, T tokens, W words of the vocabulary, D width.
"""

from __future__ import annotations

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
    Foreign,
    GraphInputs,
    LabelledSplit,
    Modality,
    Preprocessing,
    Preview,
    Quantity,
    Vocabulary,
    encoder_block,
)
from d2v.modalities.requests import NO_LABELS
from d2v.modalities.suggestion import Hardware, Suggestion, Survey
from d2v.modalities.text import raw_inputs
from d2v.modalities.text.config import (
    TextEncoderConfig,
    TextFinetuneConfig,
    TextIngestConfig,
    TextPrepareConfig,
    TextRecipe,
    TextTrainConfig,
)
from d2v.modalities.text.reading import FACTS, TEXTS, read_document
from d2v.modalities.text.sources import format_of_file, open_source
from d2v.modalities.text.tokenizer import SPECIALS, UNK

if TYPE_CHECKING:
    from torch import Tensor

    from d2v.modalities.probes import Choice, Probe
    from d2v.modalities.text.data import TextData
    from d2v.models.encoder import Encoder
    from d2v.models.masking import Count


class Text(Modality[TextIngestConfig, TextPrepareConfig, TextTrainConfig, TextFinetuneConfig, "TextData"]):
    """Documents, and sentences or pairs of them, as byte-level BPE tokens."""

    name = "text"
    recipe = TextRecipe
    facts = FACTS
    texts = TEXTS
    baseline_name = "bag of words"
    images_per_row = 2
    has_choices = True
    items_are_lines = True
    packages = ("tokenizers",)
    request = raw_inputs.REQUEST
    own_files = MappingProxyType({"document": "line", "columns": NO_LABELS})

    # -------------------------------------------------------------------------------------------- data

    def open_source(self, config: TextIngestConfig) -> Source:
        """See `d2v.modalities.text.sources`."""
        return open_source(config)

    def reader(self, config: TextIngestConfig) -> Reader:
        """See `d2v.modalities.text.reading`."""
        return partial(read_document, config=config)

    def suggest(self, survey: Survey, hardware: Hardware) -> Suggestion:
        """See `d2v.modalities.text.suggestion`."""
        from d2v.modalities.text.suggestion import suggest

        return suggest(survey, hardware)

    def quantities(self) -> Sequence[Quantity]:
        """Characters and bytes."""
        return [Quantity("length", "characters", ("characters",), np.asarray, ("million characters", 1e6))]

    def preview(self, data: bytes, said: Mapping[str, object]) -> Preview:
        """How it begins, with the second text of a pair and its score."""
        from d2v.modalities.text.preview import preview

        return preview(data, said)

    def prepare(self, config: TextPrepareConfig, corpus: Path, out: Path) -> Mapping[str, object]:
        """Blocks of tokens, the tokenizer, and labelled items."""
        from d2v.modalities.text.preparation import prepare

        return prepare(config, corpus, out)

    def open(self, folder: Path) -> TextData:
        """A prepared folder."""
        from d2v.modalities.text.data import TextData

        return TextData(folder)

    def describe(self, data: TextData) -> dict[str, object]:
        """Tokenizer, class names, source and fingerprint."""
        known = {name: data.about[name] for name in ("class_names", "source", "vocab_size")}
        return known | {"tokenizer": data.tokenizer.to_json(), "data_fingerprint": data.fingerprint}

    def labelled(
        self, data: TextData, config: TextFinetuneConfig, encoder: TextTrainConfig
    ) -> Mapping[str, LabelledSplit]:
        """Sentences and pairs with their classes or scores."""
        from d2v.modalities.text.labelled import labelled

        return labelled(data, config, encoder)

    def check_fits(self, data: TextData, about: Mapping[str, object]) -> None:
        """Raises ConfigError if the text was prepared with another tokenizer."""
        from d2v.modalities.text.labelled import check_fits

        check_fits(data, about)

    # ------------------------------------------------------------------------------------------ models

    def build_encoder(self, recipe: TextTrainConfig) -> Encoder:
        """Token embeddings and a transformer, of either version."""
        from d2v.modalities.text.encoder import build_encoder

        return build_encoder(recipe)

    def max_tokens(self, recipe: TextTrainConfig) -> int:
        """Tokens of the longest sequence."""
        return recipe.encoder.max_tokens

    def num_masked(self, recipe: TextTrainConfig, tokens: Count) -> Count:
        """Tokens that every random mask masks. Raises ConfigError for spans, which vary."""
        from d2v.modalities.text.masking import num_masked

        return num_masked(recipe, tokens)

    def draw_masks(self, recipe: TextTrainConfig, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
        """Random tokens or spans, of those that are not padding."""
        from d2v.modalities.text.masking import draw_masks

        return draw_masks(recipe, keys, tokens, lengths)

    def vocabulary(self, recipe: TextTrainConfig) -> Vocabulary:
        """All rows of the encoder's table. The last is <mask>: the tokenizer's own where the table is as large as its
        vocabulary, and else one that no text uses."""
        size = recipe.encoder.vocab_size
        return Vocabulary(size, first_word=len(SPECIALS), mask_id=size - 1, table=word_table)

    # ----------------------------------------------------------------------------------------- looking

    def baseline_features(self, inputs: Inputs) -> Tensor:
        """A bag of words (n, 2048)."""
        from d2v.modalities.text.data import baseline_features

        return baseline_features(inputs)

    def to_images(self, inputs: Inputs, data: TextData) -> np.ndarray:
        """Tokens written into the cells of `image_grid`."""
        from d2v.modalities.text.data import to_images

        return to_images(inputs, data)

    def pictures(self, inputs: Inputs, about: Mapping[str, object]) -> np.ndarray:
        """Words are the encoder's tokenizer's."""
        from d2v.modalities.text.data import to_images
        from d2v.modalities.text.tokenizer import TextTokenizer

        tokenizer = TextTokenizer.from_json(cast(str, about["tokenizer"]))
        return to_images(inputs, cast("TextData", SimpleNamespace(tokenizer=tokenizer)))

    def image_grid(self, tokens: int) -> tuple[int, int]:
        """Rows of eight cells."""
        from d2v.modalities.text.data import image_grid

        return image_grid(tokens)

    def further_probes(self, data: TextData, recipe: TextTrainConfig, items: int) -> Sequence[Probe]:
        """Forced choice, masked words with minimal pairs, punctuation, sources of paragraphs."""
        from d2v.modalities.text.probes import further_probes

        return further_probes(data, recipe, items)

    def choice(self, data: TextData, recipe: TextTrainConfig, pairs: range, counted: bool = False) -> Choice | None:
        """Sentences as they were written beside the same with words exchanged."""
        from d2v.modalities.text.probes import choice

        return choice(data, recipe, pairs, counted)

    # --------------------------------------------------------------------------------------- raw items

    def holds_items(self, file: Path) -> bool:
        """Always: of a file of an unknown name, lines."""
        return True

    def source_of_files(self, config: TextIngestConfig) -> Source:
        """Lines without their ends; a file whose name says nothing is read as text."""
        if config.format == "auto" and Path(config.source).is_file() and not format_of_file(Path(config.source).name):
            config = config.model_copy(update={"format": "text"})
        return open_source(config, bare_lines=True)

    def from_record(self, record: Record) -> str | tuple[str, str]:
        """A text or a pair."""
        return raw_inputs.from_record(record)

    def names_file(self, given: object) -> bool:
        """A string is a text, so only a `Path` is one."""
        return isinstance(given, Path)

    def item_words(self, about: Mapping[str, object]) -> str:
        """See `Modality.item_words`."""
        return f"texts of up to {encoder_block(about, TextEncoderConfig).max_tokens} tokens"

    def is_item(self, given: object) -> bool:
        """A string, the bytes of a text file, or a pair (a tuple) of strings."""
        return raw_inputs.is_item(given)

    def read_item(self, item: object, rate_hz: float | None = None) -> object:
        """Bytes as ingest would read them; the string or pair as it is, for `to_inputs` checks it."""
        return raw_inputs.read_item(item)

    def tokens_of(self, item: object, about: Mapping[str, object]) -> int:
        """One for four characters, as of English."""
        return sum(len(text) for text in (item if isinstance(item, tuple) else (item,)) if isinstance(text, str)) // 4

    def to_inputs(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """Token ids (n, T) int64, filled up with `<pad>`, with their lengths."""
        return raw_inputs.to_inputs(items, about)

    def to_windows(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """Long texts as several rows."""
        return raw_inputs.to_windows(items, about)

    # ---------------------------------------------------------------------------------- other programs

    def graph_inputs(self, about: Mapping[str, object]) -> GraphInputs:
        """Token ids."""
        import torch

        ids, lengths = torch.full((2, 7), UNK), torch.tensor([7, 6])
        return GraphInputs(ids, "(items, tokens) int64, padded with 1", lengths)

    def preprocessing(self, about: Mapping[str, object]) -> Preprocessing:
        """transformers' tokenizer."""
        return raw_inputs.preprocessing(about)

    def about_foreign(self, recipe: TextTrainConfig, source: Foreign) -> tuple[dict[str, object], tuple[str, ...]]:
        """The tokenizer that the user gave, or the one in the source's folder."""
        return raw_inputs.foreign_tokenizer(source, recipe.encoder.vocab_size)


def word_table(encoder: Encoder) -> Tensor:
    """(W, D) the vectors of all words."""
    from d2v.modalities.text.encoder import TokenEmbedding

    local = encoder.stem.local
    if not isinstance(local, TokenEmbedding):
        raise TypeError(f"words are embedded by TokenEmbedding, not by {type(local).__name__}")
    return local.words.weight
