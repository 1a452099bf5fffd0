"""Reading a prepared folder of text: training batches, the probe set, and images of tokens.

Shape legend: B blocks, T tokens of a block, n items.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from d2v.data.batch import Batch, Inputs, SampleKeys
from d2v.data.prepared import UNLABELLED, PreparedFolder
from d2v.data.store import ShardReader
from d2v.errors import ConfigError
from d2v.modalities.base import ProbeSet
from d2v.modalities.text.config import TextEncoderConfig, TextTrainConfig
from d2v.modalities.text.preparation import IS_NEXT, PROBE_FOLDERS, labelled_folder
from d2v.modalities.text.tokenizer import PAD, SPECIALS, TextTokenizer
from d2v.modalities.text.tokenizer_files import TOKENIZER, own_tokenizer

WORD_FEATURES = 2048
IMAGE_COLUMNS = 8
CELL_PX = (92, 22)  # width, height of a token in a image
FONT_PX, SMALLEST_FONT_PX = 12, 6
WHITE, LINE, INK, QUIET, EMPTY = (255, 255, 255), (210, 210, 210), (20, 20, 20), (130, 130, 150), (238, 238, 238)


class TextData(PreparedFolder):
    """A prepared folder, opened for reading; safe to hand to worker processes.

    Args:
        folder: what prepare left.

    Raises:
        DataError: the folder is not a prepared one, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "blocks")
        self.folder = folder
        self.probe = {part: ShardReader(folder / name) for part, name in PROBE_FOLDERS.items()}
        self.labelled = {part: ShardReader(folder / labelled_folder(part)) for part in self.about.get("labelled", ())}

    @functools.cached_property
    def tokenizer(self) -> TextTokenizer:
        """What the ids mean."""
        return own_tokenizer(self.folder / TOKENIZER)

    def train_lengths(self, recipe: TextTrainConfig) -> None:
        """None: blocks are alike."""
        return

    def batch(self, keys: SampleKeys, recipe: TextTrainConfig) -> Batch:
        """Ids (B, T) int64 of whole blocks, the same in every epoch; short ones are filled up with `<pad>`.

        Raises:
            ConfigError: the encoder has fewer types or positions than the blocks need.
        """
        self._check_encoder(recipe)
        inputs = self._items(self.train, keys.indices)
        full = inputs.lengths is None or bool((inputs.lengths == inputs.values.shape[1]).all())
        ids, epochs = torch.from_numpy(keys.indices), torch.from_numpy(keys.epochs)
        targets = self._targets(inputs.values, keys.indices, recipe)
        return Batch(inputs.values, ids, epochs, keys.update, None if full else inputs.lengths, targets)

    def _targets(self, ids_BT: Tensor, rows: np.ndarray, recipe: TextTrainConfig) -> Tensor | None:
        """(B, T) what `mlm` is told beside the ids, if it asks: the number of each token's word in its block, from 1; 0
        for special tokens, but at `<s>` 1 where the second run of a pair follows the first."""
        objective = recipe.objective
        if objective.name != "mlm" or not (objective.whole_words or objective.next_sentence):
            return None
        words_BT = word_numbers(ids_BT, self._word_starts)
        if objective.next_sentence:
            if self.about["packing"] != "pairs":
                raise ConfigError(
                    f"next_sentence asks about pairs, and the prepared text is packed in {self.about['packing']}: set "
                    "prepare.packing=pairs and prepare again"
                )
            words_BT[:, 0] = torch.from_numpy(self.train.integers(IS_NEXT)[rows])
        return words_BT

    @functools.cached_property
    def _word_starts(self) -> Tensor:
        return torch.from_numpy(self.tokenizer.word_starts())

    def _items(self, shards: ShardReader, rows: np.ndarray) -> Inputs:
        """Stored rows with their true lengths."""
        if not len(rows):
            return Inputs(torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        stored = np.ascontiguousarray(shards.fixed("tokens", rows)).view(self.about["token_type"])
        values = torch.from_numpy(stored.astype(np.int64))
        return Inputs(values, (values != PAD).sum(1))

    def check_types(self, encoder: TextEncoderConfig) -> None:
        """Raises ConfigError if an encoder's table has fewer rows than the tokenizer has types."""
        types = int(self.about["vocab_size"])
        if types > encoder.vocab_size:
            raise ConfigError(
                f"the tokenizer of the prepared text has {types} types and the encoder's table "
                f"{encoder.vocab_size} rows: set train.encoder.vocab_size={types}"
            )

    def _check_encoder(self, recipe: TextTrainConfig) -> None:
        self.check_types(recipe.encoder)
        types, rows = int(self.about["vocab_size"]), recipe.encoder.vocab_size
        if recipe.objective.name == "mlm" and types == rows and self.tokenizer.mask_id != types - 1:
            raise ConfigError(
                f"mlm masks with the last row of the encoder's table, and with this tokenizer that is a word, as its "
                f"<mask> has the id {self.tokenizer.mask_id}: set train.encoder.vocab_size={types + 1}"
            )
        encoder, block = recipe.encoder, int(self.about["block_tokens"])
        longest = max(block, int(self.about["probe_max_tokens"]))
        if longest > encoder.max_tokens:
            raise ConfigError(
                f"the prepared text has blocks of {block} and probe items of up to {self.about['probe_max_tokens']} "
                f"tokens and the encoder {encoder.max_tokens} positions: set train.encoder.max_tokens={longest}, or "
                "prepare again with a smaller prepare.block_tokens or probe_max_tokens"
            )

    def probe_set(self, recipe: TextTrainConfig) -> ProbeSet:
        """The fixed probe items as `<s> sentence </s>`, pairs as `<s> A </s> </s> B </s>`; without classes, the first
        blocks of either part, for images and rank.

        Raises:
            ConfigError: the encoder has fewer types or positions than the items need.
        """
        self._check_encoder(recipe)
        shown, labels = {}, {}
        for part, blocks in (("train", self.train), ("test", self.test)):
            shards = self.probe[part] if self.class_names else blocks
            rows = np.arange(len(shards) if self.class_names else min(len(shards), 256))
            items = self._items(shards, rows)
            shown[part] = items.select(torch.arange(len(items)))
            known = shards.integers("label") if self.class_names else np.full(len(rows), UNLABELLED, dtype=np.int64)
            labels[part] = torch.from_numpy(known)
        return ProbeSet(shown["train"], labels["train"], shown["test"], labels["test"], self.class_names)


def word_numbers(ids_BT: Tensor, starts_W: Tensor) -> Tensor:
    """(B, T) int64 number of each token's word, from 1; 0 for special tokens. What follows one begins a word.

    Args:
        ids_BT: token ids.
        starts_W: which ids begin a word.
    """
    is_special_BT = ids_BT < len(SPECIALS)
    behind_special_BT = torch.nn.functional.pad(is_special_BT[:, :-1], (1, 0), value=True)
    begins_BT = (starts_W[ids_BT] | behind_special_BT) & ~is_special_BT
    return begins_BT.cumsum(dim=1).masked_fill(is_special_BT, 0)


def baseline_features(inputs: Inputs) -> Tensor:
    """A bag of words (n, 2048): square roots of how often each token occurs, of length 1; special ones do not count.

    Tokens share a feature with those 2048 ids away: in BPE the first ids are the frequent tokens, which so stay apart.
    """
    ids = inputs.values
    counts = (ids >= len(SPECIALS)).float()
    if inputs.lengths is not None:
        counts *= torch.arange(ids.shape[1], device=ids.device) < inputs.lengths[:, None]
    bags = torch.zeros(len(ids), WORD_FEATURES, device=ids.device).scatter_add_(1, ids % WORD_FEATURES, counts)
    return torch.nn.functional.normalize(bags.sqrt(), dim=1)


def to_texts(inputs: Inputs, data: TextData) -> list[str]:
    """The items as people read them."""
    return [data.tokenizer.decode(ids) for ids in _known_ids(inputs)]


# ------------------------------------------------------------------------------------------- images


def image_grid(tokens: int) -> tuple[int, int]:
    """Rows and columns of the cells that tokens are written into, row by row; the last row may have cells to spare."""
    return -(-tokens // IMAGE_COLUMNS), IMAGE_COLUMNS


def to_images(inputs: Inputs, data: TextData) -> np.ndarray:
    """Tokens written into the cells of `image_grid`, padding left empty: (n, height, width, 3) uint8."""
    rows, columns = image_grid(inputs.values.shape[1])
    height, width = rows * CELL_PX[1], columns * CELL_PX[0]
    images = [_image(data.tokenizer.pieces(ids), (width, height)) for ids in _known_ids(inputs)]
    return np.stack(images) if images else np.zeros((0, height, width, 3), np.uint8)


def _known_ids(inputs: Inputs) -> list[list[int]]:
    """Ids of each item without padding."""
    ids = inputs.values.cpu()
    lengths = [ids.shape[1]] * len(ids) if inputs.lengths is None else inputs.lengths.tolist()
    return [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]


def _image(pieces: list[str], size: tuple[int, int]) -> np.ndarray:
    image = Image.new("RGB", size, EMPTY)
    draw = ImageDraw.Draw(image)
    width, height = CELL_PX
    for position, piece in enumerate(pieces):
        row, column = divmod(position, IMAGE_COLUMNS)
        left, top = column * width, row * height
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=WHITE, outline=LINE)
        ink = QUIET if piece in SPECIALS else INK
        shown, font = _fitted(piece, width - 8)
        draw.text((left + 4, top + height // 2), shown, fill=ink, font=font, anchor="lm")
    return np.asarray(image)


def _fitted(piece: str, room_px: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The whole piece in letters as large as fit; cut if even the smallest do not."""
    for size_px in range(FONT_PX, SMALLEST_FONT_PX - 1, -1):
        font = _font(size_px)
        if font.getlength(piece) <= room_px:
            return piece, font
    ends = range(len(piece), -1, -1)
    return next(f"{piece[:end]}…" for end in ends if font.getlength(f"{piece[:end]}…") <= room_px), font


@functools.lru_cache(maxsize=FONT_PX)
def _font(size_px: int) -> ImageFont.FreeTypeFont:
    import matplotlib  # imported late: 0.2 s, only to find its fonts

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
    return ImageFont.truetype(str(path), size_px)
