"""Old and new items in the champion's space, and how unlikely their distance is."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from d2v.lifecycle.drift import Drift
from d2v.reporting.figures import BLUE, DPI, GREY, ORANGE, RED, STYLE, WIDTH_IN


def draw_drift(drift: Drift, path: Path) -> Path:
    """The two first principal components of both samples beside the null distribution of the discrepancy."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 3.4), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_items(left, drift)
        _draw_null(right, drift)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw_items(ax: Axes, drift: Drift) -> None:
    centre_D = drift.old_ND.mean(dim=0)
    _, _, axes_DD = torch.linalg.svd((drift.old_ND - centre_D).double(), full_matrices=False)
    for features, colour, label in ((drift.old_ND, GREY, "champion's items"), (drift.new_MD, ORANGE, "new items")):
        flat = (features - centre_D).double() @ axes_DD[:2].T
        ax.scatter(flat[:, 0], flat[:, 1], s=7, color=colour, alpha=0.6, linewidths=0, label=label)
    ax.set_title("Items in the champion's space (PCA)")
    ax.legend(loc="best")


def _draw_null(ax: Axes, drift: Drift) -> None:
    ax.hist(drift.null_P, bins=40, color=BLUE, alpha=0.6, label="if nothing had changed")
    ax.axvline(drift.statistic, color=RED, label=f"measured, p = {drift.p_value:.3g}")
    ax.set_title("Squared maximum mean discrepancy")
    ax.set_ylabel("permutations")
    ax.legend(loc="best")
