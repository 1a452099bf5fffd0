"""The pretrained encoder beside what it must heartbeat: its own random initialisation, and plain features.

Shapes: N train items, T test items, D feature width.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from d2v.config import EvaluateConfig
from d2v.evaluation.probes import knn, linear_probe
from d2v.modalities.base import ProbeSet
from d2v.progress import log
from d2v.statistics import Interval, accuracy_interval, difference_interval

PRETRAINED, RANDOM, PLAIN = "", "_random", "_baseline"
"""Suffixes of metric names."""

PROBES = ("linear", "knn")

Features = Mapping[str, tuple[Tensor, Tensor]]
"""Suffix to ((N, D) train features, (T, D) test features)."""


def compare(features: Features, items: ProbeSet, config: EvaluateConfig) -> dict[str, float]:
    """Probe accuracies and the pretrained encoder's gains, each with the ends of its 95% interval.

    Args:
        features: of PRETRAINED, RANDOM and PLAIN.
        items: their labels; every item has one.
        config: settings of the probes.

    Returns:
        Shares from 0 to 1: `probe/linear<suffix>`, `probe/linear_gain_over_{random,baseline}`, the same of `knn`,
        and each of these with `_low` and `_high`.
    """
    right = {
        probe + suffix: given
        for suffix, (train_ND, test_TD) in features.items()
        for probe, given in _right(suffix, train_ND, test_TD, items, config).items()
    }
    metrics: dict[str, float] = {}
    for name, given in right.items():
        metrics |= _spelled(f"probe/{name}", accuracy_interval(given, config.bootstrap_resamples))
    for probe in PROBES:
        for suffix in (RANDOM, PLAIN):
            gain = difference_interval(right[probe + PRETRAINED], right[probe + suffix], config.bootstrap_resamples)
            metrics |= _spelled(f"probe/{probe}_gain_over{suffix}", gain)
    return metrics


def _right(
    suffix: str, train_ND: Tensor, test_TD: Tensor, items: ProbeSet, config: EvaluateConfig
) -> dict[str, np.ndarray]:
    """For each probe, (T,) bool: whether it names the test item's class."""
    fit = linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2)
    if not fit.converged:
        log(f"evaluate: the linear probe{suffix} stopped before its optimum; its figure may be a little low")
    near = knn(train_ND, items.train_labels, test_TD, config.knn_k, config.knn_temperature)
    return {
        "linear": (fit.predictions_T == items.test_labels).numpy(),
        "knn": (near == items.test_labels).numpy(),
    }


def _spelled(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
