"""Time to accuracy: how soon one objective is as good as another becomes, by the online probe during pretraining.

The probe's items are held-out training items, the same for every run. The share of two seeds is the cost after which
one objective's curve first is as high as the other's ever gets, over the other's cost until then; never is infinite.
Of several seeds the median over all pairs counts, which infinite ones do not spoil.

Shapes: K probes of a run, N items, R resamples, I and J seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from d2v.comparison.pretraining import Curve
from d2v.statistics import LEVEL, draw_seeds

Axis = Literal["seconds", "flops", "samples"]
AXES: dict[Axis, str] = {"seconds": "time", "flops": "floating point operations", "samples": "samples"}


@dataclass(frozen=True)
class Speed:
    """Time to accuracy: the share of a baseline's cost of its best metric after which an objective reaches it.

    Attributes:
        objective: the one that is looked at.
        baseline: whose best metric is to be reached.
        axis: the cost.
        best: the baseline's best accuracy, of each of its seeds.
        shares: of the pairs of seeds that reached it, ascending; above 1 is slower.
        pairs: how many pairs of seeds there are.
        interval: low and high end of the median over all pairs, over seeds and the probe's items; an end is None where
            the accuracy is not reached. There is no interval for one pair, or for runs that kept no items.
    """

    objective: str
    baseline: str
    axis: Axis
    best: list[float]
    shares: list[float]
    pairs: int
    interval: tuple[float | None, float | None] | None = None

    @property
    def verdict(self) -> str:
        """`sooner` or `later` where the interval leaves out 1."""
        if self.interval is None:
            return ""
        low, high = (np.inf if end is None else end for end in self.interval)
        if low > 1.0:
            return "later"
        return "sooner" if high < 1.0 else "not told apart"

    def sentence(self) -> str:
        """The median over the pairs with its interval; one pair is reported as an observation."""
        best = f"the best online probe of {self.baseline} ({_range(self.best, '.3f')})"
        if not self.shares:
            return f"{self.objective} does not reach {best} in its budget ({_pairs(self.pairs)})."
        of, shares = AXES[self.axis], _range(self.shares, ".2f")
        if self.pairs == 1:
            return f"{self.objective} reaches {best} after {shares} of its {of}: one pair of seeds, so no interval."
        missed, interval = self.pairs - len(self.shares), self._said_interval()
        middle = float(np.median([*self.shares, *[np.inf] * missed]))
        if np.isinf(middle):
            return (
                f"{self.objective} reaches {best} in {len(self.shares)} of {_pairs(self.pairs)}, there after {shares} "
                f"of its {of}, and not in the others{interval}."
            )
        never = f", never in {missed} of them" if missed else ""
        return (
            f"{self.objective} reaches {best} after {middle:.2f} of its {of} ({shares} over {_pairs(self.pairs)}"
            f"{never}{interval})."
        )

    def _said_interval(self) -> str:
        if self.interval is None:
            return ""
        low, high = ("never" if end is None else f"{end:.2f}" for end in self.interval)
        return f"; 95% over seeds and items: {low} to {high}, {self.verdict}"


def _pairs(count: int) -> str:
    return f"{count} pair{'s' if count > 1 else ''} of seeds"


def _range(values: Sequence[float], shape: str) -> str:
    low, high = f"{min(values):{shape}}", f"{max(values):{shape}}"
    return low if low == high else f"{low} to {high}"


def speeds(
    curves: Sequence[Curve],
    first: str,
    right: Mapping[tuple[str, int], np.ndarray] | None = None,
    resamples: int = 1000,
) -> list[Speed]:
    """The first objective against each other one and each other one against the first, by every cost.

    Args:
        curves: of all seeds of all objectives.
        first: objective.
        right: for each objective and seed, (K, N) bool: which items each probe named right; those of a run that kept
            none are absent. There are intervals where all runs kept the same number of items.
        resamples: of the intervals.

    Returns:
        none where a run was not probed.
    """
    by_name: dict[str, list[Curve]] = {}
    for curve in curves:
        by_name.setdefault(curve.objective, []).append(curve)
    if not all(curve.accuracy for curve in curves):
        return []
    others = [name for name in by_name if name != first]
    pairs = [(first, other) for other in others] + [(other, first) for other in others]
    axes = [axis for axis in AXES if all(getattr(curve, axis) for curve in curves)]
    resampled = _resampled(curves, right or {}, resamples)
    return [_speed(by_name[one], by_name[other], axis, resampled) for axis in axes for one, other in pairs]


def _resampled(
    curves: Sequence[Curve], right: Mapping[tuple[str, int], np.ndarray], resamples: int
) -> dict[tuple[str, int], np.ndarray]:
    """(R, K) accuracies of each run on resamples of the items, the same ones for all runs; none where items differ."""
    kept = [right[key].shape[1] for one in curves if (key := (one.objective, one.seed)) in right]
    if len(kept) != len(curves) or len(set(kept)) > 1:
        return {}
    items = kept[0]
    counts_RN = np.random.default_rng(0).multinomial(items, np.full(items, 1.0 / items), size=resamples)
    return {key: counts_RN @ right_KN.T.astype(np.float64) / items for key, right_KN in right.items()}


def _speed(
    ours: Sequence[Curve], theirs: Sequence[Curve], axis: Axis, resampled: Mapping[tuple[str, int], np.ndarray]
) -> Speed:
    shares_IJ = np.array([[_share(our, their, axis) for their in theirs] for our in ours])
    return Speed(
        objective=ours[0].objective,
        baseline=theirs[0].objective,
        axis=axis,
        best=[max(their.accuracy) for their in theirs],
        shares=sorted(shares_IJ[np.isfinite(shares_IJ)].tolist()),
        pairs=shares_IJ.size,
        interval=_interval(ours, theirs, axis, resampled) if resampled and shares_IJ.size > 1 else None,
    )


def _share(ours: Curve, theirs: Curve, axis: Axis) -> float:
    """At the first probe that is as good, without interpolation: never too early."""
    our_1K, their_1K = (np.array(curve.accuracy)[None] for curve in (ours, theirs))
    return float(_shares(our_1K, their_1K, np.array(getattr(ours, axis)), np.array(getattr(theirs, axis)))[0])


def _shares(our_RK: np.ndarray, their_RK: np.ndarray, our_cost_K: np.ndarray, their_cost_K: np.ndarray) -> np.ndarray:
    """(R,) our cost at the first probe as good as their best, over their cost at that; infinite if there is none."""
    reached_RK = our_RK >= their_RK.max(axis=1, keepdims=True)
    cost_R = np.where(reached_RK.any(axis=1), our_cost_K[reached_RK.argmax(axis=1)], np.inf)
    return cost_R / their_cost_K[their_RK.argmax(axis=1)]


def _interval(
    ours: Sequence[Curve], theirs: Sequence[Curve], axis: Axis, resampled: Mapping[tuple[str, int], np.ndarray]
) -> tuple[float | None, float | None]:
    """Each resample draws seeds of either side and items."""

    def of(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
        return resampled[curve.objective, curve.seed], np.array(getattr(curve, axis))

    our_side, their_side = ([of(curve) for curve in side] for side in (ours, theirs))
    shares_RIJ = np.stack(
        [
            np.stack([_shares(our, their, our_cost, their_cost) for their, their_cost in their_side], axis=1)
            for our, our_cost in our_side
        ],
        axis=1,
    )
    resamples = len(shares_RIJ)
    drawn_RI, drawn_RJ = draw_seeds(len(ours), resamples, 1), draw_seeds(len(theirs), resamples, 2)
    chosen_RIJ = shares_RIJ[np.arange(resamples)[:, None, None], drawn_RI[:, :, None], drawn_RJ[:, None, :]]
    medians_R = np.sort(np.median(chosen_RIJ.reshape(resamples, -1), axis=1))
    low, high = (float(medians_R[round(end * (resamples - 1))]) for end in ((1.0 - LEVEL) / 2, (1.0 + LEVEL) / 2))
    return low if np.isfinite(low) else None, high if np.isfinite(high) else None
