"""Prefix beam search for CTC with a language model of words.

A prefix is the text written so far. Its probability is the sum over all alignments that spell it: those that end with
a blank and those that end with its last symbol are kept apart, as only the former may repeat the symbol (Hannun et
al., arXiv 1408.2873, algorithm 1). One step takes all prefixes and all symbols at once. A second "|" in a row and one
at the start write nothing, so alignments with them belong to the prefix without.

Shapes: T frames, C symbols of the vocabulary, P prefixes in the beam, K symbols that may come next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2v.errors import ConfigError
from d2v.finetuning.ctc_vocabulary import BLANK, BOUNDARY, CtcVocabulary
from d2v.finetuning.decoding.interface import Lengths, WordModel, checked_lengths
from d2v.finetuning.decoding.lexicon import NOWHERE, ROOT, Lexicon

LEAST_LOG_P = -1e4


@dataclass(frozen=True)
class Hypothesis:
    """One text for an utterance.

    Attributes:
        text: words with single spaces between.
        score: ln p of the text under CTC, plus `language`.
        language: lm_weight * ln p of the words, plus the bonuses of the words; 0 without a language model and bonus.
    """

    text: str
    score: float
    language: float


@dataclass(frozen=True)
class BeamSettings:
    """Width of the search, and what a word is worth. All scores are natural logarithms.

    flashlight and KenLM count a language model in base 10: their weight, divided by 2.303, is `lm_weight` here.

    Attributes:
        width: prefixes kept after every frame.
        lm_weight: of the language model's ln p.
        word_bonus: added for each word; positive values make up for the language model's taste for few words.
        unknown_score: added to ln p of `<unk>` for a word that the model does not know, before the weight.
        prefix_margin: prefixes worse than the best by more than this are dropped; None keeps them.
        symbol_margin: symbols less likely than the frame's likeliest symbol by more than this are not tried.
    """

    width: int = 50
    lm_weight: float = 1.0
    word_bonus: float = 0.0
    unknown_score: float = -10.0
    prefix_margin: float | None = 25.0
    symbol_margin: float | None = 12.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ConfigError(f"The beam's width is {self.width}, and a search needs one prefix at least: set it to 50")


class BeamDecoder:
    """Prefix beam search. With a width that keeps every prefix and no margins its scores are exact.

    Args:
        vocabulary: what the symbols mean. The specials are never written.
        settings: see `BeamSettings`.
        language_model: asked at the end of each word and of the sentence; its words are in upper case, as the symbols.
        lexicon: if given, only its words are written.

    Example:
        >>> decoder = BeamDecoder(CtcVocabulary(("A", "B")))
        >>> decoder.decode(torch.nn.functional.one_hot(torch.tensor([[5, 5, 0, 6]]), 7).float().log_softmax(-1))
        ['AB']
    """

    def __init__(
        self,
        vocabulary: CtcVocabulary,
        settings: BeamSettings | None = None,
        language_model: WordModel | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        self.vocabulary, self.settings = vocabulary, settings or BeamSettings()
        self.language_model, self.lexicon = language_model, lexicon

    def decode(self, log_probs_BTC: Tensor, lengths: Lengths = None) -> list[str]:
        """The best text of each utterance, see `Decoder`."""
        frames = checked_lengths(log_probs_BTC, lengths, len(self.vocabulary))
        return [self.search(log_probs_BTC[row, :length])[0].text for row, length in enumerate(frames)]

    def search(self, log_probs_TC: Tensor) -> list[Hypothesis]:
        """The texts that are left in the beam after the last frame of one utterance, the best first."""
        search = _Search(self, len(log_probs_TC))
        # In double precision long sums lose nothing; a frame that is sure of a special must not end every prefix.
        for log_p_C in log_probs_TC.detach().to("cpu", torch.float64).clamp_min(LEAST_LOG_P).numpy():
            search.step(log_p_C)
        return search.finished()


@dataclass(frozen=True)
class _Beam:
    """The prefixes that are followed: their nodes, last symbols ("|" for the empty text), ln p of the alignments that
    end with a blank and with the last symbol, language scores, and states in the lexicon."""

    node_P: np.ndarray
    last_P: np.ndarray
    blank_P: np.ndarray
    symbol_P: np.ndarray
    language_P: np.ndarray
    lexicon_P: np.ndarray

    @property
    def total_P(self) -> np.ndarray:
        return np.logaddexp(self.blank_P, self.symbol_P)


class _Search:
    """The search of one utterance."""

    def __init__(self, decoder: BeamDecoder, frames: int) -> None:
        self.settings, self.lexicon = decoder.settings, decoder.lexicon
        self.tree = _Tree(decoder, frames)
        nothing, number = np.zeros(1), np.zeros(1, np.int64)
        self.beam = _Beam(number, number + BOUNDARY, nothing, nothing - np.inf, nothing, number + ROOT)

    def step(self, log_p_C: np.ndarray) -> None:
        """Take in one frame."""
        symbols_K = self._symbols(log_p_C)
        stayed, longer_PK = self._stayed(log_p_C), self._longer(log_p_C, symbols_K)
        self._merge(stayed, longer_PK, symbols_K)
        language_PK = self._language(symbols_K)
        scores = np.concatenate((stayed.total_P + stayed.language_P, (longer_PK + language_PK).ravel()))
        chosen = self._best(scores)
        stay, grow = chosen[chosen < len(stayed.node_P)], chosen[chosen >= len(stayed.node_P)] - len(stayed.node_P)
        row, column = np.divmod(grow, len(symbols_K))
        symbol = symbols_K[column]
        states = self.beam.lexicon_P[row]
        if self.lexicon is not None:
            states = self.lexicon.next_SC[states, symbol]
        self.beam = _Beam(
            np.concatenate((stayed.node_P[stay], self.tree.grown(self.beam.node_P[row], symbol))),
            np.concatenate((stayed.last_P[stay], symbol)),
            np.concatenate((stayed.blank_P[stay], np.full(len(row), -np.inf))),
            np.concatenate((stayed.symbol_P[stay], longer_PK[row, column])),
            np.concatenate((stayed.language_P[stay], language_PK[row, column])),
            np.concatenate((stayed.lexicon_P[stay], states)),
        )

    def _symbols(self, log_p_C: np.ndarray) -> np.ndarray:
        """The symbols (K,) that are worth trying at a frame; always one at least."""
        margin = self.settings.symbol_margin
        least = -np.inf if margin is None else log_p_C[[BLANK, *range(BOUNDARY, len(log_p_C))]].max() - margin
        found = np.nonzero(log_p_C[BOUNDARY:] >= least)[0] + BOUNDARY
        return found if len(found) else np.array([BOUNDARY])

    def _stayed(self, log_p_C: np.ndarray) -> _Beam:
        """Every prefix as it is, after a blank or its last symbol once more. After "|", another one changes nothing
        even if a blank stands between."""
        beam = self.beam
        again_P = np.where(beam.last_P == BOUNDARY, beam.total_P, beam.symbol_P)
        blank_P, symbol_P = beam.total_P + log_p_C[BLANK], again_P + log_p_C[beam.last_P]
        return _Beam(beam.node_P, beam.last_P, blank_P, symbol_P, beam.language_P, beam.lexicon_P)

    def _longer(self, log_p_C: np.ndarray, symbols_K: np.ndarray) -> np.ndarray:
        """ln p (P, K) of every prefix with one more symbol: its own last one only after a blank, "|" only after a
        symbol, and what the lexicon allows."""
        beam = self.beam
        repeats_PK = beam.last_P[:, None] == symbols_K
        before_PK = np.where(repeats_PK, beam.blank_P[:, None], beam.total_P[:, None])
        before_PK[repeats_PK & (symbols_K == BOUNDARY)] = -np.inf
        if self.lexicon is not None:
            before_PK[self.lexicon.next_SC[beam.lexicon_P[:, None], symbols_K] == NOWHERE] = -np.inf
        return before_PK + log_p_C[symbols_K]

    def _merge(self, stayed: _Beam, longer_PK: np.ndarray, symbols_K: np.ndarray) -> None:
        """Move the alignments by which one prefix of the beam becomes another one to the latter."""
        column_P = np.searchsorted(symbols_K, stayed.last_P).clip(max=len(symbols_K) - 1)
        parent_P = self.tree.parents_in(stayed.node_P)
        (child,) = np.nonzero((parent_P != NOWHERE) & (symbols_K[column_P] == stayed.last_P))
        parent, column = parent_P[child], column_P[child]
        stayed.symbol_P[child] = np.logaddexp(stayed.symbol_P[child], longer_PK[parent, column])
        longer_PK[parent, column] = -np.inf

    def _language(self, symbols_K: np.ndarray) -> np.ndarray:
        """Language scores (P, K) of every prefix with one more symbol; they change where a word ends."""
        language_PK = np.repeat(self.beam.language_P[:, None], len(symbols_K), axis=1)
        if symbols_K[0] == BOUNDARY:
            language_PK[:, 0] += self.tree.word_scores(self.beam.node_P)
        return language_PK

    def _best(self, scores: np.ndarray) -> np.ndarray:
        """Indices of the best scores, as many as the beam is wide at most, in their order."""
        margin, width = self.settings.prefix_margin, self.settings.width
        least = -np.inf if margin is None else scores.max() - margin
        (good,) = np.nonzero((scores > -np.inf) & (scores >= least))
        if len(good) > width:
            good = np.sort(good[np.argpartition(-scores[good], width)[:width]])
        return good

    def finished(self) -> list[Hypothesis]:
        """The texts of the beam, their last words and sentences ended. A text with "|" after its last word and one
        without are the same. Without a single text of whole words, unfinished last words are left out."""
        beam, tree = self.beam, self.tree
        whole_P = np.ones(len(beam.node_P), bool)
        if self.lexicon is not None:
            whole_P = (self.lexicon.next_SC[beam.lexicon_P, BOUNDARY] != NOWHERE) | (beam.lexicon_P == ROOT)
        cut = not whole_P.any()
        ctc: dict[str, float] = {}
        language: dict[str, float] = {}
        for row in np.nonzero(whole_P | cut)[0]:
            text, ended = tree.text(int(beam.node_P[row]), cut)
            ctc[text] = float(np.logaddexp(ctc.get(text, -np.inf), beam.total_P[row]))
            language[text] = float(beam.language_P[row]) + ended
        found = [Hypothesis(text, ctc[text] + language[text], language[text]) for text in ctc]
        return sorted(found, key=lambda one: (-one.score, one.text))


class _Tree:
    """All prefixes that were ever in the beam, each once, and what the language model says of them.

    Attributes:
        parent: the node without the last symbol.
        word: the unfinished last word of each node.
        began: the node in which that word began: the empty text, or a text that ends with "|".
        states: of the language model before that word.
        ended: score and state once that word is finished, of the nodes for which that was asked.
    """

    def __init__(self, decoder: BeamDecoder, frames: int) -> None:
        self.symbols, self.settings, self.model = decoder.vocabulary.symbols, decoder.settings, decoder.language_model
        self.children: dict[tuple[int, int], int] = {}
        self.word: list[str] = [""]
        self.began: list[int] = [ROOT]
        self.states: list[Any] = [self.model.start() if self.model else None]
        self.ended: dict[int, tuple[float, Any]] = {}
        # One more than there can be nodes: the last stands for the parent of the empty text.
        self.parent = np.full(frames * self.settings.width + 2, -1)
        self.index = np.full(len(self.parent), NOWHERE)

    def grown(self, node_P: np.ndarray, symbol_P: np.ndarray) -> np.ndarray:
        """The nodes of prefixes with one symbol more."""
        return np.array([self._child(*pair) for pair in zip(node_P.tolist(), symbol_P.tolist(), strict=True)], np.int64)

    def _child(self, node: int, symbol: int) -> int:
        known = self.children.get((node, symbol))
        if known is not None:
            return known
        child = self.children[node, symbol] = len(self.word)
        self.parent[child] = node
        ends_word = symbol == BOUNDARY
        self.word.append("" if ends_word else self.word[node] + self.symbols[symbol])
        self.began.append(child if ends_word else self.began[node])
        self.states.append(self._end_of_word(node)[1] if ends_word else self.states[node])
        return child

    def parents_in(self, node_P: np.ndarray) -> np.ndarray:
        """The index in the beam of each node's parent, NOWHERE if it is not there."""
        self.index[node_P] = np.arange(len(node_P))
        found_P = self.index[self.parent[node_P]]
        self.index[node_P] = NOWHERE
        return found_P

    def word_scores(self, node_P: np.ndarray) -> np.ndarray:
        """The addition to each prefix's language score from the end of its last word."""
        return np.array([self._end_of_word(node)[0] for node in node_P.tolist()])

    def _end_of_word(self, node: int) -> tuple[float, Any]:
        """The score of a node's last word, and the model's state after it."""
        if node not in self.ended:
            word, score, state = self.word[node], self.settings.word_bonus, None
            if not word:
                score, state = 0.0, self.states[node]
            elif self.model:
                log_p, state = self.model.score(self.states[node], word)
                unknown = 0.0 if self.model.knows(word) else self.settings.unknown_score
                score += self.settings.lm_weight * (log_p + unknown)
            self.ended[node] = score, state
        return self.ended[node]

    def text(self, node: int, cut: bool) -> tuple[str, float]:
        """A node's text, and what the ends of its last word and of the sentence add to its language score; `cut`
        leaves the unfinished word out."""
        score, state = (0.0, self.states[node]) if cut else self._end_of_word(node)
        if self.model:
            score += self.settings.lm_weight * self.model.end(state)
        words = [] if cut else [self.word[node]]
        while (began := self.began[node]) != ROOT:
            node = int(self.parent[began])
            words.append(self.word[node])
        return " ".join(word for word in reversed(words) if word), score
