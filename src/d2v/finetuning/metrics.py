"""Metrics of downstream tasks, each ready for a bootstrap of thousands of resamples.

The numbers themselves come from scikit-learn, scipy and jiwer. Beside each stands the same metric as a function of
how often a resample holds each item (`Score`): most are functions of sums over the items, rank correlation and
average precision are taken of weighted items.

Shapes: N items, R resamples, C classes, S sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jiwer
import numpy as np
from scipy import sparse, stats
from sklearn import metrics as sklearn_metrics

from d2v.data.lines import words_of
from d2v.errors import ConfigError, DataError
from d2v.statistics import LEVEL, Interval, Score, score_difference_interval, score_interval

Given = np.ndarray | Sequence[Any]
"""Predictions or references, one an item: class numbers, numbers, texts, or rows (N, C) of scores and labels."""


@dataclass(frozen=True)
class Metric:
    """A metric by its name.

    Attributes:
        name: as in recipes and logs.
        compute: (predictions, references) -> its value.
        score: the same, ready for resampling.
        higher_is_better: False for error rates.
        of_scores: whether its predictions are the scores (N, C) of all classes, and not one answer an item.
    """

    name: str
    compute: Callable[[Given, Given], float]
    score: Callable[[Given, Given], Score]
    higher_is_better: bool = True
    of_scores: bool = False


# --------------------------------------------------------------------------------- classes and numbers


def accuracy(predictions: Given, references: Given) -> float:
    """Share of items whose class is right."""
    return float(sklearn_metrics.accuracy_score(*_paired(references, predictions)))


def binary_f1(predictions: Given, references: Given) -> float:
    """F1 of class 1 among classes 0 and 1; 0 if it is neither there nor predicted."""
    return float(sklearn_metrics.f1_score(*_paired(references, predictions), pos_label=1, zero_division=0.0))


def macro_f1(predictions: Given, references: Given) -> float:
    """Mean of the F1 of all classes that are there or predicted. Of several labels an item, both sides are labels
    (N, C) of 0 and 1."""
    r, p = _paired(references, predictions)
    if r.ndim == 2:
        named = r.any(axis=0) | p.any(axis=0)
        r, p = r[:, named], p[:, named]
    return float(sklearn_metrics.f1_score(r, p, average="macro", zero_division=0.0)) if r.size else 0.0


def balanced_accuracy(predictions: Given, references: Given) -> float:
    """Mean of the recalls of all classes that are there: the accuracy if each class had as many items."""
    r, p = _paired(references, predictions)
    classes = np.unique(r)
    return float(sklearn_metrics.recall_score(r, p, labels=classes, average="macro", zero_division=0.0))


def matthews(predictions: Given, references: Given) -> float:
    """Matthews correlation, of any number of classes; 0 if either side names one class only."""
    return float(sklearn_metrics.matthews_corrcoef(*_paired(references, predictions)))


def pearson(predictions: Given, references: Given) -> float:
    """Pearson correlation; 0 if either side is constant, as there is nothing to go together."""
    r, p = _paired(references, predictions)
    return 0.0 if np.ptp(r) == 0 or np.ptp(p) == 0 else float(stats.pearsonr(r, p).statistic)


def spearman(predictions: Given, references: Given) -> float:
    """Spearman rank correlation; 0 if either side is constant."""
    r, p = _paired(references, predictions)
    return 0.0 if np.ptp(r) == 0 or np.ptp(p) == 0 else float(stats.spearmanr(r, p).statistic)


def auroc(predictions: Given, references: Given) -> float:
    """Area under the ROC curve: the probability that an item of a class scores higher for it than an item of another
    class; mean over the classes, each against the rest. 0.5 is chance. Classes that all or none of the items have are
    left out; 0.5 if that leaves none.

    Args:
        predictions: scores (N, C).
        references: class ids (N,), or labels (N, C) of 0 and 1.
    """
    labels_NC, scores_NC = _scored(references, predictions)
    there = labels_NC.any(axis=0) & ~labels_NC.all(axis=0)
    if not there.any():
        return 0.5
    return float(sklearn_metrics.roc_auc_score(labels_NC[:, there], scores_NC[:, there], average="macro"))


def class_average_precision(predictions: Given, references: Given) -> float:
    """`mean_average_precision` of items with one class each: references are class ids (N,)."""
    labels_NC, scores_NC = _scored(references, predictions)
    return mean_average_precision(scores_NC, labels_NC)


def mean_average_precision(predictions: Given, references: Given) -> float:
    """Mean over classes of the average precision, from scores (N, C) and labels (N, C) of 0 and 1, as for AudioSet.
    Classes without a positive item are left out; 0 if that leaves none.

    Example:
        >>> mean_average_precision([[0.9, 0.1], [0.2, 0.3]], [[1, 0], [0, 0]])
        1.0
    """
    labels_NC, scores_NC = _paired(references, predictions)
    there = labels_NC.any(axis=0)
    if not there.any():
        return 0.0
    return float(sklearn_metrics.average_precision_score(labels_NC[:, there], scores_NC[:, there], average="macro"))


# ------------------------------------------------------------------------------------------------ texts


def word_error_rate(predictions: Given, references: Given) -> float:
    """Words exchanged, left out and put in, over the words of the references: of all utterances together.

    Example:
        >>> word_error_rate(["a cat sat"], ["the cat sat down"])
        0.5
    """
    errors_N, lengths_N = _word_errors(predictions, references)
    return float(errors_N.sum() / max(lengths_N.sum(), 1))


def character_error_rate(predictions: Given, references: Given) -> float:
    """The same of characters, spaces too."""
    errors_N, lengths_N = _character_errors(predictions, references)
    return float(errors_N.sum() / max(lengths_N.sum(), 1))


def _word_errors(predictions: Given, references: Given) -> tuple[np.ndarray, np.ndarray]:
    _paired_texts(predictions, references)
    found = jiwer.process_words([_spaced(text) for text in references], [_spaced(text) for text in predictions])
    return _errors(found.alignments), np.array([len(words) for words in found.references])


def _spaced(text: str) -> str:
    """The words of a text with one space between them, the only gap that jiwer knows."""
    return " ".join(words_of(text))


def _character_errors(predictions: Given, references: Given) -> tuple[np.ndarray, np.ndarray]:
    _paired_texts(predictions, references)
    found = jiwer.process_characters([_spaced(text) for text in references], [_spaced(text) for text in predictions])
    return _errors(found.alignments), np.array([len(characters) for characters in found.references])


def _errors(alignments: list[list[jiwer.AlignmentChunk]]) -> np.ndarray:
    """Errors (N,) of each utterance."""
    return np.array(
        [
            sum(
                max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
                for chunk in chunks
                if chunk.type != "equal"
            )
            for chunks in alignments
        ]
    )


# ------------------------------------------------------------------------------------- for resampling


def _of_sums(statistics_NS: np.ndarray | sparse.csr_array, of_sums: Callable[[np.ndarray], np.ndarray]) -> Score:
    """A metric of sums (R, S) of the items' statistics."""
    return Score(statistics_NS.shape[0], lambda counts_RN: of_sums(counts_RN @ statistics_NS))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, and 0 where nothing is divided by nothing."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)


def _accuracy_score(predictions: Given, references: Given) -> Score:
    r, p = _paired(references, predictions)
    return _of_sums((r == p)[:, None].astype(np.float64), lambda right_R1: right_R1[:, 0] / len(r))


def _by_class(predictions: Given, references: Given) -> tuple[sparse.csr_array, int]:
    """One-hot statistics (N, 3C): right, predicted and true class; and C."""
    r, p = _paired(references, predictions)
    if r.ndim == 2:
        true_NC, predicted_NC = sparse.csr_array(r.astype(np.float64)), sparse.csr_array(p.astype(np.float64))
        return sparse.hstack((true_NC * predicted_NC, predicted_NC, true_NC), format="csr"), r.shape[1]
    classes, ids = np.unique(np.concatenate((r, p)), return_inverse=True)
    one_hot = sparse.csr_array((np.ones(2 * len(r)), (np.arange(2 * len(r)), ids)), (2 * len(r), len(classes)))
    true_NC, predicted_NC = one_hot[: len(r)], one_hot[len(r) :]
    return sparse.hstack((true_NC * predicted_NC, predicted_NC, true_NC), format="csr"), len(classes)


def _binary_f1_score(predictions: Given, references: Given) -> Score:
    r, p = _paired(references, predictions)
    statistics_NS = np.stack(((r == 1) & (p == 1), p == 1, r == 1), axis=1).astype(np.float64)
    return _of_sums(statistics_NS, lambda sums: _ratio(2 * sums[:, 0], sums[:, 1] + sums[:, 2]))


def _macro_f1_score(predictions: Given, references: Given) -> Score:
    statistics_NS, classes = _by_class(predictions, references)

    def of_sums(sums_RS: np.ndarray) -> np.ndarray:
        right_RC, predicted_RC, true_RC = np.split(sums_RS, [classes, 2 * classes], axis=1)
        named_RC = predicted_RC + true_RC
        return _ratio(_ratio(2 * right_RC, named_RC).sum(axis=1), (named_RC > 0).sum(axis=1))

    return _of_sums(statistics_NS, of_sums)


def _balanced_accuracy_score(predictions: Given, references: Given) -> Score:
    statistics_NS, classes = _by_class(predictions, references)

    def of_sums(sums_RS: np.ndarray) -> np.ndarray:
        right_RC, _, true_RC = np.split(sums_RS, [classes, 2 * classes], axis=1)
        return _ratio(right_RC, true_RC).sum(axis=1) / (true_RC > 0).sum(axis=1)

    return _of_sums(statistics_NS, of_sums)


def _matthews_score(predictions: Given, references: Given) -> Score:
    """Gorodkin's R_K from the margins of the confusion matrix, as in scikit-learn."""
    statistics_NS, classes = _by_class(predictions, references)

    def of_sums(sums_RS: np.ndarray) -> np.ndarray:
        right_RC, predicted_RC, true_RC = np.split(sums_RS, [classes, 2 * classes], axis=1)
        items = statistics_NS.shape[0]
        together = right_RC.sum(axis=1) * items - (predicted_RC * true_RC).sum(axis=1)
        spread = (items**2 - (predicted_RC**2).sum(axis=1)) * (items**2 - (true_RC**2).sum(axis=1))
        return _ratio(together, np.sqrt(spread))

    return _of_sums(statistics_NS, of_sums)


def _pearson_score(predictions: Given, references: Given) -> Score:
    r, p = _paired(references, predictions)
    return Score(len(r), lambda counts_RN: _correlation(counts_RN, _standard(r), _standard(p)))


def _spearman_score(predictions: Given, references: Given) -> Score:
    r, p = _paired(references, predictions)
    ranks_of_r, ranks_of_p = _Ranks(r), _Ranks(p)
    return Score(len(r), lambda counts_RN: _correlation(counts_RN, ranks_of_r(counts_RN), ranks_of_p(counts_RN)))


def _correlation(counts_RN: np.ndarray, x_RN: np.ndarray, y_RN: np.ndarray) -> np.ndarray:
    """Pearson correlation (R,) of items that stand in a resample `counts_RN` times."""
    items = counts_RN.sum(axis=1, keepdims=True)
    x_RN = x_RN - (counts_RN * x_RN).sum(axis=1, keepdims=True) / items
    y_RN = y_RN - (counts_RN * y_RN).sum(axis=1, keepdims=True) / items
    together, x_x, y_y = ((counts_RN * product).sum(axis=1) for product in (x_RN * y_RN, x_RN**2, y_RN**2))
    # Rounding leaves a constant side a variance of about 1e-30 of its scale, which must count as zero.
    spread = np.where((x_x > 1e-20) & (y_y > 1e-20), np.sqrt(x_x * y_y), 0.0)
    return _ratio(together, spread)


def _standard(x_N: np.ndarray) -> np.ndarray:
    """Values with mean 0 and standard deviation 1, as a row; a constant gives zeros."""
    spread = x_N.std()
    return ((x_N - x_N.mean()) / spread if spread > 0 else np.zeros(len(x_N)))[None]


class _Ranks:
    """Ranks of items in resamples; equal values share the mean of their ranks."""

    def __init__(self, x_N: np.ndarray) -> None:
        self.order_N = np.argsort(x_N, kind="stable")
        distinct, self.group_N = np.unique(x_N, return_inverse=True)
        self.first = np.searchsorted(x_N[self.order_N], distinct)

    def __call__(self, counts_RN: np.ndarray) -> np.ndarray:
        """Ranks (R, N), over the number of items."""
        held = np.add.reduceat(counts_RN[:, self.order_N], self.first, axis=1)
        middle = np.cumsum(held, axis=1) - held / 2
        return middle[:, self.group_N] / counts_RN.shape[1]


def _mean_average_precision_score(predictions: Given, references: Given) -> Score:
    labels_NC, scores_NC = _paired(references, predictions)
    return _mean_over_classes([_AveragePrecision(*pair) for pair in zip(scores_NC.T, labels_NC.T, strict=True)], 0.0)


def _class_average_precision_score(predictions: Given, references: Given) -> Score:
    labels_NC, scores_NC = _scored(references, predictions)
    return _mean_average_precision_score(scores_NC, labels_NC)


def _auroc_score(predictions: Given, references: Given) -> Score:
    labels_NC, scores_NC = _scored(references, predictions)
    return _mean_over_classes([_RocArea(*pair) for pair in zip(scores_NC.T, labels_NC.T, strict=True)], 0.5)


def _mean_over_classes(classes: Sequence[_AveragePrecision | _RocArea], without: float) -> Score:
    """The mean over the classes that can be measured in a resample, or `without` where none can."""

    def of_counts(counts_RN: np.ndarray) -> np.ndarray:
        counts_NR = np.ascontiguousarray(counts_RN.T, np.int32)
        total_R, there_R = np.zeros((2, len(counts_RN)))
        for one in classes:
            value_R, is_there_R = one(counts_NR)
            total_R += value_R
            there_R += is_there_R
        return np.where(there_R > 0, _ratio(total_R, there_R), without)

    return Score(len(classes[0].order_N), of_counts)


class _RocArea:
    """Area under the ROC curve of one class in resamples: over all pairs of an item of the class and another one, how
    often the first scores higher; equal scores count half.

    P items of the class, in the order of their scores; among all items in that order, `first_P` is the position of
    the first one with the same score, `end_P` that behind the last one.
    """

    def __init__(self, scores_N: np.ndarray, labels_N: np.ndarray) -> None:
        self.order_N = np.argsort(scores_N, kind="stable")
        ordered_N, is_positive_N = scores_N[self.order_N], labels_N[self.order_N] > 0
        (self.position_P,) = np.nonzero(is_positive_N)
        self.is_negative_N = ~is_positive_N
        self.first_P = np.searchsorted(ordered_N, ordered_N[self.position_P], side="left")
        self.end_P = np.searchsorted(ordered_N, ordered_N[self.position_P], side="right")

    def __call__(self, counts_NR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The metric (R,), 0 where it cannot be measured, and whether it can."""
        held_NR = counts_NR[self.order_N]
        positive_PR = held_NR[self.position_P]
        below = np.zeros((len(held_NR) + 1, held_NR.shape[1]))
        np.cumsum(held_NR * self.is_negative_N[:, None], axis=0, out=below[1:])
        won_PR = (below[self.first_P] + below[self.end_P]) / 2
        pairs_R = positive_PR.sum(axis=0) * below[-1]
        return _ratio((won_PR * positive_PR).sum(axis=0), pairs_R), pairs_R > 0


class _AveragePrecision:
    """Average precision of one class in resamples: the mean, over positive items, of the precision among the items
    that score as high or higher. That is scikit-learn's sum over thresholds, equal scores sharing one.

    P positive items, in the order of their scores; `last_P` is the position, among all items in that order, of the last
    one with the same score, `last_positive_P` the same among the positive ones.
    """

    def __init__(self, scores_N: np.ndarray, labels_N: np.ndarray) -> None:
        self.order_N = np.argsort(-scores_N, kind="stable")
        ordered_N = -scores_N[self.order_N]
        (self.position_P,) = np.nonzero(labels_N[self.order_N] > 0)
        positive_P = ordered_N[self.position_P]
        self.last_P = np.searchsorted(ordered_N, positive_P, side="right") - 1
        self.last_positive_P = np.searchsorted(positive_P, positive_P, side="right") - 1

    def __call__(self, counts_NR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The metric (R,), 0 without a positive item, and whether there is one."""
        if not len(self.position_P):
            return np.zeros(counts_NR.shape[1]), np.zeros(counts_NR.shape[1], bool)
        held_NR = counts_NR[self.order_N]
        positive_PR = held_NR[self.position_P]
        found_PR = np.cumsum(positive_PR, axis=0)[self.last_positive_P]
        precision_PR = _ratio(found_PR, np.cumsum(held_NR, axis=0)[self.last_P])
        positives_R = positive_PR.sum(axis=0)
        return _ratio((precision_PR * positive_PR).sum(axis=0), positives_R), positives_R > 0


def _error_rate_score(errors_N: np.ndarray, lengths_N: np.ndarray) -> Score:
    return _of_sums(
        np.stack((errors_N, lengths_N), axis=1).astype(np.float64), lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1)
    )


# ------------------------------------------------------------------------------------------ by name


def _mean_of(name: str, first: Metric, second: Metric) -> Metric:
    """The mean of two metrics, as GLUE takes of MRPC, QQP and STS-B."""

    def compute(predictions: Given, references: Given) -> float:
        return (first.compute(predictions, references) + second.compute(predictions, references)) / 2

    def score(predictions: Given, references: Given) -> Score:
        a, b = first.score(predictions, references), second.score(predictions, references)
        return Score(a.items, lambda counts_RN: (a.of_counts(counts_RN) + b.of_counts(counts_RN)) / 2)

    return Metric(name, compute, score)


_ACCURACY = Metric("accuracy", accuracy, _accuracy_score)
_F1 = Metric("f1", binary_f1, _binary_f1_score)
_PEARSON = Metric("pearson", pearson, _pearson_score)
_SPEARMAN = Metric("spearman", spearman, _spearman_score)

METRICS = {
    metric.name: metric
    for metric in (
        _ACCURACY,
        _F1,
        _mean_of("accuracy_and_f1", _ACCURACY, _F1),
        Metric("macro_f1", macro_f1, _macro_f1_score),
        Metric("balanced_accuracy", balanced_accuracy, _balanced_accuracy_score),
        Metric("auroc", auroc, _auroc_score, of_scores=True),
        Metric("average_precision", class_average_precision, _class_average_precision_score, of_scores=True),
        Metric("matthews", matthews, _matthews_score),
        _PEARSON,
        _SPEARMAN,
        _mean_of("pearson_and_spearman", _PEARSON, _SPEARMAN),
        Metric("mean_average_precision", mean_average_precision, _mean_average_precision_score, of_scores=True),
        Metric("wer", word_error_rate, lambda p, r: _error_rate_score(*_word_errors(p, r)), higher_is_better=False),
        Metric("cer", character_error_rate, lambda p, r: _error_rate_score(*_character_errors(p, r)), False),
    )
}
"""Every metric by its name."""


def metric(name: str) -> Metric:
    """A metric by its name.

    Raises:
        ConfigError: there is none.
    """
    if name not in METRICS:
        raise ConfigError(f"There is no metric {name!r}: choose one of {', '.join(METRICS)}")
    return METRICS[name]


def interval(
    name: str, predictions: Given, references: Given, resamples: int = 1000, seed: int = 0, level: float = LEVEL
) -> Interval:
    """A metric with its percentile bootstrap interval over the items.

    Raises:
        DataError: no items, or not as many predictions as references.

    Example:
        >>> interval("wer", ["a b", "c"], ["a b", "d"]).value
        0.3333333333333333
    """
    return score_interval(metric(name).score(predictions, references), resamples, seed, level)


def gain_interval(
    name: str,
    predictions: Given,
    others: Given,
    references: Given,
    resamples: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """How much `predictions` are better than `others` on the same items: the difference of the metric, for error rates
    with its sign turned, with its paired bootstrap interval. They are better if `above_zero`.

    Raises:
        DataError: no items, or not as many predictions as references.
    """
    one = metric(name)
    ours, theirs = one.score(predictions, references), one.score(others, references)
    if one.higher_is_better:
        return score_difference_interval(ours, theirs, resamples, seed, level)
    return score_difference_interval(theirs, ours, resamples, seed, level)


def _paired(references: Given, predictions: Given) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays.

    Raises:
        DataError: their shapes differ, or there is nothing.
    """
    r, p = np.asarray(references), np.asarray(predictions)
    if r.shape != p.shape or not len(r):
        raise DataError(
            f"A metric got predictions of shape {p.shape} and references of shape {r.shape}, and needs one of each for "
            "at least one item: score the split that was predicted"
        )
    return r, p


def _scored(references: Given, scores: Given) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N, C) of 0 and 1 and scores (N, C), from class ids (N,) or such labels.

    Raises:
        DataError: their shapes do not fit, or there is nothing.
    """
    labels, scores_NC = np.asarray(references), np.asarray(scores)
    if labels.ndim == 1 and scores_NC.ndim == 2:
        labels = (labels[:, None] == np.arange(scores_NC.shape[1])).astype(np.int64)
    return _paired(labels, scores_NC)


def _paired_texts(predictions: Given, references: Given) -> None:
    if len(predictions) != len(references) or not len(references):
        raise DataError(
            f"An error rate got {len(predictions)} texts for {len(references)} references, and needs one for each and "
            "at least one: score the split that was decoded"
        )
