"""Which tokens a masked language model names, by BERT's and RoBERTa's rules.

Shape legend: R rows, T tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from d2v.data.random import fold_in, uniform
from d2v.models.masking import is_padding


def roberta_selection(keys_R: Tensor, tokens: int, lengths: Tensor | None, share: float) -> Tensor:
    """(R, T) bool: floor(share x n + u) of the n tokens of a row, special ones as others; at least one, not all."""
    n_R = torch.full_like(keys_R, tokens) if lengths is None else lengths
    number_R = (share * n_R.double() + uniform(fold_in(keys_R, 0), 1)[:, 0].double()).long()
    number_R = torch.minimum(number_R.clamp(min=1), n_R - 1)
    return _best(uniform(fold_in(keys_R, 1), tokens), ~is_padding(n_R, tokens), number_R)


def bert_number(lengths: Tensor, share: float, most: int | None) -> Tensor:
    """(R,) round(share x n), at least one and at most `most`; a half is rounded to the even number."""
    number_R = torch.round(share * lengths.double()).long().clamp(min=1)
    return number_R if most is None else number_R.clamp(max=most)


def bert_selection(
    keys_R: Tensor, words_RT: Tensor, lengths: Tensor | None, share: float, most: int | None, whole_words: bool
) -> Tensor:
    """(R, T) bool: `bert_number` of the tokens that belong to a word.

    Args:
        keys_R: of the rows.
        words_RT: number of each token's word; 0 for special tokens and padding.
        lengths: (R,) tokens that are not padding.
        share, most: see `bert_number`.
        whole_words: select all tokens of a word or none. Words that do not fit into the number are passed over, so a
            row may have fewer tokens; a first word that alone is too long is selected still.
    """
    tokens = words_RT.shape[1]
    n_R = torch.full_like(keys_R, tokens) if lengths is None else lengths
    number_R = bert_number(n_R, share, most)
    if not whole_words:
        return _best(uniform(keys_R, tokens), words_RT > 0, number_R)
    rows = zip(words_RT.cpu().numpy(), number_R.tolist(), fold_in(keys_R, 2).tolist(), strict=True)
    chosen = [_whole_words(words_T, number, key) for words_T, number, key in rows]
    return torch.from_numpy(np.stack(chosen)).to(words_RT.device)


def _best(score_RT: Tensor, may_be_RT: Tensor, number_R: Tensor) -> Tensor:
    """The `number_R` of highest score among those that may be selected, or all of these."""
    order_RT = score_RT.masked_fill(~may_be_RT, -1.0).argsort(dim=1, descending=True)
    number_R = torch.minimum(number_R, may_be_RT.sum(dim=1))
    return torch.zeros_like(may_be_RT).scatter_(1, order_RT, ~is_padding(number_R, score_RT.shape[1]))


def _whole_words(words_T: np.ndarray, number: int, key: int) -> np.ndarray:
    random = np.random.Generator(np.random.Philox(key % 2**64))
    sizes = np.bincount(words_T)
    taken: list[int] = []
    total = 0
    for word in random.permutation(np.arange(1, len(sizes))):
        if total + sizes[word] <= number or not taken:
            taken.append(int(word))
            total += int(sizes[word])
    return np.isin(words_T, taken)
