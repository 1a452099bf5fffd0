"""`d2v.load`: a model from anywhere, ready for raw items as people have them.

What an item is, its modality says in `Modality.read_item`:

| model of | one item |
|---|---|
| images | a file or its bytes, a PIL image, an array (height, width[, 3 or 4]) of uint8, or float from 0 to 1 |
| recordings | a sound file or its bytes, or an array (samples,) of float from -1 to 1, or int16 |
| text | a string, a pair (a tuple) of strings, or the bytes of a text file |

The channels of an image may also be its first axis. Several items are a list, an array with one more axis, or a folder
or an archive, whose items are read as ingest finds them; `Model.files` names these. Of text a folder is a `Path`, for a
string is a text.

Shape legend: n items, L layers, T tokens, E extra tokens, D width, C outputs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from d2v.alignment.space import AlignedHead, encoder_fingerprint, is_space, read_space
from d2v.config import Block, TaskConfig, parse
from d2v.data.batch import Inputs
from d2v.data.parallel import ordered_map
from d2v.data.url_cache import fetched
from d2v.data.url_paths import is_url
from d2v.errors import CheckpointError, ConfigError, DataError
from d2v.evaluation.batches import BatchSize, in_repeating_shape
from d2v.evaluation.search_space import SearchSpace
from d2v.evaluation.search_space import pool as pooled_in_parts
from d2v.finetuning.heads import mean_over_tokens
from d2v.finetuning.model import decode, load_finetuned
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.build_task import restore_task
from d2v.finetuning.tasks.classification import Multilabel
from d2v.modalities import registry
from d2v.modalities.base import Modality, OwnFiles
from d2v.modalities.long_items import Cuts, Long, TooLong, inputs_of
from d2v.model_folder import build_fitting, load_encoder, load_state, read_config, shapes_of
from d2v.models.encoder import Encoded, Encoder
from d2v.progress import log
from d2v.tracking.models import REGISTERED, registered_model
from d2v.training.matmul import inference
from d2v.training.precision import emulated

if TYPE_CHECKING:
    from d2v.interchange.importing import ImportedModel
    from d2v.interchange.onnx_session import OnnxSession

Pool = Literal["mean", "first", "none"]
Space = Literal["plain", "search", "aligned"]
BATCH_ITEMS = 32
SHOWN_CLASSES = 8
RUNTIMES = ("torch", "onnxruntime")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def device_of(name: str | torch.device) -> torch.device:
    """The device that a name means; `auto` takes a GPU if there is one.

    Raises:
        ConfigError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except Exception as error:  # what torch raises depends on how it was built
        said = str(error).splitlines()[0]
        raise ConfigError(f"there is no device {str(name)!r} here ({said}): give auto, cpu or another one") from error


class Model:
    """An encoder in evaluation mode, with its head if it is a fine-tuned model, and with what feeds them.

    Args:
        encoder: inputs to tokens.
        about: contents of its config.json.
        head: (Encoded, token lengths) -> outputs.
        task: outputs to predictions.
        search_space: what `space="search"` takes; None where there is none.

    Attributes:
        aligned: what `space="aligned"` takes; None unless `load` was given an aligned space.
        width: D.
        num_layers: blocks that `layers` can name.
        batch_size: items that are computed at a time, or fewer; 1 of an encoder whose features depend on padding.
    """

    def __init__(
        self,
        encoder: Encoder,
        about: Mapping[str, Any],
        head: nn.Module | None = None,
        task: Task | None = None,
        search_space: SearchSpace | None = None,
    ) -> None:
        self.search_space, self.aligned = search_space, cast(AlignedHead | None, None)
        self._onnx: OnnxSession | None = None
        self.encoder, self.head, self.task = encoder.eval(), head, task
        self.about = dict(about)
        self.modality: str = self.about["modality"]
        self.width, self.num_layers = encoder.width, len(encoder.blocks)
        self.batch_size = 1 if encoder.stem.sees_padding else BATCH_ITEMS
        self._modality = registry.get(self.modality)
        if head is not None:
            head.eval()

    def to(self, device: str | torch.device = "auto", dtype: str = "float32") -> Model:
        """Move it, and compute in another number format. Results are float32 whatever the format.

        Args:
            device: `auto` takes a GPU if there is one.
            dtype: one of `DTYPES`.
        """
        if dtype not in DTYPES:
            raise ConfigError(f"there is no dtype {dtype!r}: give one of {', '.join(DTYPES)}")
        device = device_of(device)
        if slow := emulated(DTYPES[dtype], device):
            log(f"load: {slow}")
        self.encoder.to(device, DTYPES[dtype])
        if self.head is not None:
            self.head.to(device, DTYPES[dtype])
        return self

    def in_onnxruntime(self, weights: str) -> Model:
        """Let onnxruntime compute the encoder from now on, in float32 or with weights of eight bits; the head stays
        with torch. Takes some ten seconds.

        Raises:
            ConfigError: other weights than float32 or int8, the model is not on the CPU, or a package is missing.
        """
        if weights not in ("float32", "int8"):
            raise ConfigError(f"runtime onnxruntime has dtype float32 and int8, not {weights}: give one of them")
        parameter = next(self.encoder.parameters())
        if parameter.device.type != "cpu":
            raise ConfigError(f"runtime onnxruntime computes on the CPU, not on {parameter.device}: give device cpu")
        from d2v.interchange.onnx_session import OnnxSession

        self._onnx = OnnxSession(self.encoder, self.about, cast(Literal["float32", "int8"], weights))
        return self

    def __repr__(self) -> str:
        """What it takes, how large it is, and what it says."""
        parameters = sum(one.numel() for one in self.encoder.parameters()) / 1e6
        takes = self._modality.item_words(self.about)
        parts = [
            f"{self.modality}: {takes}",
            f"{self.num_layers} blocks of width {self.width}, {parameters:.1f} M parameters",
        ]
        if self.task is not None:
            parts.append(f"{type(self.task).__name__.lower()}{self._classes()}")
        else:
            parts.append("no head")
        return f"<d2v.Model {' | '.join(parts)}>"

    def _classes(self) -> str:
        """The classes of the head, if it has such."""
        names = list(getattr(self.task, "class_names", ()))
        more = f" and {len(names) - SHOWN_CLASSES} more" if len(names) > SHOWN_CLASSES else ""
        return f" of {len(names)} classes: {', '.join(map(str, names[:SHOWN_CLASSES]))}{more}" if names else ""

    # ----------------------------------------------------------------------------------------- features

    def files(self, folder: str | Path) -> list[str]:
        """Where the items of a folder or an archive lie, in the order of `encode(folder)`."""
        return [item.address or item.key for item in self._opened(Path(folder)).source.items(0)]

    def encode(
        self,
        items: Any,
        *,
        layers: Sequence[int] | Literal["all"] | None = None,
        pool: Pool = "mean",
        rate_hz: float | None = None,
        long: Long = "cut",
        space: Space = "plain",
    ) -> Any:
        """Features of raw items.

        Args:
            items: one item or several, or a folder of them, see `d2v.interchange.load`.
            layers: blocks by number, from 0, or from -1 backwards, or `all`. None gives the encoder's final features,
                after its last norm if it has one.
            pool: `mean` over tokens that are not padding; the `first` token (CLS or `<s>`); `none` keeps tokens.
            rate_hz: of arrays that were sampled in time; None: as the encoder takes them (recordings: 16 kHz).
            long: of items that are longer than the encoder takes (texts above its `max_tokens`): `cut` takes the
                beginning, and a line on stderr says how much is cut off; `windows` takes all of it, in windows of
                `max_tokens` without overlap, whose features are averaged with their numbers of tokens as weights
                (without pooling, their tokens follow one another); `error` raises.
            space: `plain` features, or vectors of the space that was learned for comparing items (`search`), or of one
                that several modalities share (`aligned`; docs/search.md): their length is one and their products are
                cosines. Neither layers nor another pooling go with these two.

        Returns:
            float32. Of several items (n, D), with layers (n, L, D); without pooling a list of n arrays (T, D) or
            (L, T, D), without padding. Of one item that stands alone, one of them. In the other spaces (n, R).

        Raises:
            DataError: an item that cannot be read, or that is too long for `long="error"`.
            ConfigError: a block or a pooling that the encoder does not have, another word for `long`, or the encoder
                has no space to search in.

        Example:
            >>> model = load("data/06_models/vision/glyphs/encoder")  # doctest: +SKIP
            >>> model.encode(["a.jpg", "b.png"]).shape  # doctest: +SKIP
            (2, 128)
        """
        given, alone = self._each(items)
        width = self.width_in(space, layers, pool)
        found = self._for_each(given, rate_hz, long, lambda batch: self.features(batch, layers, pool, space))
        for number, row in enumerate(found):
            check_finite(row, "the item" if alone else f"item {number}")
        if alone:
            return found[0]
        if pool == "none":
            return found
        sizes = (width,) if layers is None else (len(self._blocks(layers)), self.width)
        return np.stack(found) if found else np.zeros((0, *sizes), np.float32)

    def features(
        self,
        inputs: Inputs,
        layers: Sequence[int] | Literal["all"] | None = None,
        pool: Pool = "mean",
        space: Space = "plain",
    ) -> list[np.ndarray]:
        """One array an item of a batch that `to_inputs` made, as `encode` gives them."""
        self.width_in(space, layers, pool)
        with inference(next(self.encoder.parameters())):
            if space == "aligned" and self.aligned is not None:
                return list(self.aligned(torch.from_numpy(self.head_inputs(inputs, self.aligned.reads))).numpy())
            if space == "plain" or self.search_space is None:
                return self._features(inputs, layers, pool)
            return list(self.search_space(torch.from_numpy(self._pooled(inputs, self.search_space))).numpy())

    def width_in(self, space: Space, layers: Sequence[int] | Literal["all"] | None = None, pool: Pool = "mean") -> int:
        """Numbers of a vector in a space.

        Raises:
            ConfigError: there is no such space, the encoder has none to search in, or layers or a pooling are asked of
                that.
        """
        if space == "plain":
            return self.width
        check_space(space)
        if space == "aligned" and self.aligned is None:
            raise ConfigError(
                "the model has no space that modalities share: in Python load it with aligned=FOLDER, which kedro run "
                "--pipeline=align makes; d2v index and d2v search take --aligned FOLDER"
            )
        if space == "search" and self.search_space is None:
            raise ConfigError(
                "the model has no space to search in, as encoders of earlier versions and from elsewhere have none: "
                "make it from items like yours with d2v space MODEL_FOLDER FOLDER_OF_ITEMS, or take space=plain"
            )
        if layers is not None or pool != "mean":
            raise ConfigError(f"the space {space} is of all tokens and its own layers: leave layers and pool out")
        if space == "aligned":
            return cast(AlignedHead, self.aligned).head.out_width
        return cast(SearchSpace, self.search_space).width

    def head_inputs(self, inputs: Inputs, reads: Literal["all", "search", "plain"]) -> np.ndarray:
        """(n, W) float32, what the heads of an aligned space read: the vector of the space to search in, the means of
        tokens after every block, or both side by side. Without a space to search in these means alone."""
        parts = []
        with inference(next(self.encoder.parameters())):
            if reads != "search" or self.search_space is None:
                parts.append(np.stack(self._features(inputs, "all", "mean")).reshape(-1, self.num_layers * self.width))
            if reads != "plain" and self.search_space is not None:
                parts.append(np.stack(self.features(inputs, space="search")))
        return np.concatenate(parts, axis=1)

    def fingerprint(self) -> str:
        """SHA-256 of the weights that make vectors, and of the space to search in, whatever file they came from."""
        return encoder_fingerprint(self.encoder, self.search_space)

    def align(self, aligned: AlignedHead) -> Model:
        """Let it encode into a space that modalities share. Raises CheckpointError if that is another encoder's."""
        aligned.check(self.fingerprint())
        self.aligned = aligned
        return self

    def tokens(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """((n, T, D) final features of tokens in float32, (n,) tokens that are not padding or None)."""
        with inference(next(self.encoder.parameters())):
            encoded, lengths = self._encoded(inputs)
        return encoded.tokens.float(), lengths

    def _pooled(self, inputs: Inputs, space: SearchSpace) -> np.ndarray:
        """(n, P) what the space is a map of."""
        if inputs.owners is not None:  # of windows, which only sequences have, as they are averaged in plain features
            return np.stack(self._features(inputs, None, "mean"))
        return pooled_in_parts(*self.tokens(inputs), space.grid).cpu().numpy()

    def _features(self, inputs: Inputs, layers: Sequence[int] | Literal["all"] | None, pool: Pool) -> list[np.ndarray]:
        if inputs.owners is not None:
            return self._features_of_windows(inputs, layers, pool)
        blocks = None if layers is None else self._blocks(layers)
        encoded, lengths = self._encoded(inputs, None if blocks is None else "end_of_block")
        chosen = [encoded.tokens] if blocks is None else [encoded.activations[block] for block in blocks]
        if pool == "first":
            pooled = [self._first(encoded, tokens, blocks is not None) for tokens in chosen]
        elif pool == "mean":
            pooled = [mean_over_tokens(tokens.float(), lengths) for tokens in chosen]
        elif pool == "none":
            pooled = chosen
        else:
            raise ConfigError(f"there is no pooling {pool!r}: give mean, first or none")
        rows = torch.stack(pooled, dim=1).float().cpu()
        if pool == "none" and lengths is not None:
            kept = [features[:, :length] for features, length in zip(rows, lengths.tolist(), strict=True)]
        else:
            kept = list(rows)
        return [(features[0] if blocks is None else features).numpy() for features in kept]

    def _features_of_windows(
        self, inputs: Inputs, layers: Sequence[int] | Literal["all"] | None, pool: Pool
    ) -> list[np.ndarray]:
        """Some windows at a time, put together again."""
        owners = inputs.owners
        assert owners is not None
        rows = [row for part in inputs.split(self.batch_size) for row in self.features(part, layers, pool)]
        if pool != "none":
            return list(inputs.merged(torch.from_numpy(np.stack(rows))).numpy()) if rows else []
        own = [np.flatnonzero(owners.numpy() == item) for item in range(int(owners.max()) + 1 if len(owners) else 0)]
        return [np.concatenate([rows[row] for row in some], axis=-2) for some in own]

    def _encoded(self, inputs: Inputs, activation: str | None = None) -> tuple[Encoded, Tensor | None]:
        inputs = inputs.to(next(self.encoder.parameters()))
        lengths = self.encoder.token_lengths(inputs.lengths)
        if self._onnx is not None:
            if activation is not None:
                raise ConfigError("onnxruntime gives final features alone: leave layers out, or take runtime=torch")
            return self._onnx.encode(inputs), lengths
        values = in_repeating_shape(inputs, self.encoder.stem).values
        return self.encoder.encode(self.encoder.stem(values), lengths, activation=activation), lengths

    def _first(self, encoded: Encoded, tokens: Tensor, of_block: bool) -> Tensor:
        if not self.encoder.num_extra:
            return tokens[:, 0]
        if of_block:
            raise ConfigError("the CLS token of single blocks is not kept: take pool=mean, or leave layers out")
        return encoded.extra[:, 0]

    def _blocks(self, layers: Sequence[int] | Literal["all"]) -> list[int]:
        numbers = list(range(self.num_layers)) if layers == "all" else [int(layer) for layer in layers]
        wrong = [layer for layer in numbers if not -self.num_layers <= layer < self.num_layers]
        if wrong or not numbers:
            raise ConfigError(
                f"layers {numbers}: the encoder has the blocks 0 to {self.num_layers - 1}; give some of them"
            )
        return numbers

    # -------------------------------------------------------------------------------------- predictions

    def predict(self, items: Any, *, rate_hz: float | None = None, long: Long = "cut") -> Any:
        """What a fine-tuned model says of raw items.

        Args:
            items: one item or several, see `d2v.interchange.load`.
            rate_hz: of arrays that were sampled in time; None: as the encoder takes them (recordings: 16 kHz).

        Returns:
            A list with one prediction an item: the name of its class, its text, its number, or {class: probability}.
            Of one item that stands alone, its prediction.

        Raises:
            DataError: an item that cannot be read.
            ConfigError: the model has no head.
        """
        given, alone = self._each(items)
        found = self._for_each(given, rate_hz, long, self.predictions)
        return found[0] if alone else found

    @property
    def thresholds(self) -> dict[str, float]:
        """Of a model of several labels, the least probability of each class that an item is said to have: one half
        unless it was fine-tuned with `task.thresholds: validation`.

        Raises:
            ConfigError: the model is none of several labels.
        """
        task = self._task()
        if not isinstance(task, Multilabel):
            raise ConfigError(
                "thresholds are of models of several labels: fine-tune with finetune.task.name=multilabel"
            )
        logits_C = np.zeros(len(task.class_names)) if task.thresholds_C is None else task.thresholds_C
        return dict(zip(task.class_names, torch.from_numpy(logits_C).sigmoid().tolist(), strict=True))

    def outputs(self, items: Any, *, rate_hz: float | None = None, long: Long = "cut") -> Any:
        """The head's raw outputs: (n, C) float32, or of a head of every token a list of n arrays (T, C)."""
        given, alone = self._each(items)
        found = self._for_each(given, rate_hz, long, self._outputs)
        if alone:
            return found[0]
        return np.stack(found) if found and found[0].ndim == 1 else found

    def predictions(self, inputs: Inputs) -> list[Any]:
        """One prediction an item of a batch that `to_inputs` made, as `predict` gives them."""
        task, (outputs, lengths) = self._task(), self._run_head(inputs)
        return decode(task, task.predict(outputs, lengths))

    def _outputs(self, inputs: Inputs) -> Iterator[np.ndarray]:
        outputs, lengths = self._run_head(inputs)
        for row, one in enumerate(outputs.cpu()):
            yield (one[: int(lengths[row])] if one.ndim == 2 and lengths is not None else one).numpy()

    def _run_head(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        self._task()
        assert self.head is not None
        if inputs.owners is None:
            with inference(next(self.encoder.parameters())):
                encoded, lengths = self._encoded(inputs)
                return self.head(encoded, lengths).float(), lengths
        outputs = [self._run_head(part)[0] for part in inputs.split(self.batch_size)]
        if any(one.ndim != 2 for one in outputs):
            raise ConfigError('the head says something of every token, which windows do not average: take long="cut"')
        return inputs.merged(torch.cat(outputs)), None

    def _task(self) -> Task:
        if self.task is None or self.head is None:
            raise ConfigError("the model is an encoder without a head: take .encode(...), or load a fine-tuned model")
        return self.task

    # ------------------------------------------------------------------------------------------- inputs

    def _for_each(
        self, items: Iterable[Any], rate_hz: float | None, long: Long, compute: Callable[[Inputs], Iterable[Any]]
    ) -> list[Any]:
        """What a batch's items give, in the items' order; what is cut off is said in one line at the end."""
        found: dict[int, Any] = {}
        cuts, size = Cuts(), self.batch_limit()
        read = ordered_map(lambda item: self._modality.read_item(item, rate_hz), items)
        for window in size.windows(read, self.tokens_of):
            first = len(found)
            for numbers in size.by_length([self.tokens_of(one) for one in window]):
                try:
                    inputs = inputs_of(self._modality, [window[number] for number in numbers], self.about, long)
                except TooLong as error:
                    raise error.numbered([first + number for number in numbers]) from None
                cuts.add(inputs)
                found |= {first + number: one for number, one in zip(numbers, compute(inputs), strict=True)}
        if line := cuts.said():
            log(line)
        return [found[number] for number in range(len(found))]

    def batch_limit(self) -> BatchSize:
        """How much is computed at a time on the device that the model is on."""
        return BatchSize.on(next(self.encoder.parameters()).device, self.batch_size)

    def tokens_of(self, item: Any) -> int:
        """About how many tokens one of what `to_inputs` takes a list of becomes."""
        return self._modality.tokens_of(item, self.about)

    def to_inputs(self, items: Sequence[Any], rate_hz: float | None = None, long: Long = "cut") -> Inputs:
        """Several raw items as the encoder takes them: read, normalised or cut into tokens, side by side. Files are
        decoded in `read_item` of the modality's `raw_inputs`. `cut_off` of the result says what `long="cut"` leaves
        out."""
        return inputs_of(self._modality, [self._modality.read_item(item, rate_hz) for item in items], self.about, long)

    def _opened(self, path: Path) -> OwnFiles:
        if not path.exists():
            raise DataError(f"{path} is not there (looked in {Path.cwd()}): give a folder of items")
        return self._modality.open_files(path, {})

    def _items_in(self, path: Path) -> Iterator[Any]:
        """What ingest would find there.

        Raises:
            DataError: there is nothing, or an item cannot be read.
        """
        opened = self._opened(path)
        for item in opened.source.items(0):
            if item.refused:
                raise DataError(f"{item.address or item.key} cannot be used: {item.refused}")
            yield opened.read(item)

    def _each(self, given: Any) -> tuple[Iterable[Any], bool]:
        """(items, whether there is only one and it did not come in a list)."""
        if isinstance(given, Tensor):
            given = given.numpy(force=True)
        if self._modality.names_file(given) and (path := Path(given)).exists() and holds_several(self._modality, path):
            return self._items_in(path), False
        if self._modality.is_item(given):
            return [given], True
        if not isinstance(given, Iterable):
            raise DataError(
                f"{type(given).__name__} is not an item of this model's modality: give one, or a list of them"
            )
        return given, False


def holds_several(modality: Modality, path: Path) -> bool:
    """Whether a path leads to several items: a folder, an archive or a table."""
    return path.is_dir() or modality.holds_items(path)


def check_space(space: str) -> Space:
    """Raises ConfigError for what is no space."""
    if space not in ("plain", "search", "aligned"):
        raise ConfigError(f"there is no space {space!r}: give plain, search or aligned")
    return cast(Space, space)


def check_finite(features: np.ndarray, item: str) -> None:
    """Raises DataError for features that have no place: NaN and infinity spoil every search and mean they come into."""
    if not np.isfinite(features).all():
        raise DataError(
            f"{item} has features that are not finite. Either its values overflow (take dtype float32), or the weights "
            "are damaged (d2v verify says)"
        )


# ------------------------------------------------------------------------------------------------- load


def load(
    source: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    runtime: str = "torch",
    teacher: bool = False,
    tokenizer: str | Path | None = None,
    labels: str | Path | None = None,
    aligned: str | Path | None = None,
) -> Model:
    """A model, whoever wrote it.

    Args:
        source: a model folder (an encoder or a fine-tuned model), a checkpoint of the reference, a folder of
            transformers, a registered model such as `models:/d2v-vision@champion`, or the URL of one of the first
            three, which stays in this machine's cache (`d2v.data.url_cache`).
        device: `auto` takes a GPU if there is one.
        dtype: `float32`, `bfloat16` or `float16`; with `onnxruntime` also `int8`.
        runtime: what computes: `torch`, or on a CPU `onnxruntime`, which takes ten seconds to build.
        teacher: of a model folder: the teacher's encoder, not the student's.
        tokenizer: of a text encoder from elsewhere that brings none.
        labels: letters or class names of a head from elsewhere that brings none.
        aligned: folder of an aligned space that belongs to this very encoder, for `encode(..., space="aligned")`;
            `d2v.load_aligned` loads such a space with its own encoders.

    Raises:
        CheckpointError: there is no such model, it is damaged or unknown, or the aligned space is another encoder's.
        ConfigError: a device, dtype or runtime that is not there.

    Example:
        >>> import d2v  # doctest: +SKIP
        >>> d2v.load("data/06_models/text/pydocs/encoder").encode(["To be.", "Not to be."])  # doctest: +SKIP
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"there is no runtime {runtime!r}: give one of {', '.join(RUNTIMES)}")
    if runtime == "torch" and dtype == "int8":
        raise ConfigError("int8 is computed by onnxruntime: give runtime onnxruntime with it")
    if str(source).startswith(REGISTERED):
        source = registered_model(str(source))
    with fetched(str(source)) if is_url(source) else nullcontext(Path(source)) as local:
        model = _read(local, teacher, *(None if given is None else Path(given) for given in (tokenizer, labels)))
    if aligned is not None:
        model = with_space(model, Path(aligned))
    if runtime == "torch":
        return model.to(device, dtype)
    return model.to("cpu" if device == "auto" else device).in_onnxruntime(dtype)


def _read(path: Path, teacher: bool, tokenizer: Path | None, labels: Path | None) -> Model:
    if is_space(path):
        raise ConfigError(f"{path} is an aligned space, not a model: take d2v.load_aligned, or --aligned of d2v index")
    if path.is_dir() and _is_ours(path):
        return _from_folder(path, teacher)
    if not path.exists():
        raise CheckpointError(
            f"{path} is not there: give a model folder, a checkpoint, transformers' folder or models:/<name>@<alias>. "
            f"It was looked for in {Path.cwd()}"
        )
    if teacher:
        raise ConfigError(f"{path} is not a model folder: run `d2v import` first, then load its teacher")
    from d2v.interchange.importing import read_model  # all formats of others, which an own folder need not wait for

    return from_imported(read_model(path, tokenizer, labels), str(path))


def with_space(model: Model, folder: Path) -> Model:
    """A model that also encodes into an aligned space.

    Raises:
        CheckpointError: there is no such space, it is another encoder's, or it has no head for the model's modality.
    """
    space = read_space(folder)
    if model.modality not in space.heads:
        raise CheckpointError(f"{folder} aligns {', '.join(space.heads)}, not {model.modality}: give another space")
    return model.align(space.heads[model.modality])


def _is_ours(folder: Path) -> bool:
    try:
        return "modality" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        inside = [name for name in ("model", "encoder") if (folder / name / "config.json").is_file()]
        if inside:
            raise CheckpointError(f"{folder} holds a whole run: give {folder / inside[0]}") from None
        return False


def _from_folder(folder: Path, teacher: bool) -> Model:
    if "finetune" in read_config(folder) and not teacher:
        finetuned = load_finetuned(folder)
        return Model(finetuned.encoder, finetuned.about, finetuned.head, finetuned.task)
    return Model(*load_encoder(folder, teacher), search_space=None if teacher else SearchSpace.read(folder))


class _TaskBlock(Block):
    task: TaskConfig


def from_imported(model: ImportedModel, origin: str) -> Model:
    """What was read from elsewhere, as it would be loaded from its folder.

    Args:
        model: encoder and head.
        origin: of it, for messages.

    Raises:
        CheckpointError: the weights do not fit (all keys named).
    """
    source = model.source
    modality = registry.get(source.modality)
    encoder = build_fitting(modality, source.recipe, shapes_of(source.encoder), origin)
    load_state(encoder, source.encoder, origin)
    about = {"modality": source.modality, "recipe": source.recipe.model_dump(mode="json"), **source.about}
    if model.head is None:
        return Model(encoder, about)
    task = restore_task(parse(_TaskBlock, {"task": model.head.task}, at="finetune").task, model.head.about)
    head = task.make_head(encoder)
    load_state(head, model.head.state, origin)
    return Model(encoder, about, head, task)
