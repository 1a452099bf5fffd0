"""Modified Kneser-Ney n-gram models from text, interpolated, as KenLM's lmplz estimates them.

Source: Chen and Goodman, "An empirical study of smoothing techniques for language modeling" (TR-10-98), section 3.2
and equation 26; Heafield et al., "Scalable modified Kneser-Ney language model estimation" (ACL 2013), section 3.

Shapes: P positions in the text (every word with the <s> and </s> of its sentence), G distinct n-grams of one order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from d2v.errors import ConfigError, DataError
from d2v.models.ngram import END, LN_10, NEVER_LOG10, START, UNKNOWN, NGramModel, Order

MAX_ORDER = 5
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # lmplz's --discount_fallback, for text too small to estimate them


@dataclass(frozen=True)
class _Counted:
    """The distinct n-grams of one order.

    `keys_G`, ascending, are context * base + last word; `context_G` and `suffix_G` number the n-gram without its last
    and without its first word in the order below; `count_G` is how often it stands in the text, `is_first_G` whether
    it begins with <s>; `number_P` names the n-gram that ends at each position of the text, -1 where there is none.
    """

    keys_G: np.ndarray
    context_G: np.ndarray
    suffix_G: np.ndarray
    count_G: np.ndarray
    is_first_G: np.ndarray
    number_P: np.ndarray


def estimate(sentences: Iterable[str], order: int, min_count: int = 1) -> NGramModel:
    """A modified Kneser-Ney model of sentences. Time and memory grow with the text, which is held as a whole (2.4
    million words, order 3: 9 s and 1 GB): for 10^8 words take KenLM's lmplz.

    Args:
        sentences: words parted by spaces; empty ones are left out.
        order: n of the longest n-grams, 1 to 5.
        min_count: words that stand less often in the text are read as `<unk>`.

    Raises:
        ConfigError: `order` is not 1 to 5.
        DataError: there are no words.

    Example:
        >>> model = estimate(["the cat sat", "the cat ran"], order=3)
        >>> state = model.score(model.start(), "the")[1]
        >>> model.score(state, "cat")[0] > model.score(state, "sat")[0]
        True
    """
    if not 1 <= order <= MAX_ORDER:
        raise ConfigError(f"The order of a language model is 1 to {MAX_ORDER}, not {order}: set it to 3")
    words, ids_P, position_P = _numbered(sentences, min_count)
    base = len(words) + 1
    counted = [_unigrams(ids_P, len(words))]
    for n in range(2, order + 1):
        counted.append(_longer(counted[-1], ids_P, position_P >= n - 1, base))
    return NGramModel(words, _orders(counted, len(words)))


def _numbered(sentences: Iterable[str], min_count: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The vocabulary (<unk>, <s>, </s>, then the words, the most frequent first), the word at each position, and how
    many positions of its sentence stand before it."""
    split = [words for words in (sentence.split() for sentence in sentences) if words]
    counts = Counter(word for words in split for word in words)
    for special in (START, END, UNKNOWN):
        counts.pop(special, None)
    if not counts:
        raise DataError("A language model needs text: give it transcripts or sentences with words")
    kept = sorted((w for w, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
    vocabulary = [UNKNOWN, START, END, *kept]
    ids = {word: number for number, word in enumerate(vocabulary) if number == 0 or number > 2}
    lengths = np.array([len(words) + 2 for words in split])
    ids_P = np.fromiter((i for words in split for i in (1, *(ids.get(w, 0) for w in words), 2)), np.int64)
    position_P = np.arange(len(ids_P)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return vocabulary, ids_P, position_P


def _unigrams(ids_P: np.ndarray, size: int) -> _Counted:
    """All words, <unk> too, which may stand nowhere. <s> is never foreseen: it counts as absent."""
    count_G, number_G = np.bincount(ids_P, minlength=size), np.arange(size)
    nothing_G = np.zeros(size, np.int64)
    is_start_G = number_G == 1
    count_G[is_start_G] = 0
    return _Counted(number_G, nothing_G, nothing_G, count_G, is_start_G, ids_P)


def _longer(below: _Counted, ids_P: np.ndarray, exists_P: np.ndarray, base: int) -> _Counted:
    """The n-grams that are one word longer than those of `below`."""
    (ends,) = np.nonzero(exists_P)
    keys_G, first_G, which, count_G = np.unique(
        below.number_P[ends - 1] * base + ids_P[ends], return_index=True, return_inverse=True, return_counts=True
    )
    number_P = np.full(len(ids_P), -1)
    number_P[ends] = which
    context_G = keys_G // base
    return _Counted(keys_G, context_G, below.number_P[ends[first_G]], count_G, below.is_first_G[context_G], number_P)


def _orders(counted: list[_Counted], size: int) -> list[Order]:
    """Probabilities p(w | c) = (a(cw) - D(a(cw))) / sum_v a(cv) + backoff(c) p(w | c without its first word), where a
    is the adjusted count, D the discount, and backoff(c) what the discounts leave over."""
    longest = len(counted)
    log_p: list[np.ndarray] = []
    backoff: list[np.ndarray] = []
    lower_G = np.full(size, 1.0 / (size - 1))  # uniform over all words but <s>
    for n, ngrams in enumerate(counted, 1):
        adjusted_G = _adjusted(ngrams, counted[n]) if n < longest else ngrams.count_G
        discount_G = _discounts(adjusted_G)[np.minimum(adjusted_G, 3)]
        contexts = len(counted[n - 2].keys_G) if n > 1 else 1
        total = np.bincount(ngrams.context_G, adjusted_G, contexts)
        left_over = np.bincount(ngrams.context_G, discount_G, contexts)
        # A context that only ends sentences is never extended: all its weight goes to the shorter context.
        weight = np.where(total > 0, left_over / np.maximum(total, 1), 1.0)
        own_G = (adjusted_G - discount_G) / total[ngrams.context_G]
        p_G = own_G + weight[ngrams.context_G] * (lower_G[ngrams.suffix_G] if n > 1 else lower_G)
        if n > 1:
            backoff.append(np.log(weight))
        lower_G = p_G
        log_p.append(np.log(p_G))
    log_p[0][counted[0].is_first_G] = NEVER_LOG10 * LN_10
    backoff.append(np.zeros(len(counted[-1].keys_G)))
    return [
        Order(dict(zip(c.keys_G.tolist(), range(len(c.keys_G)), strict=True)), p.tolist(), b.tolist())
        for c, p, b in zip(counted, log_p, backoff, strict=True)
    ]


def _adjusted(ngrams: _Counted, longer: _Counted) -> np.ndarray:
    """Adjusted counts (G,): the number of different words before the n-gram. Nothing stands before <s>, so n-grams
    that begin with it keep their own counts."""
    continuations_G = np.bincount(longer.suffix_G, minlength=len(ngrams.keys_G))
    return np.where(ngrams.is_first_G, ngrams.count_G, continuations_G)


def _discounts(adjusted_G: np.ndarray) -> np.ndarray:
    """D(0) to D(3), the last for all counts from 3 up: D(k) = k - (k + 1) Y t_{k+1} / t_k with Y = t_1 / (t_1 + 2 t_2),
    where t_k is the number of n-grams with adjusted count k. Text too small for that gets lmplz's stand-ins."""
    t = np.bincount(np.minimum(adjusted_G, 5), minlength=6)[:5].astype(np.float64)
    if (t[1:4] > 0).all():
        k = np.arange(1, 4)
        found = k - (k + 1) * t[1] / (t[1] + 2 * t[2]) * t[2:5] / t[1:4]
        if ((found >= 0) & (found <= k)).all():
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK_DISCOUNTS])
