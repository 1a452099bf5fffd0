"""What a text recipe says beyond the shared blocks."""

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
    NonNegativeInt,
    Positive,
    PositiveInt,
    PromoteConfig,
    RetrainConfig,
    TrainConfig,
)
from d2v.modalities.checks import check_goes_with, check_heads, check_no_budget, check_targets


class TextColumnsConfig(ColumnsConfig):
    """Names of the columns of CSV and Parquet and of the fields of JSON lines; of CSV without a header their numbers
    from 1. null: the first of the usual names; an empty text: none."""

    text: str | None = None
    """Column of the text, or of the first one of a pair."""
    second: str | None = None
    """Column of the second text of a pair."""


class TextIngestConfig(Block):
    """Where the text comes from, and which documents are kept. What is refused is listed in `quarantine.csv` with its
    reason."""

    source: str
    """The embedded corpora `pydocs` and `pyprose`, or a path or an fsspec URL of text files, JSON lines, JSON arrays,
    CSV or TSV (plain or .gz, .bz2, .xz, .zst), a tar or zip of them, Parquet, or a GLUE task's folder or zip."""
    format: Literal["auto", "text", "jsonl", "csv", "parquet", "glue", "pydocs", "pyprose"] = "auto"
    """What the source is; `auto` finds it from names and contents."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of a URL's file system, such as `anon: true`."""
    document: Literal["file", "paragraph", "line"] = "file"
    """What one document of a plain text file is; a line of JSON is always one."""
    text_field: str | None = None
    """JSON or Parquet field of the text; null: the first of the usual names."""
    label_field: str | None = None
    """JSON or Parquet field of the class; null: the first of the usual names."""
    bad_bytes: Literal["quarantine", "replace"] = "quarantine"
    """A document that is not valid UTF-8 (or UTF-16 or UTF-32 with its mark) is refused, with the place of the bad
    byte, or kept with U+FFFD for bad bytes, which are counted."""
    min_characters: PositiveInt = 1
    """Documents with fewer characters are refused."""
    test_fraction: Fraction = 0.1
    """Share that becomes the test split, by a hash of the content, of the items that the source puts into no split."""
    max_item_bytes: PositiveInt = 512 * 2**20
    """Documents with more bytes are refused."""
    columns: TextColumnsConfig = TextColumnsConfig()
    """Names of the columns of tables."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between the cells of CSV; null: found from the header (comma, semicolon, tab or bar)."""
    header: bool | None = None
    """Whether the first row of CSV names the columns; null: it does if it names one that is known."""
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


class TextPrepareConfig(Block):
    """The model-ready store: token ids in blocks, a probe set, and labelled items for fine-tuning."""

    tokenizer: str = "train"
    """`train`: byte-level BPE, learned on the train part of the corpus. Or a model folder, whose encoder is then to be
    tuned, a folder with GPT-2's vocab.json and merges.txt or fairseq's encoder.json, vocab.bpe and dict.txt, or a
    tokenizer.json."""
    vocab_size: Annotated[int, Field(ge=300)] = 8000
    """Types of a trained tokenizer; more make texts shorter in tokens and the encoder's table larger."""
    block_tokens: Annotated[int, Field(ge=8)] = 512
    """Tokens of a training block with its `<s>`; at most the encoder's `max_tokens`."""
    packing: Literal["contiguous", "documents", "sentences", "pairs"] = "contiguous"
    """`contiguous`: the stream of all documents is cut every `block_tokens` (data2vec 2.0). `documents`: a block holds
    whole lines of one document (data2vec 1.0). `sentences`: whole lines, of several documents where one ends (RoBERTa).
    `pairs`: two runs of lines, the second one half of the time from another document (BERT)."""
    probe: Literal["auto", "labels", "acceptability"] = "auto"
    """What is probed: the corpus's own labels, or sentences of the corpus against the same with words exchanged.
    `auto`: labels where there are some."""
    probe_train_items: PositiveInt = 4000
    """Train items at most in the probe set, of each class as many if there are enough."""
    probe_test_items: PositiveInt = 2000
    """Test items at most in the probe set."""
    probe_max_tokens: Annotated[int, Field(ge=8)] = 64
    """Tokens that a probe item is cut to."""
    labelled_max_tokens: Annotated[int, Field(ge=8)] | None = None
    """Tokens that a labelled item for fine-tuning is cut to; null: `block_tokens`."""
    seed: NonNegativeInt = 0
    """Seed of the probe set's choice, of exchanged words, and of the sample that a tokenizer is trained on."""
    engine: Engine = "local"
    """Where it computes: `local`, in this process, or `dask`, on the machines of a cluster. Both write the same
    bytes."""
    cluster: ClusterConfig = ClusterConfig()
    """Of the engine `dask`."""


class TextEncoderConfig(Block):
    """A post-norm transformer over token and learned position embeddings, as RoBERTa."""

    layout: Literal["data2vec2", "data2vec1"] = "data2vec2"
    """`data2vec2`: positions are added before masked tokens are dropped. `data2vec1`: masked tokens become a learned
    vector before positions are added."""
    vocab_size: PositiveInt = 50_265
    """Rows of the token table: at least the tokenizer's types."""
    max_tokens: PositiveInt = 512
    """Learned positions: tokens of the longest input."""
    width: PositiveInt = 768
    """Numbers in a token's features; a multiple of `heads`."""
    depth: PositiveInt = 12
    """Blocks, whose outputs can be targets."""
    heads: PositiveInt = 12
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of the hidden layer of a block's MLP, as a multiple of `width`."""
    norm_eps: Positive = 1e-5
    """Added to the variance in every LayerNorm."""
    dropout: Fraction = 0.1
    """Dropout rate after attention and MLP."""
    embedding_dropout: Fraction = 0.1
    """Dropout rate after embeddings and positions."""
    attention_dropout: Fraction = 0.1
    """Dropout rate on attention weights."""
    layer_drop: Fraction = 0.0
    """Probability that training skips a block (LayerDrop, Fan et al. 2020)."""
    pre_norm: bool = False
    """Pre-norm blocks and a norm after the last, to read models that were trained with them. Those of `data2vec2` are
    the reference's, whose MLP has no residual."""
    word_std: Positive = 0.02
    """Standard deviation of first token embeddings. The papers' 0.02 needs long trainings: Adam moves positions in
    every update and most words rarely, so early targets tell positions and hardly words. Short ones want about 1."""
    position_std: Positive = 0.02
    """Standard deviation of first position embeddings; about a tenth of `word_std` keeps targets about words."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> TextEncoderConfig:
        check_heads(self.width, self.heads)
        return self


class RandomMask(Block):
    """data2vec 2.0's random masks: floor(tokens x (1 - ratio)) tokens stay visible; padding is never counted."""

    kind: Literal["random"]
    """Picks this mask."""
    ratio: Fraction = 0.48
    """Share of the tokens that is masked, exactly; larger is harder and, in data2vec 2.0, cheaper."""


class SpanMask(Block):
    """data2vec 1.0's spans: random starts without replacement, cut at the end of the text, overlaps allowed."""

    kind: Literal["span"]
    """Picks this mask."""
    ratio: Fraction = 0.35
    """Share of the tokens that spans would cover if they did not overlap."""
    span: PositiveInt = 4
    """Tokens of a span."""


TextMaskConfig = Annotated[RandomMask | SpanMask, Field(discriminator="kind")]


LAYOUTS = {"data2vec2": ("data2vec2",), "data2vec1": ("data2vec1",), "mlm": ("data2vec1", "data2vec2")}
MASKS = {"data2vec2": ("random",), "data2vec1": ("span",), "mlm": ("random",)}
"""Objective -> layouts of the encoder, and kinds of masks, that go with it."""
TASKS = ("classification", "regression")


class TextTrainConfig(TrainConfig):
    """Pretraining on text, which is never augmented."""

    encoder: TextEncoderConfig
    """The student's architecture, which is the teacher's too."""
    mask: TextMaskConfig
    """What the student does not see."""

    @model_validator(mode="after")
    def _parts_fit(self) -> TextTrainConfig:
        check_targets(self, self.encoder.depth)
        check_no_budget(self, "blocks of text")
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
    """Keys of the prepare block that become the champion's model folder."""


class TextRecipe(Block):
    """All blocks of `conf/<env>/parameters_text.yml`."""

    ingest: TextIngestConfig
    """Where raw data come from."""
    prepare: TextPrepareConfig = TextPrepareConfig()
    """From the corpus to the model-ready store."""
    train: TextTrainConfig
    """Pretraining."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """Probes of the frozen encoder."""
    finetune: TextFinetuneConfig | None = None
    """Tuning to a task; null: there is none."""
    promote: PromoteConfig = PromoteConfig()
    """When a challenger takes the champion's place."""
    retrain: TextRetrainConfig = TextRetrainConfig()
    """What a scheduled retraining does."""
    benchmark: BenchmarkConfig | None = None
    """Objectives side by side; null: there is no benchmark."""

    @model_validator(mode="after")
    def _store_fits_the_encoder(self) -> TextRecipe:
        encoder, prepare = self.train.encoder, self.prepare
        longest = max(prepare.block_tokens, prepare.probe_max_tokens, prepare.labelled_max_tokens or 0)
        if longest > encoder.max_tokens:
            raise ValueError(
                f"prepare.block_tokens, probe_max_tokens or labelled_max_tokens {longest} is more than "
                f"train.encoder.max_tokens {encoder.max_tokens}: lower the one or raise the other"
            )
        objective = self.train.objective
        if objective.name == "mlm" and objective.next_sentence and prepare.packing != "pairs":
            raise ValueError("next_sentence asks about pairs of runs of lines: set prepare.packing=pairs")
        if prepare.tokenizer == "train" and prepare.vocab_size > encoder.vocab_size:
            raise ValueError(
                f"prepare.vocab_size {prepare.vocab_size} is more than train.encoder.vocab_size {encoder.vocab_size}: "
                "set both to the same number"
            )
        return self
