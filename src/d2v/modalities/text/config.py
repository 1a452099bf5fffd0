"""What a text recipe says beyond the shared blocks."""

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


class TextIngestConfig(Block):
    """Where the text comes from. `source` is the embedded corpus `pydocs`, or a path or an fsspec URL of text files or
    JSON lines (plain or .gz/.bz2/.xz/.zst), a tar or zip of them, Parquet, or a GLUE task's folder or zip; `format` is
    found from it unless said.

    `document` says what one document of a plain text file is. Text that is no valid UTF-8 (or UTF-16 with its mark) is
    quarantined with the place of the bad byte, or with `bad_bytes: replace` kept with U+FFFD and counted."""

    source: str
    format: Literal["auto", "text", "jsonl", "parquet", "glue", "pydocs"] = "auto"
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the source, e.g. those of a URL")
    document: Literal["file", "paragraph", "line"] = "file"
    text_field: str | None = Field(None, description="JSON or Parquet field of the text; null: the usual names")
    label_field: str | None = Field(None, description="JSON or Parquet field of the class; null: the usual names")
    bad_bytes: Literal["quarantine", "replace"] = "quarantine"
    min_characters: PositiveInt = 1
    test_fraction: Fraction = Field(0.1, description="share of the hash split where the source has no test split")
    max_item_bytes: PositiveInt = 512 * 2**20
    shard_bytes: PositiveInt = 64 * 2**20


class TextPrepareConfig(Block):
    """The model-ready store: token ids in blocks, and labelled items.

    `tokenizer` is `train` (byte-level BPE of `vocab_size` on the train part of the corpus), or a model folder, whose
    encoder is then to be tuned, or a folder with GPT-2's vocab.json and merges.txt, or with fairseq's encoder.json,
    vocab.bpe and dict.txt, or a tokenizer.json. `packing`: `contiguous` cuts the stream of all documents every
    `block_tokens` (data2vec 2.0); `documents` packs whole sentences (lines) of one document (data2vec 1.0). `probe`:
    the corpus's own labels, or acceptability: sentences of the corpus against the same with words exchanged; `auto`
    takes labels where there are some. Fine-tuning has all labelled items of the corpus, or those of acceptability, cut
    to `labelled_max_tokens`."""

    tokenizer: str = "train"
    vocab_size: Annotated[int, Field(ge=300)] = 8000
    block_tokens: Annotated[int, Field(ge=8)] = 512
    packing: Literal["contiguous", "documents"] = "contiguous"
    probe: Literal["auto", "labels", "acceptability"] = "auto"
    probe_train_items: PositiveInt = 4000
    probe_test_items: PositiveInt = 2000
    probe_max_tokens: Annotated[int, Field(ge=8)] = 64
    labelled_max_tokens: Annotated[int, Field(ge=8)] | None = Field(default=None, description="null: as block_tokens")
    seed: NonNegativeInt = 0


class TextEncoderConfig(Block):
    """A post-norm transformer over token and learned position embeddings, as RoBERTa. `data2vec2`: positions are added
    once, before tokens are dropped. `data2vec1`: hidden tokens become a mask vector before positions are added."""

    layout: Literal["data2vec2", "data2vec1"] = "data2vec2"
    vocab_size: PositiveInt = Field(50_265, description="rows of the token table: at least the tokenizer's")
    max_tokens: PositiveInt = Field(512, description="positions")
    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    mlp_ratio: Positive = 4.0
    norm_eps: Positive = 1e-5
    dropout: Fraction = 0.1
    embedding_dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.1
    layer_drop: Fraction = 0.0

    @model_validator(mode="after")
    def _sizes_fit(self) -> TextEncoderConfig:
        check_heads(self.width, self.heads)
        return self


class RandomMask(Block):
    """data2vec 2.0's random masks: floor(tokens x (1 - ratio)) tokens stay visible; padding is never counted."""

    kind: Literal["random"]
    ratio: Fraction = 0.48


class SpanMask(Block):
    """data2vec 1.0's spans: `ratio` x tokens / `span` starts anywhere, cut at the end, overlaps allowed."""

    kind: Literal["span"]
    ratio: Fraction = 0.35
    span: PositiveInt = 4


TextMaskConfig = Annotated[RandomMask | SpanMask, Field(discriminator="kind")]


LAYOUTS = {"data2vec2": ("data2vec2",), "data2vec1": ("data2vec1",), "mlm": ("data2vec1", "data2vec2")}
MASKS = {"data2vec2": ("random",), "data2vec1": ("span",), "mlm": ("random",)}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""
TASKS = ("classification", "regression")


class TextTrainConfig(TrainConfig):
    encoder: TextEncoderConfig
    mask: TextMaskConfig

    @model_validator(mode="after")
    def _parts_fit(self) -> TextTrainConfig:
        check_targets(self, self.encoder.depth)
        check_goes_with(self, "encoder.layout", self.encoder.layout, LAYOUTS)
        check_goes_with(self, "mask.kind", self.mask.kind, MASKS)
        return self


class TextFinetuneConfig(FinetuneConfig):
    """Tuning to the classes of sentences and pairs, or to their scores. Text is never augmented."""

    @model_validator(mode="after")
    def _text_has_such_labels(self) -> TextFinetuneConfig:
        if self.task.name not in TASKS:
            raise ValueError(
                f"task.name {self.task.name} is not for text, whose items have classes or scores: set task.name to "
                f"{' or '.join(TASKS)}"
            )
        return self


class TextRetrainConfig(RetrainConfig):
    """An encoder's weights are tied to its tokenizer."""

    carried: tuple[str, ...] = ("tokenizer",)


class TextRecipe(Block):
    """All blocks of `conf/<env>/parameters_text.yml`."""

    ingest: TextIngestConfig
    prepare: TextPrepareConfig = TextPrepareConfig()
    train: TextTrainConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    finetune: TextFinetuneConfig | None = None
    promote: PromoteConfig = PromoteConfig()
    retrain: TextRetrainConfig = TextRetrainConfig()
    benchmark: BenchmarkConfig | None = None

    @model_validator(mode="after")
    def _store_fits_the_encoder(self) -> TextRecipe:
        encoder, prepare = self.train.encoder, self.prepare
        longest = max(prepare.block_tokens, prepare.probe_max_tokens, prepare.labelled_max_tokens or 0)
        if longest > encoder.max_tokens:
            raise ValueError(
                f"prepare.block_tokens, probe_max_tokens or labelled_max_tokens {longest} is more than "
                f"train.encoder.max_tokens {encoder.max_tokens}: lower the one or raise the other"
            )
        if prepare.tokenizer == "train" and prepare.vocab_size > encoder.vocab_size:
            raise ValueError(
                f"prepare.vocab_size {prepare.vocab_size} is more than train.encoder.vocab_size {encoder.vocab_size}: "
                "set both to the same number"
            )
        return self
