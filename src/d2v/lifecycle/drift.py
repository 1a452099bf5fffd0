"""Drift: whether new items have the distribution of old ones in an encoder's space to search in, or in its plain
features where it has no such space.

Maximum mean discrepancy (Gretton et al. 2012, "A Kernel Two-Sample Test") with a Gaussian kernel whose width is the
median distance, and a p-value from permutations: it needs no assumption on how features are distributed.

Shapes: N old items, M new items, D feature width, P permutations.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from d2v.config import DriftConfig, parse
from d2v.errors import DataError
from d2v.evaluation.probe_set import some_rows
from d2v.evaluation.search_space import SearchSpace
from d2v.lifecycle.embeddings import embed_some, read_reference
from d2v.lifecycle.symlink_views import as_known_by, some_items
from d2v.modalities.base import Modality
from d2v.model_folder import load_encoder
from d2v.tracking.versions import Fetched

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Drift:
    """The result of the test.

    Attributes:
        statistic: the unbiased estimate of the squared discrepancy; about 0 without drift.
        p_value: share of permutations with as large a statistic.
        drifted: p is at most the configured level.
        null_P: the statistic of every permutation.
        old_ND, new_MD: the features that were compared.
    """

    statistic: float
    p_value: float
    drifted: bool
    null_P: np.ndarray
    old_ND: Tensor
    new_MD: Tensor


def compare(old_ND: Tensor, new_MD: Tensor, config: DriftConfig) -> Drift:
    """Test whether two samples of features come from one distribution.

    Args:
        old_ND: features of the champion's items; more than `config.items` are thinned out.
        new_MD: features of new items.
        config: how many, and the level.

    Raises:
        DataError: fewer than two items on a side.
    """
    old_ND = old_ND[some_rows(len(old_ND), config.items, config.seed)]
    new_MD = new_MD[some_rows(len(new_MD), config.items, config.seed)]
    if min(len(old_ND), len(new_MD)) < 2:
        raise DataError(
            f"Drift needs two items of either side, not {len(old_ND)} old and {len(new_MD)} new ones: raise "
            "retrain.drift.items"
        )
    kernel_SS = _kernel(_standardised(old_ND, new_MD))
    labels_S = np.arange(len(kernel_SS)) < len(old_ND)
    random = np.random.default_rng(config.seed)
    permuted_PS = np.stack([random.permutation(labels_S) for _ in range(config.permutations)])
    statistic, *null = _discrepancies(kernel_SS, np.concatenate([labels_S[None], permuted_PS]))
    # With the observed one among them, p is never 0 and the level is kept exactly.
    p_value = (1 + int(np.sum(np.array(null) >= statistic))) / (1 + len(null))
    return Drift(float(statistic), p_value, p_value <= config.level, np.array(null), old_ND, new_MD)


def _standardised(old_ND: Tensor, new_MD: Tensor) -> Tensor:
    """(N + M, D) in units of the old items' spread, so that no single large channel decides."""
    std_D = old_ND.std(dim=0).clamp_min(1e-6)
    return torch.cat([old_ND, new_MD]).double() / std_D


def _kernel(features_SD: Tensor) -> np.ndarray:
    """(S, S) exp(-distance^2 / (2 median^2)) with zeros on the diagonal, as the unbiased estimate leaves it out."""
    squares_SS = torch.cdist(features_SD, features_SD).square()
    away = squares_SS[~torch.eye(len(squares_SS), dtype=torch.bool)]
    kernel_SS = torch.exp(-squares_SS / (2.0 * away.median().clamp_min(1e-12)))
    return kernel_SS.fill_diagonal_(0.0).numpy()


def _discrepancies(kernel_SS: np.ndarray, is_old_PS: np.ndarray) -> np.ndarray:
    """(P,) unbiased MMD^2 = mean k(x, x') + mean k(y, y') - 2 mean k(x, y) of each assignment of the items."""
    old_PS, new_PS = is_old_PS.astype(np.float64), (~is_old_PS).astype(np.float64)
    n, m = old_PS[0].sum(), new_PS[0].sum()
    to_old_PS = old_PS @ kernel_SS
    within_old, across = (to_old_PS * old_PS).sum(axis=1), (to_old_PS * new_PS).sum(axis=1)
    within_new = kernel_SS.sum() - within_old - 2.0 * across
    discrepancy: np.ndarray = within_old / (n * (n - 1)) + within_new / (m * (m - 1)) - 2.0 * across / (n * m)
    return discrepancy


# ----------------------------------------------------------------------------------------- of a corpus


def of_new_items(
    champion: Fetched, modality: Modality, prepare: Any, corpus: Path, chosen: np.ndarray, config: DriftConfig
) -> Drift | str:
    """Compare new items of a corpus with those that the champion was trained on, without needing the old ones.

    Args:
        champion: its encoder, and the sample of embeddings that was taken when it was registered.
        modality: what the data is.
        prepare: the prepare block that fits the champion.
        corpus: folder that ingest left.
        chosen: (n,) bool, the new items by the manifest's rows.
        config: the drift block.

    Returns:
        The drift, or why it is not known.
    """
    reference = read_reference(champion.lineage)
    if reference is None:
        return "the champion was registered without a sample of its embeddings"
    encoder, about = load_encoder(champion.model)
    space = SearchSpace.read(champion.model) if "search" in reference else None
    recipe = parse(modality.train_config, about["recipe"], at="recipe")
    with tempfile.TemporaryDirectory() as scratch:
        try:
            new = some_items(corpus, chosen, Path(scratch) / "corpus")
            modality.prepare(prepare, new, Path(scratch) / "prepared")
        except DataError as reason:
            return f"the new items alone cannot be prepared ({reason})"
        known = as_known_by(about, modality, Path(scratch) / "prepared", Path(scratch) / "known")
        data = modality.open(known)
        if data.num_train < config.min_items:
            return f"{data.num_train} new training items are fewer than retrain.drift.min_items={config.min_items}"
        features = embed_some(encoder, data, recipe, config.items, config.seed, space)
        compared = "plain" if space is None else "search"
        return compare(reference[compared], features[compared], config)


# ------------------------------------------------------------------------------------------------ plot


def draw_drift(drift: Drift, path: Path) -> Path:
    """The two first principal components of both samples beside the null distribution of the discrepancy.

    Args:
        drift: what was found.
        path: the PNG to write; returned.
    """
    import matplotlib  # half a second that a comparison without a plot does not need
    from matplotlib.figure import Figure

    from d2v.reporting.figures import DPI, STYLE, WIDTH_IN

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 3.4), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_items(left, drift)
        _draw_null(right, drift)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    return path


def _draw_items(ax: Axes, drift: Drift) -> None:
    from d2v.reporting.figures import GREY, ORANGE

    centre_D = drift.old_ND.mean(dim=0)
    _, _, axes_DD = torch.linalg.svd((drift.old_ND - centre_D).double(), full_matrices=False)
    for features, colour, label in ((drift.old_ND, GREY, "champion's items"), (drift.new_MD, ORANGE, "new items")):
        flat = (features - centre_D).double() @ axes_DD[:2].T
        ax.scatter(flat[:, 0], flat[:, 1], s=7, color=colour, alpha=0.6, linewidths=0, label=label)
    ax.set_title("Items in the champion's space (PCA)")
    ax.legend(loc="best")


def _draw_null(ax: Axes, drift: Drift) -> None:
    from d2v.reporting.figures import BLUE, RED

    ax.hist(drift.null_P, bins=40, color=BLUE, alpha=0.6, label="if nothing had changed")
    ax.axvline(drift.statistic, color=RED, label=f"measured, p = {drift.p_value:.3g}")
    ax.set_title("Squared maximum mean discrepancy")
    ax.set_ylabel("permutations")
    ax.legend(loc="best")
