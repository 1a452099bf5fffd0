"""Sentences and pairs with their classes or scores, for fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from d2v.data.batch import Inputs, SampleKeys
from d2v.data.store import ShardReader
from d2v.errors import ConfigError, DataError
from d2v.modalities.base import LabelledSplit
from d2v.modalities.text.config import TextFinetuneConfig, TextTrainConfig
from d2v.modalities.text.data import TextData
from d2v.modalities.text.raw_inputs import pad
from d2v.modalities.text.tokenizer import TextTokenizer


def labelled(data: TextData, config: TextFinetuneConfig, encoder: TextTrainConfig) -> Mapping[str, LabelledSplit]:
    """All labelled items of "train" and "test", of "val" if there are some, and of MNLI those of "mismatched" genres.

    Raises:
        DataError: there are none, or shards are missing.
        ConfigError: the encoder has fewer types or positions than the items need.
    """
    counts = {part: len(shards) for part, shards in data.labelled.items()}
    if not counts.get("train"):
        raise DataError(
            f"{data.folder} holds no labelled items: give a corpus with labels, or leave text.prepare.probe at auto "
            "and prepare again"
        )
    if counts != data.about["labelled"]:
        raise DataError(f"{data.folder} lacks shards of labelled items: remove it and prepare again")
    data.check_types(encoder.encoder)
    longest, positions = int(data.about["labelled_tokens"]), encoder.encoder.max_tokens
    if longest > positions:
        raise ConfigError(
            f"the labelled items have up to {longest} tokens and the encoder {positions} positions: set "
            f"text.prepare.labelled_max_tokens={positions} and prepare again"
        )
    return {part: LabelledTexts(data, shards) for part, shards in data.labelled.items()}


def check_fits(data: TextData, about: Mapping[str, Any]) -> None:
    """Raises ConfigError if an encoder was trained with another tokenizer than the text was prepared with, for then
    its ids stand for other words.

    Args:
        data: the prepared folder.
        about: the encoder's config.json; one without a tokenizer says nothing.
    """
    its = about.get("tokenizer")
    if its is None or TextTokenizer.from_json(its).to_json() == data.tokenizer.to_json():
        return
    raise ConfigError(
        f"the text was prepared with another tokenizer (text.prepare.tokenizer={data.about['tokenizer']}, "
        f"{data.about['vocab_size']} types) than the encoder was trained with ({about.get('vocab_size')} types), so "
        "its ids stand for other words: set text.prepare.tokenizer to the folder of the encoder and prepare again"
    )


@dataclass(frozen=True)
class LabelledTexts:
    """One part.

    Attributes:
        data: the prepared folder.
        shards: the part's.
    """

    data: TextData
    shards: ShardReader
    seconds = None

    @property
    def where(self) -> tuple[str, np.ndarray]:
        """The part's folder, and all its rows."""
        return self.shards.folder.name, np.arange(len(self.shards))

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) class ids."""
        return self.shards.integers("label")

    @cached_property
    def scores(self) -> np.ndarray:
        """(n,) scores such as STS-B's 0 to 5; NaN without one."""
        return np.array(list(self.shards.column("score")), dtype=np.float64)

    @property
    def texts(self) -> Sequence[str | None]:
        """None for each item: text is what is read, not what is to be said of it."""
        return [None] * len(self.shards)

    def inputs(self, rows: np.ndarray) -> Inputs:
        """`<s> A </s>` and `<s> A </s> </s> B </s>`, filled up with `<pad>` to the longest of these items."""
        kind = self.data.about["token_type"]
        return pad([self.shards.view("tokens", int(row)).view(kind) for row in rows])

    def augmented(self, keys: SampleKeys) -> Inputs:
        """The items as they are."""
        return self.inputs(keys.indices)
