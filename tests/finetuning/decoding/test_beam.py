"""Greedy and beam search against the sum over all alignments, one by one, on problems small enough for that.

Shapes: B utterances, T frames, C symbols.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from d2v.errors import CollapseError, ConfigError, DataError
from d2v.finetuning.ctc_vocabulary import BLANK, BOUNDARY, FAIRSEQ_CHARACTERS, CtcVocabulary
from d2v.finetuning.decoding.beam import BeamDecoder, BeamSettings
from d2v.finetuning.decoding.greedy import GreedyDecoder
from d2v.finetuning.decoding.lexicon import Lexicon
from d2v.models.kneser_ney import estimate
from d2v.models.ngram import NGramModel

AB = CtcVocabulary(("A", "B"))
WRITTEN = (BLANK, BOUNDARY, 5, 6)
EXACT = {"width": 10_000, "prefix_margin": None, "symbol_margin": None}


def random_log_probs(frames: int, seed: int, vocabulary: CtcVocabulary = AB) -> Tensor:
    """(T, C), far from certain; the specials are likely too, and must not be written."""
    generator = torch.Generator().manual_seed(seed)
    return (1.5 * torch.randn(frames, len(vocabulary), generator=generator, dtype=torch.float64)).log_softmax(-1)


def merged(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != BLANK)


def all_texts(log_p_TC: Tensor) -> dict[str, float]:
    """ln p of every text: the sum over all alignments that spell it."""
    found: dict[str, float] = defaultdict(lambda: -math.inf)
    table = log_p_TC.numpy()
    for path in itertools.product(WRITTEN, repeat=len(table)):
        text = AB.decode(merged(path))
        found[text] = np.logaddexp(found[text], table[np.arange(len(table)), path].sum())
    return found


def language(model: NGramModel, text: str, settings: BeamSettings) -> float:
    """What a text's words add to its score, word by word."""
    unknown = sum(not model.knows(word) for word in text.split())
    words = len(text.split())
    return settings.lm_weight * (model.log_prob(text) + unknown * settings.unknown_score) + words * settings.word_bonus


@pytest.mark.parametrize("seed", range(4))
def test_unlimited_beam_is_the_sum_over_all_alignments(seed: int) -> None:
    log_p_TC = random_log_probs(6, seed)
    truth = all_texts(log_p_TC)
    found = BeamDecoder(AB, BeamSettings(**EXACT)).search(log_p_TC)
    assert {one.text for one in found} == set(truth)
    np.testing.assert_allclose([one.score for one in found], [truth[one.text] for one in found], atol=1e-10)
    assert found[0].text == max(truth, key=truth.__getitem__)


@pytest.mark.parametrize("seed", range(4))
def test_unlimited_beam_with_a_language_model_is_exact(seed: int) -> None:
    log_p_TC = random_log_probs(6, seed)
    model = estimate(["A B", "AB A", "B AB A", "A"], order=3)
    settings = BeamSettings(**EXACT, lm_weight=0.7, word_bonus=0.4, unknown_score=-1.5)
    truth = {text: log_p + language(model, text, settings) for text, log_p in all_texts(log_p_TC).items()}
    found = BeamDecoder(AB, settings, model).search(log_p_TC)
    assert {one.text for one in found} == set(truth)
    np.testing.assert_allclose([one.score for one in found], [truth[one.text] for one in found], atol=1e-10)
    np.testing.assert_allclose(
        [one.language for one in found], [language(model, one.text, settings) for one in found], atol=1e-10
    )


def test_lexicon_leaves_its_words_exact_and_no_others() -> None:
    log_p_TC = random_log_probs(6, 5)
    words = {"AB", "B", "ABB"}
    truth = {text: p for text, p in all_texts(log_p_TC).items() if set(text.split()) <= words}
    found = BeamDecoder(AB, BeamSettings(**EXACT), lexicon=Lexicon(words, AB)).search(log_p_TC)
    assert {one.text: pytest.approx(one.score, abs=1e-10) for one in found} == truth


def test_narrow_beam_keeps_what_the_wide_one_prefers() -> None:
    """Ten frames, 40 prefixes and the default margins: the best text and the most of its probability."""
    model = estimate(["A B", "AB A", "B AB A", "A"], order=2)
    for seed in range(10):
        log_p_TC = (3 * random_log_probs(10, 100 + seed)).log_softmax(-1)
        wide = BeamDecoder(AB, BeamSettings(**EXACT), model).search(log_p_TC)[0]
        narrow = BeamDecoder(AB, BeamSettings(width=40), model).search(log_p_TC)[0]
        assert narrow.text == wide.text
        assert wide.score - 0.2 < narrow.score < wide.score + 1e-9


@pytest.mark.parametrize("target", [(5, 6, 4), (5, 5, 4), (6,), (5, 4, 4)])
def test_ctc_loss_is_the_sum_over_alignments(target: tuple[int, ...]) -> None:
    log_p_TC = random_log_probs(6, 7)
    paths = itertools.product(range(len(AB)), repeat=6)
    ln_p = [sum(log_p_TC[t, c].item() for t, c in enumerate(path)) for path in paths if merged(path) == target]
    loss = functional.ctc_loss(
        log_p_TC[:, None], torch.tensor([target]), [6], [len(target)], blank=BLANK, reduction="sum"
    )
    assert loss.item() == pytest.approx(-np.logaddexp.reduce(ln_p))


def test_a_beam_without_language_sums_where_greedy_takes_one_alignment() -> None:
    """Two frames, blank 0.6 and A 0.4 in each: the likeliest alignment is empty (0.36), the likeliest text A (0.64)."""
    log_p_TC = torch.full((2, 7), -math.inf)
    log_p_TC[:, BLANK], log_p_TC[:, 5] = math.log(0.6), math.log(0.4)
    assert GreedyDecoder(AB).decode(log_p_TC[None]) == [""]
    best = BeamDecoder(AB).search(log_p_TC)[0]
    assert best.text == "A"
    assert math.exp(best.score) == pytest.approx(0.64)


def test_greedy_takes_the_best_path_of_the_symbols_that_are_written() -> None:
    log_p_BTC = torch.stack([random_log_probs(9, seed) for seed in range(5)])
    lengths = [9, 4, 0, 7, 1]
    expected = [
        AB.decode(merged(tuple(max(WRITTEN, key=lambda c: frame[c]) for frame in log_p_TC[:length].tolist())))
        for log_p_TC, length in zip(log_p_BTC, lengths, strict=True)
    ]
    assert GreedyDecoder(AB).decode(log_p_BTC, lengths) == expected
    assert GreedyDecoder(AB).decode(log_p_BTC, torch.tensor(lengths)) == expected


def test_language_model_turns_the_scale() -> None:
    """CTC cannot tell COT from CAT; the words before can."""
    vocabulary = CtcVocabulary.fairseq()
    ids = vocabulary.encode("THE CAT SAT")
    logits_TC = torch.zeros(2 * len(ids), len(vocabulary))
    for place, letter in enumerate(ids):
        logits_TC[2 * place, letter] = logits_TC[2 * place + 1, BLANK] = 8.0
    vowel = 2 * ids.index(vocabulary.symbols.index("A"))
    logits_TC[vowel, vocabulary.symbols.index("O")] = 8.1
    log_p_BTC = logits_TC.log_softmax(-1)[None]
    model = estimate(["THE CAT SAT", "THE COT STOOD", "THE CAT RAN"], order=2)
    assert BeamDecoder(vocabulary).decode(log_p_BTC) == ["THE COT SAT"]
    assert BeamDecoder(vocabulary, language_model=model).decode(log_p_BTC) == ["THE CAT SAT"]


def test_lengths_end_utterances_and_empty_ones_are_empty() -> None:
    log_p_TC = random_log_probs(8, 3)
    decoder = BeamDecoder(AB, language_model=estimate(["A B"], order=2))
    padded = torch.stack([log_p_TC, log_p_TC])
    assert decoder.decode(padded, [5, 0]) == [*decoder.decode(log_p_TC[None, :5]), ""]


def test_without_a_whole_word_of_the_lexicon_the_rest_stays() -> None:
    frames = torch.tensor([6, 4, 5])  # B, "|", A: B is a word and A only begins one
    log_p_TC = torch.full((3, 7), -math.inf)
    log_p_TC[torch.arange(3), frames] = 0.0
    lexicon = Lexicon(["B", "AB"], AB)
    assert BeamDecoder(AB, lexicon=lexicon).decode(log_p_TC[None]) == ["B"]


@pytest.mark.parametrize("decoder", [GreedyDecoder(AB), BeamDecoder(AB)])
def test_frames_that_are_sure_of_a_special_write_nothing(decoder: GreedyDecoder | BeamDecoder) -> None:
    log_p_TC = torch.full((3, 7), -math.inf)
    log_p_TC[[0, 1, 2], [5, 2, 6]] = 0.0
    log_p_TC[1, BLANK] = -20.0
    assert decoder.decode(log_p_TC[None]) == ["AB"]
    log_p_TC[1, BLANK] = -math.inf
    assert len(decoder.decode(log_p_TC[None])) == 1


@pytest.mark.parametrize("decoder", [GreedyDecoder(AB), BeamDecoder(AB)])
def test_outputs_that_are_not_numbers_are_a_collapse(decoder: GreedyDecoder | BeamDecoder) -> None:
    log_p_BTC = torch.stack([random_log_probs(4, 0), random_log_probs(4, 1)])
    log_p_BTC[1, 3] = math.nan
    with pytest.raises(CollapseError, match=r"utterances \[1\] are not numbers"):
        decoder.decode(log_p_BTC)
    assert len(decoder.decode(log_p_BTC, [4, 3])) == 2  # what stands after the end does not matter


def test_fifty_prefixes_of_ten_seconds_take_well_under_a_second() -> None:
    vocabulary = CtcVocabulary(FAIRSEQ_CHARACTERS)
    log_p_TC = random_log_probs(500, 0, vocabulary)
    decoder = BeamDecoder(vocabulary, language_model=estimate(["THE CAT SAT", "A DOG RAN"], order=3))
    start = time.process_time()
    decoder.search(log_p_TC)
    assert time.process_time() - start < 1.5  # 0.3 s on one core of 2020, when nothing else runs


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="vocabulary has 7 symbols"):
        GreedyDecoder(AB).decode(torch.zeros(1, 3, 8))
    with pytest.raises(DataError, match="do not fit 1 utterances"):
        BeamDecoder(AB).decode(torch.zeros(1, 3, 7), [4])
    with pytest.raises(DataError, match="No word of the lexicon"):
        Lexicon(["cat"], AB)
    with pytest.raises(ConfigError, match="one prefix at least"):
        BeamSettings(width=0)
