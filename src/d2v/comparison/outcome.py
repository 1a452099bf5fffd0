"""The outcome of a benchmark as one file, `benchmark.json`, and time to accuracy: how soon one objective is as good as
another becomes. A report of several modalities is made from such files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import TypeAdapter

from d2v.comparison.comparison import Comparison
from d2v.comparison.label_efficiency_report import Findings
from d2v.comparison.pretraining import Cost, Curve, read_cost, read_curve
from d2v.comparison.probing import Probed
from d2v.comparison.published import Facts, amount_of
from d2v.data.disk import write_json
from d2v.errors import DataError
from d2v.models.shards import count

OUTCOME = "benchmark.json"


# ------------------------------------------------------------------------------------ time to accuracy

Axis = Literal["seconds", "flops"]


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
    """

    objective: str
    baseline: str
    axis: Axis
    best: list[float]
    shares: list[float]
    pairs: int

    def sentence(self) -> str:
        """The mean over the pairs with their range; one pair is reported as an observation."""
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
    their_cost = getattr(theirs, axis)[theirs.accuracy.index(best)]
    costs = (cost for cost, accuracy in zip(getattr(ours, axis), ours.accuracy, strict=True) if accuracy >= best)
    cost = next(costs, None)
    return None if cost is None else cost / their_cost


# --------------------------------------------------------------------------------------------- outcome


@dataclass(frozen=True)
class Outcome:
    """The results of one modality's benchmark.

    Attributes:
        facts: what published results it can be compared with.
        task: name of the task.
        device: where.
        costs: of all pretrainings.
        curves: their online probes.
        findings: the task's.
        probed: frozen features; empty if they cannot be probed.
        why_not_probed: why.
    """

    facts: Facts
    task: str
    device: str
    costs: list[Cost]
    curves: list[Curve]
    findings: Findings
    probed: list[Probed]
    why_not_probed: str | None

    @property
    def first(self) -> str:
        """The objective that the others are compared with."""
        return self.costs[0].objective

    @property
    def objectives(self) -> list[str]:
        """In the order of the recipe."""
        return list(dict.fromkeys(cost.objective for cost in self.costs))

    def speeds(self) -> list[Speed]:
        """The first objective against each other one."""
        return speeds(self.curves, self.first)

    def metrics(self) -> dict[str, float]:
        """For a tracker: the task's and the probes' metrics, the first objective's costs beside the others'."""
        metrics = self.findings.metrics()
        for one in self.probed:
            name = f"probe/{one.probe}_{one.features}"
            metrics |= {name: one.interval.value, f"{name}_low": one.interval.low, f"{name}_high": one.interval.high}
        for cost in self.costs:
            names = ("seconds", "samples", "flops", "peak_memory_mb")
            metrics |= {f"cost/{name}_{cost.objective}_seed_{cost.seed}": float(getattr(cost, name)) for name in names}
        return metrics


_FILE = TypeAdapter(Outcome)


def gather(comparison: Comparison, findings: Findings, probed: list[Probed], why_not_probed: str | None) -> Outcome:
    """The outcome of finished runs."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} thread(s)"
    with torch.device("meta"):
        encoder = comparison.modality.build_encoder(comparison.pretrainings[0].recipe)
    facts = Facts(
        modality=comparison.modality.name,
        data=comparison.prepared.name,
        metric=findings.metric,
        labels=[amount_of(key) for key in findings.items],
        parameters=count(encoder.parameters()),
    )
    return Outcome(
        facts=facts,
        task=comparison.finetune.task.name,
        device=device,
        costs=[read_cost(one) for one in comparison.pretrainings],
        curves=[read_curve(one) for one in comparison.pretrainings],
        findings=findings,
        probed=probed,
        why_not_probed=why_not_probed,
    )


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Write `benchmark.json`: its presence means that the benchmark is finished."""
    write_json(folder / OUTCOME, _FILE.dump_python(outcome, mode="json"))


def read_outcome(folder: Path) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return _FILE.validate_json((folder / OUTCOME).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / OUTCOME} cannot be read ({error}): run kedro run --pipeline=benchmark_<modality> again"
        ) from error
