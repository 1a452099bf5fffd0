"""Published results, beside ours only where both measure the same.

`published.csv` holds the fine-tuning tables of the two papers: data2vec (arXiv 2202.03555, tables 1 to 4) and data2vec
2.0 (arXiv 2212.07525), and what repositories of BEiT, MaskFeat and HuBERT state of theirs, in percent. MNLI is the mean
of its two test sets.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

SAME_SIZE = (0.8, 1.25)
"""Ours over theirs: papers and code do not count the same weights."""


@dataclass(frozen=True)
class Published:
    """One result of a paper.

    Attributes:
        modality, data, metric: what was measured, on what, in our names.
        labels: `all`, or minutes such as `10 min`.
        model, size: as the paper calls them.
        parameters: of the encoder.
        value: 0 to 1.
        source: the paper.
    """

    modality: str
    data: str
    metric: str
    labels: str
    model: str
    size: str
    parameters: float
    value: float
    source: str


@dataclass(frozen=True)
class Facts:
    """The facts of our own benchmark.

    Attributes:
        modality: registry name.
        data: name of the corpus.
        metric: the task's first metric.
        labels: amounts of labels that were used, as `Published.labels`; other shares as `10%`.
        parameters: of the encoder.
    """

    modality: str
    data: str
    metric: str
    labels: list[str]
    parameters: int


def amount_of(key: str) -> str:
    """How published tables call an amount of labels.

    Example:
        >>> amount_of("share-1"), amount_of("share-0.1"), amount_of("minutes-60")
        ('all', '10%', '60 min')
    """
    kind, _, amount = key.partition("-")
    if kind == "minutes":
        return f"{amount} min"
    return "all" if float(amount) == 1.0 else f"{100 * float(amount):g}%"


@cache
def published() -> tuple[Published, ...]:
    """All results of the table."""
    text = (files("d2v.comparison") / "published.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            **{name: row[name] for name in ("modality", "data", "metric", "labels", "model", "size", "source")},
            parameters=1e6 * float(row["parameters_millions"]),
            value=float(row["percent"]) / 100,
        )
        for row in csv.DictReader(text.splitlines())
    )


def comparable(facts: Facts) -> list[Published]:
    """The results that measure the same as ours."""
    return [one for one in published() if one.modality == facts.modality and not _differences(facts, [one])]


def why_not_comparable(facts: Facts) -> str:
    """One line: in what ours differs from the published results of its data, or of its modality if there are none."""
    of_modality = [one for one in published() if one.modality == facts.modality]
    of_data = [one for one in of_modality if one.data == facts.data]
    if not of_modality:
        return f"not comparable: there are no published results for {facts.modality}"
    return f"not comparable: {'; '.join(_differences(facts, of_data or of_modality))}"


def _differences(facts: Facts, ones: list[Published]) -> list[str]:
    """In what ours differs from all of some published results."""
    low, high = SAME_SIZE
    sizes = sorted({one.parameters for one in ones})
    pairs = (
        ("data", facts.data, {one.data for one in ones}),
        ("metric", facts.metric, {one.metric for one in ones}),
    )
    lines = [f"{what} {ours}, published {_listed(theirs)}" for what, ours, theirs in pairs if ours not in theirs]
    if not any(low <= facts.parameters / size <= high for size in sizes):
        theirs = " to ".join(dict.fromkeys(f"{size / 1e6:,.0f}" for size in (sizes[0], sizes[-1])))
        lines.append(f"an encoder of {facts.parameters / 1e6:.3g} million parameters, published {theirs}")
    labels = {one.labels for one in ones}
    if not labels & set(facts.labels):
        lines.append(f"labels {_listed(set(facts.labels))}, published {_listed(labels)}")
    return lines


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values))
