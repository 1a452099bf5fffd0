"""The gate: from the metrics of challenger and champion to a decision, with every check in a table.

It compares the gain with the margin (`_gain_check`) and asks the guards. It measures nothing and moves no alias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from d2v.config import PromoteConfig
from d2v.evaluation.flags import NONE
from d2v.statistics import Interval, Score, score_difference_interval

Outcome = Literal["promoted", "kept", "nothing"]


@dataclass(frozen=True)
class MetricScore:
    """A metric of a model on the held-out items.

    Attributes:
        score: ready for resampling.
        higher_is_better: False for error rates.
    """

    score: Score
    higher_is_better: bool = True


@dataclass(frozen=True)
class Measured:
    """Measurements of a model for the gate. Both models were measured on the same items, by the same code.

    Attributes:
        metrics: by name; models are compared by the first. Empty where the data allow none.
        recalls: of the classes with enough held-out items, by class name.
        size_bytes: of its weights.
        latency_s: median time of an answer.
        rank: effective rank of its features, of encoders.
        over_random: gain of its first metric over random weights, of encoders.
        leaked: held-out items that it was trained on; None if that is not recorded.
        flags: what its report flags it for; empty for nothing.
        is_apart: whether the items that it was measured on are a split of their own, and not taken from the train
            split.
    """

    metrics: Mapping[str, MetricScore]
    recalls: Mapping[str, float]
    size_bytes: int
    latency_s: float
    rank: float | None = None
    over_random: Interval | None = None
    leaked: int | None = 0
    is_apart: bool = True
    flags: str = ""


@dataclass(frozen=True)
class Check:
    """One line of the table: both values and the limit as people read them."""

    name: str
    challenger: str
    champion: str
    limit: str
    passed: bool


@dataclass(frozen=True)
class Decision:
    """The decision about a challenger.

    Attributes:
        model: registered name.
        outcome: `promoted`, `kept` (the champion stays) or `nothing` (there was nothing to decide).
        why: one sentence.
        challenger, champion: version numbers; None without one.
        checks: in the order of the table.
        gain: of the challenger over the champion, positive where it is better.
    """

    model: str
    outcome: Outcome
    why: str
    challenger: int | None = None
    champion: int | None = None
    checks: tuple[Check, ...] = ()
    gain: Interval | None = None

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @staticmethod
    def of_values(values: Mapping[str, Any]) -> Decision:
        """What `as_values` gave."""
        gain = Interval(**values["gain"]) if values["gain"] else None
        return Decision(**{**values, "checks": tuple(Check(**one) for one in values["checks"]), "gain": gain})


@dataclass(frozen=True)
class Verdict:
    """Outcome of the checks, without names of versions."""

    outcome: Outcome
    why: str
    checks: tuple[Check, ...]
    gain: Interval | None = field(default=None)


def judge(challenger: Measured, champion: Measured | None, config: PromoteConfig) -> Verdict:
    """Whether the challenger replaces the champion.

    Args:
        challenger: what was measured of it.
        champion: of the champion on the same items; None if there is none.
        config: the promote block.
    """
    gain = _gain(challenger, champion, config) if champion else None
    checks = [_leak(challenger, champion), *_measurable(challenger, config)]
    if champion:
        checks.append(_gain_check(challenger, champion, gain, config))
    checks += _guards(challenger, champion, config)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        return Verdict("kept", f"kept: {', '.join(failed)}", tuple(checks), gain)
    if gain is None:
        return Verdict("promoted", "promoted: there was no champion, and all guards hold", tuple(checks))
    why = f"promoted: ahead by {_of(gain)}, more than the margin {config.margin:g}"
    return Verdict("promoted", why, tuple(checks), gain)


def _gain(challenger: Measured, champion: Measured, config: PromoteConfig) -> Interval | None:
    """Of the first metric, paired over the items."""
    name = next(iter(challenger.metrics), None)
    if name is None or name not in champion.metrics:
        return None
    ours, theirs = challenger.metrics[name], champion.metrics[name]
    pair = (ours.score, theirs.score) if ours.higher_is_better else (theirs.score, ours.score)
    return score_difference_interval(*pair, config.bootstrap_resamples, config.seed, config.level)


def _leak(challenger: Measured, champion: Measured | None) -> Check:
    def count(one: Measured | None) -> str:
        if one is None:
            return ""
        return "not recorded" if one.leaked is None else str(one.leaked)

    name = "held-out items that it was trained on"
    return Check(name, count(challenger), count(champion), "0", challenger.leaked == 0)


def _measurable(challenger: Measured, config: PromoteConfig) -> Iterator[Check]:
    """Failed checks where there is nothing to judge by."""
    if not challenger.is_apart:
        yield Check("items measured on", "taken from the train split", "", "a test split of the corpus", False)
    if not challenger.metrics:
        yield Check("metrics on held-out items", "none", "", "at least one", False)
    elif config.min_gain_over_random is not None and challenger.rank is not None and challenger.over_random is None:
        yield Check("gain over random weights", "not measured", "", "measured", False)


def _gain_check(challenger: Measured, champion: Measured, gain: Interval | None, config: PromoteConfig) -> Check:
    limit = f"whole interval above {config.margin:g}"
    if gain is None:
        return Check("gain over the champion", "cannot be measured", "", limit, False)
    name = next(iter(challenger.metrics))
    ours, theirs = (f"{one.metrics[name].score.value:.4f}" for one in (challenger, champion))
    title = f"gain in {name} ({config.level:.0%} interval)"
    return Check(title, f"{ours}, {_of(gain)}", theirs, limit, gain.low > config.margin)


def _of(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


# --------------------------------------------------------------------------------------------- guards


def _guards(challenger: Measured, champion: Measured | None, config: PromoteConfig) -> Iterator[Check]:
    """Checks that must hold whatever the gain."""
    if config.refuse_flagged and challenger.flags:
        theirs = (champion.flags or NONE) if champion else ""
        yield Check("flags of its report", challenger.flags, theirs, NONE, False)
    floor, gained = config.min_gain_over_random, challenger.over_random
    if floor is not None and gained is not None:
        theirs = _of(champion.over_random) if champion and champion.over_random else ""
        yield Check(
            "gain over random weights", _of(gained), theirs, f"whole interval above {floor:g}", gained.low > floor
        )
    if config.min_rank is not None and challenger.rank is not None:
        theirs = f"{champion.rank:.1f}" if champion and champion.rank is not None else ""
        passed = challenger.rank >= config.min_rank
        yield Check("effective rank", f"{challenger.rank:.1f}", theirs, f"at least {config.min_rank:g}", passed)
    if champion is None:
        return
    if config.tolerance is not None:
        yield from _other_metrics(challenger, champion, config.tolerance)
    if config.max_class_drop is not None and challenger.recalls:
        yield _classes(challenger, champion, config.max_class_drop)
    megabytes = [one.size_bytes / 1e6 for one in (challenger, champion)]
    yield from _factor("size, MB", megabytes[0], megabytes[1], config.max_size_factor)
    milliseconds = [one.latency_s * 1e3 for one in (challenger, champion)]
    yield from _factor("time of an answer, ms", milliseconds[0], milliseconds[1], config.max_latency_factor)


def _other_metrics(challenger: Measured, champion: Measured, tolerance: float) -> Iterator[Check]:
    for name, ours in list(challenger.metrics.items())[1:]:
        if name in champion.metrics:
            values = ours.score.value, champion.metrics[name].score.value
            loss = (values[1] - values[0]) * (1.0 if ours.higher_is_better else -1.0)
            limit = f"worse by at most {tolerance:g}"
            yield Check(name, f"{values[0]:.4f}", f"{values[1]:.4f}", limit, loss <= tolerance)


def _classes(challenger: Measured, champion: Measured, most: float) -> Check:
    """The class that loses most."""
    both = [name for name in challenger.recalls if name in champion.recalls]
    worst = max(both, key=lambda name: champion.recalls[name] - challenger.recalls[name], default=None)
    limit = f"falls by at most {most:g}"
    if worst is None:
        return Check("recall of every class", "no class in common", "", limit, True)
    ours, theirs = challenger.recalls[worst], champion.recalls[worst]
    return Check(
        f"recall of every class (worst: {worst})", f"{ours:.3f}", f"{theirs:.3f}", limit, theirs - ours <= most
    )


def _factor(name: str, ours: float, theirs: float, most: float | None) -> Iterator[Check]:
    if most is not None:
        limit = f"at most {most:g} times"
        yield Check(name, f"{ours:.2f}", f"{theirs:.2f}", limit, ours <= most * theirs)
