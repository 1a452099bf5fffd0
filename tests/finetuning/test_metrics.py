"""Metrics against scikit-learn, scipy and jiwer, their resampled forms against taking them of the drawn items, and
the coverage of their intervals.

Shapes: N items, R resamples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jiwer
import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from d2v.errors import ConfigError, DataError
from d2v.finetuning.metrics import METRICS, gain_interval, interval, metric

Pair = tuple[Any, Any]
LEAST, MOST = 0.91, 0.985
"""Coverage of a 95% interval in 300 repeats; 0.2 points are missing from percentile intervals of curved figures."""


def classes(random: np.random.Generator, count: int, items: int = 60) -> Pair:
    references = random.integers(count, size=items)
    return np.where(random.random(items) < 0.6, references, random.integers(count, size=items)), references


def numbers(random: np.random.Generator, items: int = 60) -> Pair:
    """Scores with ties, as in STS-B."""
    references = random.integers(0, 11, size=items) / 2
    return np.round(references + 2 * random.standard_normal(items), 1), references


def labels(random: np.random.Generator, items: int = 60) -> Pair:
    """Scores with ties and labels of four classes, the last of which is never there."""
    references = (random.random((items, 4)) < [0.5, 0.2, 0.05, 0.0]).astype(int)
    return np.round(random.standard_normal((items, 4)) + references, 1), references


def scored(random: np.random.Generator, items: int = 60) -> Pair:
    """Scores with ties of four classes, and the one class of each item; the last is never there."""
    references = random.choice(4, items, p=[0.6, 0.3, 0.1, 0.0])
    return np.round(random.standard_normal((items, 4)) + 2 * np.eye(4)[references], 1), references


def texts(random: np.random.Generator, items: int = 60) -> Pair:
    """Sentences with words left out, exchanged and put in; some are empty on one side."""
    words = np.array(["a", "cat", "sat", "on", "that", "mat"])
    references = [" ".join(random.choice(words, random.integers(0, 7))) for _ in range(items)]
    noisy = [" ".join(w if random.random() < 0.7 else random.choice(words) for w in r.split()) for r in references]
    return [text if random.random() < 0.8 else f"{text} mat".strip() for text in noisy], references


CASES: dict[str, tuple[Callable[[np.random.Generator], Pair], Callable[[Any, Any], float]]] = {
    "accuracy": (lambda r: classes(r, 5), lambda p, r: sk.accuracy_score(r, p)),
    "f1": (lambda r: classes(r, 2), lambda p, r: sk.f1_score(r, p)),
    "accuracy_and_f1": (lambda r: classes(r, 2), lambda p, r: (sk.accuracy_score(r, p) + sk.f1_score(r, p)) / 2),
    "macro_f1": (lambda r: classes(r, 5), lambda p, r: sk.f1_score(r, p, average="macro")),
    "balanced_accuracy": (lambda r: classes(r, 5), lambda p, r: sk.balanced_accuracy_score(r, p)),
    "auroc": (scored, lambda p, r: np.mean([sk.roc_auc_score(r == c, p[:, c]) for c in range(4) if (r == c).any()])),
    "average_precision": (
        scored,
        lambda p, r: np.mean([sk.average_precision_score(r == c, p[:, c]) for c in range(4) if (r == c).any()]),
    ),
    "matthews": (lambda r: classes(r, 3), lambda p, r: sk.matthews_corrcoef(r, p)),
    "pearson": (numbers, lambda p, r: stats.pearsonr(r, p).statistic),
    "spearman": (numbers, lambda p, r: stats.spearmanr(r, p).statistic),
    "pearson_and_spearman": (
        numbers,
        lambda p, r: (stats.pearsonr(r, p).statistic + stats.spearmanr(r, p).statistic) / 2,
    ),
    "mean_average_precision": (
        labels,
        lambda p, r: np.mean([sk.average_precision_score(r[:, c], p[:, c]) for c in range(4) if r[:, c].any()]),
    ),
    "wer": (texts, lambda p, r: jiwer.wer(list(r), list(p))),
    "cer": (texts, lambda p, r: jiwer.cer(list(r), list(p))),
}


def drawn(given: Any, rows: np.ndarray) -> Any:
    return given[rows] if isinstance(given, np.ndarray) else [given[row] for row in rows]


def test_every_metric_is_tested() -> None:
    assert set(CASES) == set(METRICS)


@pytest.mark.parametrize("name", CASES)
def test_metrics_agree_with_the_libraries(name: str) -> None:
    make, truth = CASES[name]
    for seed in range(5):
        predictions, references = make(np.random.default_rng(seed))
        assert metric(name).compute(predictions, references) == pytest.approx(truth(predictions, references), abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_score_of_counts_is_the_metric_of_the_drawn_items(name: str) -> None:
    make, _ = CASES[name]
    random = np.random.default_rng(0)
    predictions, references = make(random)
    score = metric(name).score(predictions, references)
    assert score.value == pytest.approx(metric(name).compute(predictions, references), abs=1e-12)
    rows_RN = random.integers(score.items, size=(20, score.items))
    counts_RN = np.stack([np.bincount(rows, minlength=score.items) for rows in rows_RN]).astype(float)
    expected_R = [metric(name).compute(drawn(predictions, rows), drawn(references, rows)) for rows in rows_RN]
    np.testing.assert_allclose(score.of_counts(counts_RN), expected_R, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "predictions", "references", "value"),
    [
        ("matthews", [1, 1, 1], [0, 1, 1], 0.0),
        ("f1", [0, 0], [0, 0], 0.0),
        ("balanced_accuracy", [0, 0, 0, 0], [0, 0, 0, 1], 0.5),
        ("auroc", [[0.3, 0.7], [0.2, 0.8]], [1, 1], 0.5),
        ("auroc", [[0.5, 0.5], [0.5, 0.5]], [0, 1], 0.5),
        ("auroc", [[0.9, 0.1], [0.2, 0.8]], [[1, 0], [0, 1]], 1.0),
        ("macro_f1", [[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]], (2 / 3 + 1) / 2),
        ("pearson", [2.5, 2.5, 2.5], [1.0, 2.0, 3.0], 0.0),
        ("spearman", [0.1, 0.1, 0.1], [1.0, 2.0, 3.0], 0.0),
        ("mean_average_precision", [[0.3], [0.2]], [[0], [0]], 0.0),
        ("wer", ["", "x"], ["", ""], 1.0),
        ("wer", [""], ["a b"], 1.0),
        ("cer", ["a"], ["a b"], 2 / 3),
        ("wer", ["a b c d"], ["a"], 3.0),
    ],
)
def test_edges_have_a_value_and_an_interval(name: str, predictions: Any, references: Any, value: float) -> None:
    assert metric(name).compute(predictions, references) == pytest.approx(value)
    found = interval(name, predictions, references, resamples=50)
    assert found.value == pytest.approx(value)
    assert np.isfinite([found.low, found.high]).all()


def correlated(random: np.random.Generator, items: int, correlation: float) -> Pair:
    x, noise = random.standard_normal((2, items))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def flipped(random: np.random.Generator, items: int) -> Pair:
    """Classes of equal weight, one in five wrong: accuracy and F1 0.8, Matthews correlation 0.6."""
    references = random.integers(2, size=items)
    return references ^ (random.random(items) < 0.2), references


def misheard(random: np.random.Generator, items: int) -> Pair:
    """Utterances of 1 to 10 words; speakers differ, and one word in five is wrong on the whole."""
    rates = np.repeat(random.choice([0.1, 0.3], items), lengths := random.integers(1, 11, items))
    words = np.where(random.random(len(rates)) < rates, "no", "yes")
    parts = np.split(words, np.cumsum(lengths)[:-1])
    return [" ".join(part) for part in parts], [" ".join(["yes"] * len(part)) for part in parts]


@pytest.mark.parametrize(
    ("name", "make", "truth"),
    [
        ("matthews", lambda r: flipped(r, 250), 0.6),
        ("f1", lambda r: flipped(r, 250), 0.8),
        ("pearson", lambda r: correlated(r, 200, 0.7), 0.7),
        ("spearman", lambda r: correlated(r, 200, 0.7), 6 / math.pi * math.asin(0.35)),
        ("wer", lambda r: misheard(r, 150), 0.2),
    ],
)
def test_intervals_cover_the_truth_19_times_in_20(name: str, make: Any, truth: float) -> None:
    random = np.random.default_rng(7)
    found = [interval(name, *make(random), resamples=300, seed=seed) for seed in range(300)]
    assert LEAST <= np.mean([one.low <= truth <= one.high for one in found]) <= MOST


def test_gains_are_paired_and_point_up_for_error_rates_too() -> None:
    random = np.random.default_rng(8)
    worse, references = misheard(random, 150)
    better = [" ".join("yes" if random.random() < 0.3 else word for word in text.split()) for text in worse]
    gain = gain_interval("wer", better, worse, references)
    assert gain.value == pytest.approx(
        metric("wer").compute(worse, references) - metric("wer").compute(better, references)
    )
    assert gain.above_zero
    assert not gain_interval("wer", worse, worse, references).excludes_zero
    assert gain_interval("wer", worse, better, references).high < 0
    alone = [interval("wer", given, references) for given in (worse, better)]
    assert gain.high - gain.low < math.hypot(*(one.high - one.low for one in alone))


def test_equal_systems_are_seldom_called_better() -> None:
    """Two systems that err apart from each other at the same rate: 2.5% of the intervals lie above zero."""
    random = np.random.default_rng(9)
    wins = []
    for seed in range(300):
        references = random.integers(2, size=200)
        a, b = (references ^ (random.random(200) < 0.25) for _ in range(2))
        wins.append(gain_interval("matthews", a, b, references, 300, seed).above_zero)
    assert np.mean(wins) < 0.055


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose one of accuracy"):
        metric("bleu")
    with pytest.raises(DataError, match="one of each"):
        metric("accuracy").compute([1, 2], [1])
    with pytest.raises(DataError, match="one of each"):
        metric("pearson").score([], [])
    with pytest.raises(DataError, match="one for each"):
        metric("wer").score(["a"], [])
    with pytest.raises(DataError, match="one for each"):
        metric("cer").compute([], [])


@pytest.mark.parametrize("gap", ["\u00a0", "\t", "\n", "\u2028", "\u200b", "  "])
def test_words_are_parted_by_any_white_space(gap: str) -> None:
    rate = metric("wer").compute
    assert rate([f"ten{gap}thousand"], ["ten thousand"]) == 0.0
    assert rate(["ten thousand"], [f"ten{gap}thousand miles"]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("joiner", ["\u200c", "\u00ad", "\u2060", "\u200e"])
def test_invisible_characters_are_no_errors(joiner: str) -> None:
    for name in ("wer", "cer"):
        assert metric(name).compute([f"co{joiner}operate"], ["cooperate"]) == 0.0
