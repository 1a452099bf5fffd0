"""The gate: who is promoted, who is kept, and which check says so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from d2v.config import PromoteConfig
from d2v.lifecycle.gate import Measured, MetricScore, judge
from d2v.lifecycle.measure import recalls
from d2v.statistics import Interval, Score, of_right

ITEMS = 400


def model(right: int, **changes: Any) -> Measured:
    """A model that names the first `right` items."""
    metrics = {"accuracy": MetricScore(of_right(np.arange(ITEMS) < right))}
    plain = Measured(metrics, {"cat": 0.8, "dog": 0.8}, 1_000_000, 0.01, 20.0, Interval(0.3, 0.2, 0.4))
    return replace(plain, **changes)


CHAMPION = model(300)


def failed(challenger: Measured, champion: Measured | None = CHAMPION, **config: Any) -> str:
    """What was decided, and the names of the checks that failed."""
    verdict = judge(challenger, champion, PromoteConfig(**config))
    names = ", ".join(check.name for check in verdict.checks if not check.passed)
    assert (verdict.outcome == "promoted") == (not names)
    return names


def test_a_better_challenger_is_promoted_with_its_gain() -> None:
    verdict = judge(model(340), CHAMPION, PromoteConfig())
    assert verdict.outcome == "promoted"
    assert verdict.gain is not None
    assert verdict.gain.value == pytest.approx(0.1)
    assert "ahead by +0.1000" in verdict.why


@pytest.mark.parametrize("right", [200, 300, 301])
def test_a_worse_or_equal_challenger_is_kept(right: int) -> None:
    assert "gain in accuracy" in failed(model(right))


def test_a_gain_within_the_margin_is_kept() -> None:
    assert failed(model(340)) == ""
    assert "gain in accuracy" in failed(model(340), margin=0.09)


def test_error_rates_are_better_when_they_fall() -> None:
    def rate(errors: int) -> Measured:
        score = Score(ITEMS, lambda counts_RN: counts_RN @ (np.arange(ITEMS) < errors) / ITEMS)
        return model(0, metrics={"wer": MetricScore(score, higher_is_better=False)})

    assert failed(rate(60), rate(100)) == ""
    assert "gain in wer" in failed(rate(100), rate(60))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"over_random": Interval(0.1, -0.01, 0.2)}, "gain over random weights"),
        ({"rank": 1.5}, "effective rank"),
        ({"recalls": {"cat": 0.9, "dog": 0.5}}, "recall of every class (worst: dog)"),
        ({"size_bytes": 1_600_000}, "size, MB"),
        ({"latency_s": 0.016}, "time of an answer, ms"),
        ({"leaked": 1}, "held-out items that it was trained on"),
        ({"leaked": None}, "held-out items that it was trained on"),
    ],
)
def test_every_guard_stops_a_better_challenger(changes: dict[str, Any], check: str) -> None:
    assert failed(model(340, **changes)) == check


def test_guards_can_be_switched_off() -> None:
    bad = model(
        340, over_random=Interval(0.0, -1.0, 1.0), rank=1.0, recalls={"cat": 0.0}, size_bytes=10**9, latency_s=9.0
    )
    off = ("min_gain_over_random", "min_rank", "max_class_drop", "max_size_factor", "max_latency_factor")
    assert failed(bad, **dict.fromkeys(off)) == ""


def test_another_figure_may_fall_by_the_tolerance_only() -> None:
    def two(first: int, second: int) -> Measured:
        both = {"linear": model(first).metrics["accuracy"], "kNN": model(second).metrics["accuracy"]}
        return model(0, metrics=both)

    assert failed(two(340, 296), two(300, 300)) == ""
    assert failed(two(340, 280), two(300, 300)) == "kNN"


def test_the_first_challenger_is_promoted_if_its_guards_hold() -> None:
    verdict = judge(model(10), None, PromoteConfig())
    assert (verdict.outcome, verdict.gain) == ("promoted", None)
    assert "no champion" in verdict.why
    assert failed(model(10, rank=1.0), None) == "effective rank"


def test_without_a_common_metric_nobody_is_replaced() -> None:
    other = {"another": MetricScore(of_right(np.arange(ITEMS) < 340))}
    assert failed(model(340, metrics=other, recalls={})) == "gain over the champion"


@pytest.mark.parametrize("champion", [None, CHAMPION])
def test_what_cannot_be_measured_is_not_promoted(champion: Measured | None) -> None:
    assert "metrics on held-out items" in failed(model(340, metrics={}, recalls={}), champion)
    assert failed(model(340, over_random=None), champion) == "gain over random weights"
    assert failed(model(340, is_apart=False), champion) == "items measured on"
    assert not failed(model(340, over_random=None), champion, min_gain_over_random=None)


def test_classes_with_few_items_have_no_recall() -> None:
    labels_T = np.array([0] * 30 + [1] * 5)
    right_T = np.arange(35) < 15
    assert recalls(right_T, labels_T, ("many", "few"), least=20) == {"many": 0.5}
