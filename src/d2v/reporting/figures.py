"""Plots of a training run and of its features, 1200 pixels wide, the same call for every modality.

A modality turns its items into images (n, H, W, 3); tokens lie over an image as a grid of rows and columns.
Shapes: n items, M masks per item, T tokens, D feature width, k neighbours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

WIDTH_IN, DPI = 8.0, 150
LABEL_IN, NAME_IN = 0.9, 0.2  # the width of labels beside rows, the height of names below images
GREEN, RED, BLUE, ORANGE, GREY = "#1a9850", "#d73027", "#3366aa", "#dd7711", "#888888"
HIDDEN_SHADE = np.array([238, 238, 240], dtype=np.float32)
HIDDEN_OPACITY = 0.88
MAP_COLOURS = 20

STYLE = {
    "font.size": 8,
    "font.family": "sans-serif",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "white",
}

Curve = tuple[str, str, str, str]
"""Metric name, label, colour, line style."""

PANELS: tuple[tuple[str, tuple[Curve, ...]], ...] = (
    ("Training loss", (("train/loss", "loss", BLUE, "-"),)),
    ("Learning rate", (("train/lr", "learning rate", BLUE, "-"),)),
    ("EMA decay", (("train/ema_decay", "decay", BLUE, "-"),)),
    (
        "Standard deviation",
        (("train/target_std", "targets", BLUE, "-"), ("train/pred_std", "predictions", ORANGE, "-")),
    ),
    ("Accuracy at masked tokens", (("train/accuracy", "accuracy", BLUE, "-"),)),
    ("Codebook entries in use", (("train/code_perplexity", "perplexity", BLUE, "-"),)),
    (
        "Online probe accuracy",
        (
            ("online/linear", "linear", BLUE, "-"),
            ("online/knn", "kNN", ORANGE, "-"),
            ("online/linear_random", "linear, random weights", BLUE, ":"),
            ("online/linear_baseline", "linear, plain features", GREY, "--"),
        ),
    ),
    (
        "Online choice of pairs",
        (("online/choice", "pretrained", BLUE, "-"), ("online/choice_random", "random weights", BLUE, ":")),
    ),
    ("Effective rank of features", (("online/rank", "rank", BLUE, "-"), ("online/rank_random", "random", BLUE, ":"))),
)


def finetuning_panels(history: pd.DataFrame) -> tuple[tuple[str, tuple[Curve, ...]], ...]:
    """Loss of training and validation in one panel, the learning rate, and a panel for each validated metric."""
    losses = (("train/task_loss", "training", BLUE, "-"), ("val/loss", "validation", ORANGE, "-"))
    named = [name for name in history.columns if name.startswith("val/") and name != "val/loss"]
    panels = [("Loss", losses), ("Learning rate", (("train/lr", "learning rate", BLUE, "-"),))]
    return (*panels, *((f"Validation: {name[4:]}", ((name, name[4:], ORANGE, "-"),)) for name in named))


def draw_curves(history: pd.DataFrame, path: Path, wanted: Sequence[tuple[str, tuple[Curve, ...]]] = PANELS) -> Path:
    """Loss, learning rate, EMA decay, standard deviations, accuracies, probes and rank over updates.

    Args:
        history: column `update` and one column a metric; a metric may be absent from some rows. Panels without
            a single value are left out. A baseline with one value is a level across its panel.
        path: the PNG to write; returned.
        wanted: the panels: titles and curves.
    """
    panels = [(title, [c for c in curves if _has_values(history, c[0])]) for title, curves in wanted]
    panels = [(title, curves) for title, curves in panels if curves]
    columns = min(3, max(len(panels), 1))
    rows = max(math.ceil(len(panels) / columns), 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 2.35 * rows), dpi=DPI, layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
        for ax, (title, curves) in zip(axes, panels, strict=False):
            _draw_panel(ax, title, curves, history)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax in axes[: len(panels)][-columns:]:
            ax.set_xlabel("update")
        return _save(figure, path)


def _has_values(history: pd.DataFrame, name: str) -> bool:
    return name in history and bool(pd.to_numeric(history[name], errors="coerce").notna().any())


def _draw_panel(ax: Axes, title: str, curves: Sequence[Curve], history: pd.DataFrame) -> None:
    for name, label, colour, line in curves:
        points = history[["update", name]].apply(pd.to_numeric, errors="coerce").dropna()
        if len(points) == 1 and line != "-":
            ax.axhline(points[name].iloc[0], color=colour, linestyle=line, label=label, linewidth=1.1)
        else:
            marker = "o" if len(points) <= 20 else None
            ax.plot(points["update"], points[name], line, color=colour, label=label, marker=marker, markersize=3)
    ax.set_title(title)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlim(0, pd.to_numeric(history["update"]).max() * 1.02)
    if len(curves) > 2:
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.17 * len(curves) * (high - low))  # room for the legend above the curves
        ax.legend(loc="upper left", handlelength=1.6)
    elif len(curves) == 2:
        ax.legend(loc="best", handlelength=1.6)


def draw_confusion(counts_CC: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Items of each true class (rows) by the class that a model names (columns); the shade is the share of the row.

    Args:
        counts_CC: items.
        names: of the classes.
        path: the PNG to write; returned.
    """
    count, shares_CC = len(names), counts_CC / np.maximum(counts_CC.sum(axis=1, keepdims=True), 1)
    side = min(WIDTH_IN, 2.2 + 0.34 * count)
    size = max(3.5, min(8.0, 150 / count))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(side, side), dpi=DPI, layout="constrained")
        ax = figure.subplots()
        ax.imshow(shares_CC, cmap="Blues", vmin=0.0, vmax=1.0)
        short = [_name(number, names) for number in range(count)]
        ax.set_xticks(range(count), short, rotation=90, fontsize=size)
        ax.set_yticks(range(count), short, fontsize=size)
        ax.set_xlabel("named by the model")
        ax.set_ylabel("true class")
        for row, column in zip(*np.nonzero(counts_CC), strict=True):
            ink = "white" if shares_CC[row, column] > 0.6 else "#222222"
            ax.text(column, row, f"{counts_CC[row, column]:,}", ha="center", va="center", color=ink, fontsize=size)
        return _save(figure, path)


def draw_codes(counts_CK: np.ndarray, names: Sequence[str], path: Path) -> Path:
    """Shares of classes (rows) among the tokens of each code (columns). Codes stand in the order of their most frequent
    class, so that a good codebook is a diagonal.

    Args:
        counts_CK: tokens of each class that have each code.
        names: of the classes.
        path: the PNG to write; returned.
    """
    used_CK = counts_CK[:, counts_CK.sum(axis=0) > 0]
    shares_CK = used_CK / used_CK.sum(axis=0)
    best_K = shares_CK.argmax(axis=0)
    order_K = np.lexsort((-shares_CK.max(axis=0), best_K))
    count = len(names)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH_IN, min(10.0, 1.2 + 0.14 * count)), dpi=DPI, layout="constrained")
        ax = figure.subplots()
        image = ax.imshow(shares_CK[:, order_K], cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
        ax.set_yticks(
            range(count), [_name(number, names) for number in range(count)], fontsize=max(4.0, 7 - count / 40)
        )
        ax.set_xticks([])
        ax.set_xlabel(f"{used_CK.shape[1]} codes in use")
        figure.colorbar(image, ax=ax, label="share of the code's tokens", fraction=0.03, pad=0.01)
        return _save(figure, path)


def draw_reliability(bins: Sequence[tuple[float, float, int]], path: Path) -> Path:
    """Reliability diagram: how often answers are right over how sure they are, and how many there are.

    Args:
        bins: (mean confidence, share that is right, answers) of each bin that has some.
        path: the PNG to write; returned.
    """
    sure, right, counts = zip(*bins, strict=True)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN / 2, WIDTH_IN / 2), dpi=DPI, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], ":", color=GREY, label="calibrated")
        above.plot(sure, right, "-o", color=BLUE, markersize=4, label="the model")
        above.set(ylim=(0, 1), ylabel="share right")
        above.legend(loc="upper left")
        below.bar(sure, counts, width=0.05, color=ORANGE)
        below.set(xlim=(0, 1), xlabel="confidence", ylabel="answers")
        return _save(figure, path)


def draw_masks(
    images: np.ndarray,
    is_masked: Tensor,
    grid: tuple[int, int],
    path: Path,
    lengths: Tensor | None = None,
    most_masks: int = 4,
) -> Path:
    """Items with their masks; masked tokens are shaded.

    Args:
        images: (n, H, W, 3) uint8.
        is_masked: (n, M, T) bool, True where the student does not see the token.
        grid: (rows, columns) of cells that tokens take in an image, row by row; cells may be left over.
        path: the PNG to write; returned.
        lengths: (n,) tokens that are not padding; None without padding.
        most_masks: masks to show.
    """
    items, masks, tokens = is_masked.shape
    masked = (is_masked.sum(dim=(0, 2)) / (items * tokens if lengths is None else lengths.sum())).tolist()
    rows, labels = [images], ["input"]
    for number in range(min(masks, most_masks)):
        rows.append(shade_hidden(images, is_masked[:, number], grid))
        labels.append(f"mask {number + 1}\n{masked[number]:.0%} masked")
    shown = f"{min(masks, most_masks)} of {masks} masks per item" if masks > 1 else "one mask per item"
    return _draw_rows(rows, labels, f"Visible to the student: {shown}, masked tokens shaded", path)


def shade_hidden(images: np.ndarray, is_masked_nT: Tensor, grid: tuple[int, int]) -> np.ndarray:
    """Images (n, H, W, 3) uint8 with the cells of masked tokens faded out."""
    cells = _in_cells(is_masked_nT, grid).numpy()
    height, width = images.shape[1:3]
    row_of = np.arange(height) * grid[0] // height
    column_of = np.arange(width) * grid[1] // width
    opacity = cells[:, row_of][:, :, column_of, None] * HIDDEN_OPACITY
    return (images * (1.0 - opacity) + HIDDEN_SHADE * opacity).round().astype(np.uint8)


def _in_cells(values_nT: Tensor, grid: tuple[int, int]) -> Tensor:
    """(n, T, ...) in the cells of a grid (n, rows, columns, ...), zero in cells that are left over."""
    cells = values_nT.new_zeros(len(values_nT), grid[0] * grid[1], *values_nT.shape[2:])
    cells[:, : values_nT.shape[1]] = values_nT
    return cells.cpu().unflatten(1, grid)


def draw_pca(
    images: np.ndarray,
    tokens_by_name: Mapping[str, Tensor],
    grid: tuple[int, int],
    path: Path,
    lengths: Tensor | None = None,
) -> Path:
    """The first three principal components of token features as red, green and blue beside the items.

    Args:
        images: (n, H, W, 3) uint8.
        tokens_by_name: encoder name to (n, T, D) token features; one row of images and one projection each.
        grid: (rows, columns) of cells that tokens take in an image, row by row; cells may be left over.
        lengths: (n,) tokens that are not padding; None without padding.
        path: the PNG to write; returned.
    """
    rows, labels = [images], ["input"]
    for name, tokens_nTD in tokens_by_name.items():
        faded = _in_cells(1.0 - project_to_colours(tokens_nTD, lengths), grid)
        rows.append((1.0 - faded).numpy())  # white where there is no token
        labels.append(name)
    title = "Token features: first three principal components as colours, one projection per row"
    return _draw_rows(rows, labels, title, path, smooth=grid[0] > 1 and lengths is None)


def draw_looks(
    images: np.ndarray,
    attention_nT: Tensor,
    tokens_nTD: Tensor,
    grid: tuple[int, int],
    path: Path,
    lengths: Tensor | None = None,
) -> Path:
    """Items, what of them gets attention, and their token features as colours.

    Args:
        images: (n, H, W, 3) uint8.
        attention_nT: what each token gets; brightness is relative to the item's most.
        tokens_nTD: token features.
        grid, path, lengths: see `draw_pca`.
    """
    share_nT = attention_nT / attention_nT.amax(dim=1, keepdim=True).clamp_min(1e-12)
    lit = shade_hidden(images, 1.0 - share_nT, grid)
    colours = (1.0 - _in_cells(1.0 - project_to_colours(tokens_nTD, lengths), grid)).numpy()
    return _draw_rows([images, lit, colours], ["item", "attention", "features"], "What the encoder sees", path)


def draw_map(points_N2: np.ndarray, labels: Sequence[str | None], path: Path) -> Path:
    """Items as points of a plane, in the colour of their class.

    Args:
        points_N2: where they lie.
        labels: name of the class of each, None for none. The most frequent classes have a colour of their own.
        path: the PNG to write; returned.
    """
    counts = Counter(label for label in labels if label is not None)
    named = sorted(label for label, _ in counts.most_common(MAP_COLOURS))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH_IN, WIDTH_IN * 0.75), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        size = float(np.clip(4_000 / len(points_N2), 4, 40))
        for name in (None, *named):
            is_one_N = np.array([(label if label in named else None) == name for label in labels], dtype=bool)
            colour = GREY if name is None else matplotlib.colormaps["tab20"](named.index(name))
            shown = name or ("other classes" if counts else "items")
            if is_one_N.any():
                axes.scatter(
                    points_N2[is_one_N, 0], points_N2[is_one_N, 1], s=size, color=colour, label=shown, linewidths=0
                )
        axes.set(xticks=[], yticks=[])
        if counts:
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=math.sqrt(20 / size))
        return _save(figure, path)


def project_to_colours(tokens_nTD: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(n, T, D) features to (n, T, 3) colours in [0, 1] by one PCA over all items and tokens; padding is white.

    Each component spans its 2nd to 98th percentile; its sign is such that its largest loading is positive.
    """
    count, tokens = tokens_nTD.shape[:2]
    lengths = torch.full((count,), tokens) if lengths is None else lengths.cpu()
    is_real_nT = torch.arange(tokens) < lengths[:, None]
    flat_ND = tokens_nTD[is_real_nT].double()
    flat_ND = flat_ND - flat_ND.mean(dim=0)
    _, axes_DD = torch.linalg.eigh(flat_ND.T @ flat_ND)
    axes_D3 = axes_DD[:, -3:].flip(1)
    peak = axes_D3.gather(0, axes_D3.abs().argmax(dim=0, keepdim=True))
    projected_N3 = flat_ND @ (axes_D3 * peak.sign())
    some_N3 = projected_N3[:: max(len(projected_N3) // 100_000, 1)]  # torch.quantile refuses 16 million values
    low, high = torch.quantile(some_N3, projected_N3.new_tensor([0.02, 0.98]), dim=0)
    colours = ((projected_N3 - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    if colours.shape[1] < 3:
        colours = torch.nn.functional.pad(colours, (0, 3 - colours.shape[1]), value=0.5)
    return torch.ones(count, tokens, 3).masked_scatter(is_real_nT.unsqueeze(-1), colours.float())


def draw_neighbours(
    queries: np.ndarray,
    neighbours: np.ndarray,
    path: Path,
    query_labels: Sequence[int] | None = None,
    neighbour_labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> Path:
    """Query items with their nearest items, nearest first.

    Args:
        queries: (n, H, W, 3) uint8.
        neighbours: (n, k, H, W, 3) uint8.
        path: the PNG to write; returned.
        query_labels, neighbour_labels: (n,) and (n, k) class ids; with both, a neighbour of the query's class has
            a green border and another a red one.
        class_names: names by class id.
    """
    count, k = neighbours.shape[:2]
    labelled = query_labels is not None and neighbour_labels is not None
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        row_in = WIDTH_IN / (k + 1.3) * queries.shape[1] / queries.shape[2] + NAME_IN
        figure = Figure(figsize=(WIDTH_IN, row_in * count + 0.55), dpi=DPI, layout="constrained")
        axes = figure.subplots(count, k + 1, squeeze=False)
        for row in range(count):
            label = query_labels[row] if query_labels is not None else None
            _draw_cell(axes[row, 0], queries[row], _name(label, class_names), "#222222")
            for column in range(k):
                other = int(neighbour_labels[row, column]) if neighbour_labels is not None else None
                colour = (GREEN if other == label else RED) if labelled else "#dddddd"
                _draw_cell(axes[row, column + 1], neighbours[row, column], _name(other, class_names), colour)
        axes[0, 0].set_title("query", fontsize=9)
        axes[0, 1].set_title("nearest first", fontsize=9)
        meaning = "green: same class, red: another class" if labelled else "unlabelled items"
        figure.suptitle(f"Nearest neighbours by cosine similarity ({meaning})", fontsize=10, weight="bold")
        return _save(figure, path)


def _name(label: int | None, class_names: Sequence[str]) -> str:
    if label is None or label < 0:
        return ""
    name = class_names[label] if label < len(class_names) else str(label)
    return name if len(name) <= 14 else name[:13] + "…"


def _draw_cell(ax: Axes, image: np.ndarray, name: str, border: str) -> None:
    ax.imshow(image, interpolation="auto")
    ax.set(xticks=[], yticks=[])
    ax.set_xlabel(name, fontsize=7, labelpad=1.5)
    for spine in ax.spines.values():
        spine.set(visible=True, color=border, linewidth=2.2)


def _draw_rows(rows: Sequence[np.ndarray], labels: Sequence[str], title: str, path: Path, smooth: bool = False) -> Path:
    """One row of images under another, labelled at the left; `smooth` interpolates all but the first row."""
    columns = len(rows[0])
    height_in = (WIDTH_IN - LABEL_IN) / columns * rows[0].shape[1] / rows[0].shape[2]
    extent = (0.0, float(rows[0].shape[2]), float(rows[0].shape[1]), 0.0)
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH_IN, height_in * 1.06 * len(rows) + 0.45), dpi=DPI, layout="constrained")
        axes = figure.subplots(len(rows), columns, squeeze=False)
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            interpolation = "bicubic" if smooth and number else "auto"
            for ax, image in zip(axes[number], row, strict=True):
                ax.imshow(image, interpolation=interpolation, extent=extent)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
            axes[number, 0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8.5)
        figure.suptitle(title, fontsize=10, weight="bold")
        return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
