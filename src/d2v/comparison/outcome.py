"""The outcome of a benchmark as one file, `benchmark.json`. A report of several modalities is made from such files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import TypeAdapter

from d2v.comparison.comparison import Comparison
from d2v.comparison.label_efficiency_report import Findings
from d2v.comparison.pretraining import Cost, Curve, probe_of, read_cost, read_curve, read_right
from d2v.comparison.probing import Probed
from d2v.comparison.published import Facts, amount_of
from d2v.comparison.time_to_accuracy import Speed, speeds
from d2v.comparison.trials import Trial
from d2v.data.disk import write_json
from d2v.errors import DataError
from d2v.evaluation.codebook import ITEMS, codebook_metrics
from d2v.modalities.probes import CodeCounts
from d2v.models.shards import count

OUTCOME = "benchmark.json"


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
        trials: that chose the objectives' settings; none in files of before.
        timed: time to accuracy, with intervals; None in files of before.
        codes: of the codebook that one of the objectives learns; None without one, and in files of before.
    """

    facts: Facts
    task: str
    device: str
    costs: list[Cost]
    curves: list[Curve]
    findings: Findings
    probed: list[Probed]
    why_not_probed: str | None
    trials: list[Trial] = field(default_factory=list)
    timed: list[Speed] | None = None
    codes: CodeCounts | None = None

    @property
    def first(self) -> str:
        """The objective that the others are compared with."""
        return self.costs[0].objective

    @property
    def objectives(self) -> list[str]:
        """In the order of the recipe."""
        return list(dict.fromkeys(cost.objective for cost in self.costs))

    def speeds(self) -> list[Speed]:
        """The first objective against each other one, and each of these against the first."""
        return speeds(self.curves, self.first) if self.timed is None else self.timed

    def metrics(self) -> dict[str, float]:
        """For a tracker: the task's and the probes' metrics, the first objective's costs beside the others'."""
        metrics = self.findings.metrics()
        for one in self.probed:
            name = f"probe/{one.probe}_{one.features}"
            metrics |= {name: one.interval.value, f"{name}_low": one.interval.low, f"{name}_high": one.interval.high}
        for cost in self.costs:
            names = ("seconds", "samples", "flops", "peak_memory_mb")
            metrics |= {f"cost/{name}_{cost.objective}_seed_{cost.seed}": float(getattr(cost, name)) for name in names}
        return metrics if self.codes is None else metrics | codebook_metrics(self.codes)


_FILE = TypeAdapter(Outcome)


def gather(
    comparison: Comparison, findings: Findings, probed: list[Probed], why_not_probed: str | None, trials: list[Trial]
) -> Outcome:
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
    probe = probe_of(comparison.pretrainings)
    curves = [read_curve(one, probe) for one in comparison.pretrainings]
    kept = {(one.objective, one.seed): read_right(one, probe) for one in comparison.pretrainings}
    right = {key: right_KN for key, right_KN in kept.items() if right_KN is not None}
    return Outcome(
        facts=facts,
        task=comparison.finetune.task.name,
        device=device,
        costs=[read_cost(one) for one in comparison.pretrainings],
        curves=curves,
        findings=findings,
        probed=probed,
        why_not_probed=why_not_probed,
        trials=trials,
        timed=speeds(curves, curves[0].objective, right, comparison.evaluate.bootstrap_resamples),
        codes=comparison.modality.code_counts(comparison.modality.open(comparison.prepared), ITEMS),
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
