"""What a modality must supply. Everything above this package speaks only to these types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Generic, Protocol, cast

import numpy as np
from typing_extensions import TypeVar

from d2v import moved
from d2v.config import Block, ClusterConfig, FinetuneConfig, RunConfig, TrainConfig, current_names, parse
from d2v.config.changes import merged
from d2v.data.batch import Batch, Inputs, SampleKeys
from d2v.data.cluster.remote import Remote
from d2v.data.ingest import IngestReport, Reader, Record, ingest_parameters
from d2v.data.ingest import ingest as run_ingest
from d2v.data.sources.listing import listed
from d2v.data.sources.locations import file_source
from d2v.data.sources.source import Item, Source
from d2v.data.url_paths import is_url
from d2v.errors import ConfigError
from d2v.modalities.requests import Request, using
from d2v.modalities.suggestion import Hardware, Suggestion, Survey

if TYPE_CHECKING:  # with these comes torch, for which ingest need not wait
    import pandas as pd
    from torch import Tensor, nn

    from d2v.data.prepared import Corpus
    from d2v.modalities.probes import Choice, CodeCounts, Probe
    from d2v.models.encoder import Encoder
    from d2v.models.masking import Count


@dataclass(frozen=True)
class ProbeSet:
    """A fixed labelled set for frozen-encoder probes.

    Attributes:
        train_inputs, test_inputs: n normalised model inputs, never augmented.
        train_labels, test_labels: (n,) int64 class ids.
        class_names: names by class id; empty when the data has no labels.
    """

    train_inputs: Inputs
    train_labels: Tensor
    test_inputs: Inputs
    test_labels: Tensor
    class_names: tuple[str, ...]


class LabelledSplit(Protocol):
    """Whole items of one part of a prepared folder with what is known of them, for fine-tuning."""

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """Folder of the shards that hold the items, and (n,) int64 their rows."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class ids, UNLABELLED without one."""
        ...

    @property
    def scores(self) -> np.ndarray | None:
        """(n,) float64 numbers to predict, NaN without one; None where the data has none."""
        ...

    @property
    def texts(self) -> Sequence[str | None]:
        """(n,) what was said, or the names of all classes with commas between."""
        ...

    @property
    def seconds(self) -> np.ndarray | None:
        """(n,) how long recordings are; None for other data."""
        ...

    def inputs(self, rows: np.ndarray) -> Inputs:
        """Some items as they are, normalised, side by side."""
        ...

    def augmented(self, keys: SampleKeys) -> Inputs:
        """Items `keys.indices` for training; a pure function of (the recipe's seed, epoch, sample id)."""
        ...


RunT_contra = TypeVar("RunT_contra", bound=RunConfig, default=RunConfig, contravariant=True)


class PreparedData(Protocol[RunT_contra]):
    """A prepared folder opened for reading, by recipes of the modality's type."""

    @property
    def fingerprint(self) -> str:
        """Hash of the prepared contents."""
        ...

    @property
    def corpus_fingerprint(self) -> str:
        """Hash of the corpus that was prepared."""
        ...

    @property
    def has_own_test_items(self) -> bool:
        """Whether probes are tested on the corpus's test part, and not on items taken from train."""
        ...

    @property
    def num_train(self) -> int:
        """Items for pretraining."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by id; empty when unlabelled."""
        ...

    def train_lengths(self, recipe: RunT_contra) -> np.ndarray | None:
        """(num_train,) int64 input positions of each item, no more than the recipe's longest crop; None where all
        items are alike."""
        ...

    def batch(self, keys: SampleKeys, recipe: RunT_contra) -> Batch:
        """Load, crop to `keys.length`, augment and normalise; a pure function of (recipe.seed, epoch, sample id)."""
        ...

    def probe_set(self, recipe: RunT_contra) -> ProbeSet:
        """The fixed probe set at the encoder's input size."""
        ...

    def items(self, part: str) -> pd.DataFrame | None:
        """What the corpus says of the rows of a part, such as `key`, `group` and `fold`; None where that is not known.

        Args:
            part: name of the shards' folder.
        """
        ...

    @property
    def corpus(self) -> Path | None:
        """The corpus folder, if it is still where it was."""
        ...


@dataclass(frozen=True)
class Patches:
    """What tokens hold, for objectives that reconstruct it. Inputs are all alike, without padding.

    Attributes:
        values: P, numbers that a token holds.
        cut: inputs -> (B, T, P).
        positions: width -> (1, T, width) fixed positions.
    """

    values: int
    cut: Callable[[Tensor], Tensor]
    positions: Callable[[int], Tensor]


@dataclass(frozen=True)
class Descriptors:
    """Hand-made features of tokens, for objectives that predict them.

    Attributes:
        values: P, numbers that describe a token.
        make: inputs -> (B, T, P) in at least float32; of padding without meaning.
        flops: T -> operations of making those of one sample, counted from its products.
    """

    values: int
    make: Callable[[Tensor], Tensor]
    flops: Callable[[int], float]


@dataclass(frozen=True)
class Codes:
    """What gives tokens their codes, for objectives that name these. Inputs are all alike, without padding.

    Attributes:
        number: K.
        build: -> a module, inputs -> (B, T) int64, whose parameters do not learn.
        weights: prepared data -> its weights. Raises ConfigError where prepare left none, or others.
        flops: T -> operations of the codes of one sample.
    """

    number: int
    build: Callable[[], nn.Module]
    weights: Callable[[PreparedData], Mapping[str, Tensor]]
    flops: Callable[[int], float]


@dataclass(frozen=True)
class LocalFrames:
    """Local features on the way from inputs to the encoder.

    Attributes:
        raw_BTC: as they are first made.
        normal_BTC: after their norm; they are what is quantised.
        projected_BTD: what the encoder goes on from, the stem's local features.
    """

    raw_BTC: Tensor
    normal_BTC: Tensor
    projected_BTD: Tensor


@dataclass(frozen=True)
class Frames:
    """Local features, for objectives that compare them.

    Attributes:
        channels: C.
        make: (encoder, inputs, factor on the gradient of what makes the raw features) -> LocalFrames.
    """

    channels: int
    make: Callable[[Encoder, Tensor, float], LocalFrames]


@dataclass(frozen=True)
class Vocabulary:
    """Token ids, for objectives that name words.

    Attributes:
        size: W, ids from 0.
        first_word: special tokens come before it.
        mask_id: stands for a masked word; words are the ids from `first_word` up to it.
        table: encoder -> (W, D) its vectors of all words, which predictions are multiplied by.
    """

    size: int
    first_word: int
    mask_id: int
    table: Callable[[Encoder], Tensor]


@dataclass(frozen=True)
class GraphInputs:
    """What an exported graph takes.

    Attributes:
        values: two items to trace the encoder with.
        about: shape, type and normalisation of the values, for people.
        lengths: (2,) int64 positions of these items that are not padding; None where inputs are all alike.
        note: what a user of a graph of torch.export should know.
    """

    values: Tensor
    about: str
    lengths: Tensor | None = None
    note: str = ""


@dataclass(frozen=True)
class Preprocessing:
    """How raw items become inputs, as transformers' folders say it.

    Attributes:
        files: name -> JSON text, such as of `preprocessor_config.json`.
        notes: what a user should know, a sentence each.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Foreign:
    """Where an encoder of others came from.

    Attributes:
        path: a checkpoint file, or a folder of transformers.
        preprocessor: contents of the folder's preprocessor_config.json; empty if there is none.
        tokenizer: that the user gave; None: what lies in the folder.
    """

    path: Path
    preprocessor: Mapping[str, object] = field(default_factory=dict)
    tokenizer: Path | None = None


@dataclass(frozen=True)
class Quantity:
    """A number that every item of a corpus has, for histograms and sums.

    Attributes:
        name: such as "duration".
        unit: such as "s"; may be empty.
        facts: names of the facts that it is computed from.
        of: arrays (n,) int64 of these facts -> (n,).
        total: name of the sum over items, and how many units one of it has, such as ("hours", 3600); None where the sum
            says nothing.
    """

    name: str
    unit: str
    facts: tuple[str, ...]
    of: Callable[..., np.ndarray]
    total: tuple[str, float] | None = None


@dataclass(frozen=True)
class Preview:
    """An item of a corpus for people.

    Attributes:
        text: what it says, or what is said of it; may be empty.
        media_type: of `data`, `image/...` or `audio/...` that browsers show; empty if there is only the text.
        data: a small file.
        is_small: whether an image has so few pixels that they are shown as squares.
    """

    text: str = ""
    media_type: str = ""
    data: bytes = b""
    is_small: bool = False


@dataclass(frozen=True)
class OwnFiles:
    """The items of a file or a folder, read as ingest reads them.

    Attributes:
        source: the items.
        read: an item that was not refused -> one of what `Modality.to_inputs` takes a list of. Raises DataError.
    """

    source: Source
    read: Callable[[Item], object]


class IngestBlock(Protocol):
    """What the ingest blocks of all recipes have beside their source."""

    @property
    def shard_bytes(self) -> int:
        """Payload of a shard."""
        ...

    @property
    def test_fraction(self) -> float:
        """Share of the hash split where the source has no test split."""
        ...

    @property
    def no_label(self) -> Sequence[str] | None:
        """Labels that mean none; None: -1 does, unless it is one of the classes -1, 0 and 1."""
        ...

    def model_dump(self, *, mode: str, exclude: set[str]) -> dict[str, object]:
        """Its values in plain types."""
        ...


IngestT = TypeVar("IngestT", bound=IngestBlock, default=IngestBlock)
PrepareT = TypeVar("PrepareT", bound=Block, default=Block)
TrainT = TypeVar("TrainT", bound=TrainConfig, default=TrainConfig)
FinetuneT = TypeVar("FinetuneT", bound=FinetuneConfig, default=FinetuneConfig)
DataT = TypeVar("DataT", default=PreparedData)
BlockT = TypeVar("BlockT", bound=Block)


class Modality(ABC, Generic[IngestT, PrepareT, TrainT, FinetuneT, DataT]):
    """One modality: all that the shared pipelines ask of it. It holds no state.

    A modality names its own types, `class Vision(Modality[VisionIngestConfig, ..., VisionData])`. Code for all of them
    says `Modality`, and hands its methods what the same modality's recipe and prepared folder gave.

    Type parameters: the recipe's blocks ingest, prepare, train and finetune; the prepared data.

    Shape legend: B samples, n items, R rows of masks, T tokens, V of values, D width.

    Attributes:
        name: also the namespace of its parameters and pipelines.
        recipe: Block with the parts ingest, prepare, train, evaluate.
        facts: names of the integers that the reader says of an item.
        texts: names of the strings that items and records may carry.
        baseline_name: what the plain features are called in tables, such as "raw pixels".
        images_per_row: how many of its images for people fit side by side on a page.
        has_choices: whether `choice` may give pairs; the whole objective is put together for these.
        items_are_lines: whether a file holds an item a line; else a file is one item.
        native_decoders: whether its reader calls decoders written in C, and so is called in processes that may
            die: the reader is pickled, and its module must not import torch, which starts threads.
        advice: note of the reader -> what to do about it, for notes that ingest is to count in a remark.
        own_files: values of the ingest block for features of people's own files, such as no lower limits of size.
        packages: what serving an encoder of it needs beside the shared packages.
        request: what a served model is sent, and how one item of it is read.
    """

    name: str
    recipe: type[Block]
    facts: tuple[str, ...]
    texts: tuple[str, ...] = ()
    baseline_name: str
    images_per_row: int = 8
    has_choices: bool = False
    items_are_lines: bool = False
    native_decoders: bool = False
    advice: Mapping[str, str] = MappingProxyType({})
    own_files: Mapping[str, object] = MappingProxyType({})
    packages: tuple[str, ...] = ()
    request: Request

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @property
    def train_config(self) -> type[TrainT]:
        """The type of the recipe's train block."""
        return cast(type[TrainT], self.recipe.model_fields["train"].annotation)

    # -------------------------------------------------------------------------------------------- data

    @abstractmethod
    def open_source(self, config: IngestT) -> Source:
        """The items that an ingest block names. Raises DataError if they are not there."""

    @abstractmethod
    def reader(self, config: IngestT) -> Reader:
        """What turns one item's bytes or array into a Record, or raises Rejected with the reason."""

    def ingest(self, config: IngestT, out: Path, source: Source | None = None) -> IngestReport:
        """Read a source into the corpus folder `out`.

        Args:
            config: the ingest block.
            out: folder of the corpus.
            source: items to read instead of those that the block names, such as a sample of them.

        Raises:
            DataError: the source is not there, is empty, or holds no usable item; the disk is full.
        """
        settings = self.settings(config)
        fields = cast(type[Block], type(config)).model_fields
        usual = {name for name, value in settings.items() if value == fields[name].default}
        remote = self._remote(config) if source is None else None
        with listed(remote.listings) if remote else nullcontext():
            source = source or self.open_source(config)
        return run_ingest(
            source,
            self.reader(config),
            self.facts,
            out,
            parameters=ingest_parameters(
                config.model_dump(mode="json", exclude={"source", "shard_bytes", "engine", "cluster", *usual})
            ),
            shard_bytes=config.shard_bytes,
            test_fraction=config.test_fraction,
            texts=self.texts,
            settings=settings,
            no_label=config.no_label,
            parted_groups=getattr(config, "parted_groups", None),  # a later key, which other modalities may lack
            advice=self.advice,
            in_workers=self.native_decoders,
            remote=remote,
        )

    def _remote(self, config: IngestT) -> Remote | None:
        """What workers of a cluster open, if the block asks for a cluster. Its keys came later, and other modalities
        may lack them."""
        cluster: ClusterConfig = getattr(config, "cluster", ClusterConfig())
        if getattr(config, "engine", "") != "dask":
            return None
        return Remote(partial(self.open_source, config), cluster, getattr(config, "options", {}))

    def settings(self, config: IngestT) -> dict[str, object]:
        """Keys of the ingest block that say how `prepare` is to read the corpus. The corpus records them, and only
        values that are not the default are part of its identity: one of before a key came is not ingested anew, and
        `prepare` takes the absence of the key for what was done then."""
        return {}

    def suggest(self, survey: Survey, hardware: Hardware) -> Suggestion:
        """What the recipe of a source should say beside `conf/own_data`: sizes, lengths, the encoder, the task.

        Args:
            survey: what a first look at the source found.
            hardware: what will train.
        """
        return Suggestion()

    def quantities(self) -> Sequence[Quantity]:
        """The numbers of an item that the page of a corpus shows; by default its facts."""
        return [Quantity(name, "", (name,), np.asarray) for name in self.facts]

    def preview(self, data: bytes, said: Mapping[str, object]) -> Preview | None:
        """An item for people, in at most some 100 kB; None, the default, where there is nothing to show.

        Args:
            data: what the corpus stores of it.
            said: its row of the manifest: facts and texts, None for texts that it has not.
        """
        return None

    @abstractmethod
    def prepare(self, config: PrepareT, corpus: Path, out: Path) -> Mapping[str, object]:
        """Bring the model-ready folder `out` up to date with a corpus folder; the contents of its prepared.json.

        Raises:
            DataError: there is no finished corpus, nothing to train on, or the disk is full.
        """

    @abstractmethod
    def open(self, folder: Path) -> DataT:
        """A prepared folder, opened for reading; it can go to worker processes.

        Raises:
            DataError: the folder is not a prepared one, or is damaged.
        """

    @abstractmethod
    def describe(self, data: DataT) -> dict[str, object]:
        """Plain values that travel with a trained encoder in its config.json: normalisation, class names."""

    def labelled(self, data: DataT, config: FinetuneT, encoder: TrainT) -> Mapping[str, LabelledSplit]:
        """The splits "train" and "test" of labelled items for fine-tuning.

        Args:
            data: the prepared folder.
            config: the recipe's finetune block.
            encoder: the train block of the encoder that is tuned.

        Raises:
            ConfigError: the modality has no labelled data, or they do not fit the encoder.
            DataError: there are no labelled items.
        """
        raise ConfigError(
            f"{self.name} has no labelled data: its Modality has no `labelled`, so it can be pretrained and probed "
            "only; write one, or leave finetune out of the recipe"
        )

    def captions(self, corpus: Corpus) -> Sequence[str | None]:
        """What a corpus knows of each of its items in words, such as its transcript; None of items without. Aligning
        encoders pairs items with these texts.

        Raises:
            ConfigError: it knows no texts of its items.
        """
        raise ConfigError(
            f"the corpus of {corpus.source} says no texts of its items: give align.pairs.<name>.table, a table of "
            "items and texts"
        )

    def check_fits(self, data: DataT, about: Mapping[str, object]) -> None:
        """Raises ConfigError if data was prepared for other encoders than the one of this config.json."""

    # ------------------------------------------------------------------------------------------ models

    @abstractmethod
    def build_encoder(self, recipe: TrainT) -> Encoder:
        """The recipe's encoder, randomly initialised from torch's generator."""

    def grid(self, recipe: TrainT) -> tuple[int, int] | None:
        """(height, width) of tokens that lie in a plane, row by row; None for a sequence."""
        return None

    @abstractmethod
    def max_tokens(self, recipe: TrainT) -> int:
        """T of the longest input."""

    @abstractmethod
    def num_masked(self, recipe: TrainT, tokens: Count) -> Count:
        """How many tokens every data2vec 2.0 mask over T tokens masks: at least one, not all. Neither it nor T minus it
        falls as T grows.

        Args:
            recipe: whose masks.
            tokens: T, or a tensor of them.

        Raises:
            ConfigError: the masks of this recipe vary in their number.
        """

    @abstractmethod
    def draw_masks(self, recipe: TrainT, keys: Tensor, tokens: int, lengths: Tensor | None) -> Tensor:
        """Masks as a pure function of keys.

        Args:
            recipe: says the kind of mask.
            keys: (R,) int64.
            tokens: T.
            lengths: (R,) tokens of a row that are not padding; None without padding.

        Returns:
            (R, T) bool, True where a token is masked; never at or after a row's length.
        """

    def patches(self, recipe: TrainT) -> Patches | None:
        """What tokens hold (`d2v.objectives.mae`); None where there is nothing to reconstruct."""
        return None

    def descriptors(self, recipe: TrainT) -> Descriptors | None:
        """Hand-made features of tokens (`d2v.objectives.maskfeat`); None where there are none."""
        return None

    def codes(self, recipe: TrainT) -> Codes | None:
        """What gives tokens their codes (`d2v.objectives.beit`); None where nothing does."""
        return None

    def frames(self, recipe: TrainT) -> Frames | None:
        """Local features that can be compared (`d2v.objectives.wav2vec2`); None where there are none."""
        return None

    def vocabulary(self, recipe: TrainT) -> Vocabulary | None:
        """Which token ids are words (`d2v.objectives.mlm`); None where tokens are not words."""
        return None

    # ----------------------------------------------------------------------------------------- looking

    @abstractmethod
    def baseline_features(self, inputs: Inputs) -> Tensor:
        """(n, d) plain features that an encoder must beat."""

    @abstractmethod
    def to_images(self, inputs: Inputs, data: DataT) -> np.ndarray:
        """Images of inputs for people: (n, height, width, 3) uint8."""

    def pictures(self, inputs: Inputs, about: Mapping[str, object]) -> np.ndarray:
        """The same for an encoder with this config.json, where no prepared data is at hand."""
        return self.to_images(inputs, cast(DataT, None))

    @abstractmethod
    def image_grid(self, tokens: int) -> tuple[int, int]:
        """(rows, columns) of equal cells that T tokens take in such an image, row by row; the last row may have cells
        left over."""

    def further_probes(self, data: DataT, recipe: TrainT, items: int) -> Sequence[Probe]:
        """Probes that need no labels, such as pairs of which one is whole.

        Args:
            data: the prepared folder.
            recipe: of the encoder that is measured.
            items: items at most of each.
        """
        return ()

    def choice(self, data: DataT, recipe: TrainT, pairs: range, counted: bool = False) -> Choice | None:
        """Pairs of which one is whole, where items have no labels of their own to probe with; None where they have, or
        where there are no such pairs.

        Args:
            data: the prepared folder.
            recipe: of the encoder that is measured.
            pairs: which ones, in an order that is always the same; the first `items` are those of `further_probes`.
            counted: with a plain model beside.
        """
        return None

    def code_counts(self, data: DataT, items: int) -> CodeCounts | None:
        """Codes of a codebook that the prepare step made, beside classes that are known of the same tokens; None where
        either is missing.

        Args:
            data: the prepared folder.
            items: train items at most that are counted.
        """
        return None

    # --------------------------------------------------------------------------------------- raw items

    def open_files(self, path: Path, settings: Mapping[str, object]) -> OwnFiles:
        """The items of a file or a folder that someone wants features of, found and read as ingest does.

        Args:
            path: of a local file or folder, or the URL of a folder or of a file that holds items.
            settings: further values of the ingest block, such as names of columns.

        Raises:
            ConfigError: settings that the ingest block does not have.
            DataError: nothing to read, or a table that cannot be understood; reading items raises it too.
        """
        config = self._config_of_files(path, settings)
        holds_several = is_url(path) or path.is_dir() or self.holds_items(path)
        source = self.source_of_files(config) if holds_several else file_source(str(path))
        return OwnFiles(source, self._item_reader(config))

    def item_reader(self, path: Path, settings: Mapping[str, object]) -> Callable[[Item], object]:
        """What reads an item of `open_files(path, settings)`, for those who have the items already."""
        return self._item_reader(self._config_of_files(path, settings))

    def _config_of_files(self, path: Path, settings: Mapping[str, object]) -> IngestT:
        if "source" in settings:
            raise ConfigError("the source is the file itself: leave source out of the settings")
        block = cast(type[Block], self.recipe.model_fields["ingest"].annotation)
        at = f"{self.name}.ingest"
        values = {"source": str(path), **merged(self.own_files, settings, at)}
        return cast(IngestT, parse(block, values, at=at))

    def _item_reader(self, config: IngestT) -> Callable[[Item], object]:
        read = self.reader(config)

        def read_item(item: Item) -> object:
            with using("it"):
                return self.from_record(read(cast(bytes, item.data)))

        return read_item

    def holds_items(self, file: Path) -> bool:
        """Whether a file holds several items, such as an archive or a table; by default none does."""
        return False

    def source_of_files(self, config: IngestT) -> Source:
        """The source of files that hold items."""
        return self.open_source(config)

    @abstractmethod
    def from_record(self, record: Record) -> object:
        """What ingest stores of an item, as one of what `to_inputs` takes a list of."""

    def names_file(self, given: object) -> bool:
        """Whether what a user gave is the path of a file or a folder; by default strings are."""
        return isinstance(given, str | Path)

    @property
    def takes_words(self) -> bool:
        """Whether a string is an item itself, and not the path of one."""
        return not self.names_file("a")

    def item_words(self, about: Mapping[str, object]) -> str:
        """What the encoder with this config.json takes, in a few words, such as "images of 32 px"."""
        return f"items of {self.name}"

    @abstractmethod
    def is_item(self, given: object) -> bool:
        """Whether what a user gave is one item. Everything else is a list of them."""

    @abstractmethod
    def read_item(self, item: object, rate_hz: float | None = None) -> object:
        """Read one item as people have it.

        Args:
            item: a file's path, its bytes, or whatever else stands for one item, such as an array; also what
                `from_record` gave.
            rate_hz: of an array that was sampled in time; None: as the encoder takes it.

        Returns:
            One of what `to_inputs` takes a list of.

        Raises:
            DataError: it cannot be used; the message ends with what to give instead.
        """

    def tokens_of(self, item: object, about: Mapping[str, object]) -> int:
        """About how many tokens the encoder makes of one of what `to_inputs` takes a list of, for batches of like
        lengths; the same for all items where they are alike.

        Args:
            item: one of them, which need not be usable.
            about: the encoder's config.json.
        """
        return 1

    @abstractmethod
    def to_inputs(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """Items side by side as the encoder was trained on them.

        Args:
            items: what `read_item`, `from_record` or `request.read` gave.
            about: the encoder's config.json.

        Returns:
            A row an item. Where the encoder takes less than an item holds, `cut_off` says how much is missing.

        Raises:
            DataError: another shape or type.
        """

    def to_windows(self, items: Sequence[object] | np.ndarray, about: Mapping[str, object]) -> Inputs:
        """The same with nothing cut off: items that are too long are several rows, whose `owners` say which item they
        belong to. By default no item is too long."""
        return self.to_inputs(items, about)

    # -------------------------------------------------------------------------------- other programs

    @abstractmethod
    def graph_inputs(self, about: Mapping[str, object]) -> GraphInputs:
        """What a graph of the encoder with this config.json takes."""

    def preprocessing(self, about: Mapping[str, object]) -> Preprocessing:
        """The files that tell transformers how raw items become inputs; by default none, and a note that says so."""
        return Preprocessing(notes=("transformers prepares no such items: make the inputs as config.json says",))

    def about_foreign(self, recipe: TrainT, source: Foreign) -> tuple[dict[str, object], tuple[str, ...]]:
        """What feeds an encoder of others: (values of its config.json, what a user should know, a sentence each).

        Raises:
            ConfigError: a tokenizer was given and the modality has none.
            DataError: the tokenizer cannot be read, or does not belong to the encoder.
        """
        refuse_tokenizer(self.name, source)
        return {}, ()


def refuse_tokenizer(name: str, source: Foreign) -> None:
    """Raise ConfigError if a tokenizer was given for a modality that has none."""
    if source.tokenizer is not None:
        raise ConfigError(f"{source.path} is a {name} encoder and takes no tokenizer: leave --tokenizer out")


def encoder_block(about: Mapping[str, object], kind: type[BlockT]) -> BlockT:
    """The encoder's block of the recipe in a config.json."""
    recipe = cast(Mapping[str, object], about["recipe"])
    return kind.model_validate(current_names(kind, cast(Mapping[str, object], recipe["encoder"])))


if not TYPE_CHECKING:
    __getattr__ = moved.old_attributes(__name__)
