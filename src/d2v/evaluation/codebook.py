"""How well the codes of a prepared codebook tell classes of tokens that it was not made from, as table and picture.

Shape legend: C classes, K codes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2v.modalities.probes import CodeCounts
from d2v.reporting.figures import draw_codes
from d2v.reporting.report import Part, Plot
from d2v.reporting.tables import Table

PICTURE = "codebook.png"
ITEMS = 200
"""Train items that are counted: about 50,000 labels of recordings."""

Counts = NDArray[np.int64]
"""(C, K) tokens of each class that have each code."""


def quality(counts_CK: Counts) -> dict[str, float]:
    """How well codes tell classes, by the measures of Hsu et al. 2021 and normalised mutual information.

    Returns:
        `purity`: share of tokens whose class is the most frequent one of their code, and `purity_chance`, the share of
        the most frequent class; `cluster_purity`: share whose code is the most frequent one of their class, and
        `cluster_purity_chance`, the share of the most frequent code; `pnmi`: mutual information over the entropy of
        classes, and `nmi`: over the mean of both entropies, each 0 by chance; `codes_in_use`.
    """
    from scipy.stats import entropy  # imported late: only reports need these
    from sklearn.metrics import mutual_info_score

    total, of_class, of_code = counts_CK.sum(), counts_CK.sum(axis=1), counts_CK.sum(axis=0)
    of_classes, of_codes = float(entropy(of_class)), float(entropy(of_code))
    information = float(mutual_info_score(None, None, contingency=counts_CK))
    return {
        "purity": float(counts_CK.max(axis=0).sum() / total),
        "purity_chance": float(of_class.max() / total),
        "cluster_purity": float(counts_CK.max(axis=1).sum() / total),
        "cluster_purity_chance": float(of_code.max() / total),
        "pnmi": information / of_classes if of_classes else 0.0,
        "nmi": 2.0 * information / (of_classes + of_codes) if of_classes else 0.0,
        "codes_in_use": float(np.count_nonzero(of_code)),
    }


def codebook_metrics(counted: CodeCounts) -> dict[str, float]:
    """`codebook/<name>` for a tracker, of all tokens."""
    return {f"codebook/{name}": value for name, value in quality(np.array(counted.counts)).items()}


def codebook_parts(counted: CodeCounts, picture: Path) -> list[Part]:
    """A table, its words, and a picture that is written to `picture`."""
    counts_CK = np.array(counted.counts)
    rows = [_row("all", counts_CK)]
    if counted.silence is not None and len(counted.names) > 1:
        is_said = np.array([name != counted.silence for name in counted.names])
        rows.append(_row("without silence", counts_CK[is_said]))
    title = f"Codes of {counted.codebook} beside {len(counted.names)} {counted.classes}, {counted.items:,} items"
    columns = ("tokens", "number", "codes in use", "purity", "chance", "cluster purity", "by chance", "PNMI", "NMI")
    words = (
        f"The codes were not made from the {counted.classes}. Purity: share of tokens whose class is the most frequent "
        "one of their code. Cluster purity: share whose code is the most frequent one of their class. Chance: always "
        "naming the most frequent class, or code. PNMI: mutual information over the entropy of classes; NMI: over the "
        "mean of both entropies; both are 0 by chance."
    )
    caption = f"Shares of {counted.classes} (rows, the most frequent on top) among the tokens of each code (columns)."
    return [Table(title, columns, tuple(rows)), words, Plot(draw_codes(counts_CK, counted.names, picture), caption)]


def _row(name: str, counts_CK: Counts) -> tuple[str, ...]:
    of = quality(counts_CK)
    measured = ("purity", "purity_chance", "cluster_purity", "cluster_purity_chance", "pnmi", "nmi")
    in_use = f"{of['codes_in_use']:.0f} of {counts_CK.shape[1]}"
    return (name, f"{counts_CK.sum():,}", in_use, *(f"{of[one]:.3f}" for one in measured))
