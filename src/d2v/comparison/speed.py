"""How soon one objective is as good as another becomes: time to accuracy.

The best figure of a baseline's online probe is looked up in the other's curve, for every pair of seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from d2v.comparison.pretraining import Curve

Axis = Literal["seconds", "flops"]


@dataclass(frozen=True)
class Speed:
    """What share of a baseline's way to its best figure an objective needs to reach it.

    Attributes:
        objective: the one that is looked at.
        baseline: whose best figure is to be reached.
        axis: what the way is measured in.
        best: the baseline's best accuracy, of each of its seeds.
        shares: of the pairs of seeds that reached it, ascending; above 1 is slower.
        pairs: how many pairs of seeds there are.
    """

    objective: str
    baseline: str
    axis: Axis
    best: list[float]
    shares: list[float]
    pairs: int

    def sentence(self) -> str:
        """What the pairs say, with their range; of one pair, that it is no more than an observation."""
        of = {"seconds": "time", "flops": "floating point operations"}[self.axis]
        best = f"the best online probe of {self.baseline} ({_range(self.best, '.3f')})"
        if not self.shares:
            return f"{self.objective} does not reach {best} in its budget ({_pairs(self.pairs)})."
        shares = _range(self.shares, ".2f")
        if self.pairs == 1:
            return f"{self.objective} reaches {best} after {shares} of its {of}: one pair of seeds, so no interval."
        if len(self.shares) < self.pairs:
            return (
                f"{self.objective} reaches {best} in {len(self.shares)} of {_pairs(self.pairs)}, there after {shares} "
                f"of its {of}, and not in the others."
            )
        mean = sum(self.shares) / self.pairs
        return f"{self.objective} reaches {best} after {mean:.2f} of its {of} ({shares} over {_pairs(self.pairs)})."


def _pairs(count: int) -> str:
    return f"{count} pair{'s' if count > 1 else ''} of seeds"


def _range(values: Sequence[float], shape: str) -> str:
    low, high = f"{min(values):{shape}}", f"{max(values):{shape}}"
    return low if low == high else f"{low} to {high}"


def speeds(curves: Sequence[Curve], first: str) -> list[Speed]:
    """The first objective against each other one, in time and in operations; none without probes."""
    by_name: dict[str, list[Curve]] = {}
    for curve in curves:
        by_name.setdefault(curve.objective, []).append(curve)
    if not all(curve.accuracy for curve in curves):
        return []
    axes: tuple[Axis, ...] = ("seconds", "flops")
    return [_speed(by_name[first], theirs, axis) for axis in axes for name, theirs in by_name.items() if name != first]


def _speed(ours: Sequence[Curve], theirs: Sequence[Curve], axis: Axis) -> Speed:
    shares = [share for their in theirs for our in ours if (share := _share(our, their, axis)) is not None]
    return Speed(
        objective=ours[0].objective,
        baseline=theirs[0].objective,
        axis=axis,
        best=[max(their.accuracy) for their in theirs],
        shares=sorted(shares),
        pairs=len(ours) * len(theirs),
    )


def _share(ours: Curve, theirs: Curve, axis: Axis) -> float | None:
    """At the first probe that is as good, without interpolation: never too early."""
    best = max(theirs.accuracy)
    their_way = getattr(theirs, axis)[theirs.accuracy.index(best)]
    ways = (way for way, accuracy in zip(getattr(ours, axis), ours.accuracy, strict=True) if accuracy >= best)
    way = next(ways, None)
    return None if way is None else way / their_way
