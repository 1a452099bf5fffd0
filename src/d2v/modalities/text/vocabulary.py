"""The words that a masked language model chooses from."""

from __future__ import annotations

from torch import Tensor

from d2v.modalities.base import Vocabulary
from d2v.modalities.text.config import TextTrainConfig
from d2v.modalities.text.encoder import TokenEmbedding
from d2v.modalities.text.tokenizer import SPECIALS
from d2v.models.encoder import Encoder


def vocabulary(recipe: TextTrainConfig) -> Vocabulary:
    """All rows of the encoder's table. The last is <mask>: the tokenizer's own where the table is as large as its
    vocabulary, and else one that no text uses."""
    size = recipe.encoder.vocab_size
    return Vocabulary(size, first_word=len(SPECIALS), mask_id=size - 1, table=word_table)


def word_table(encoder: Encoder) -> Tensor:
    """(W, D) the vectors of all words."""
    local = encoder.stem.local
    if not isinstance(local, TokenEmbedding):
        raise TypeError(f"words are embedded by TokenEmbedding, not by {type(local).__name__}")
    return local.words.weight
