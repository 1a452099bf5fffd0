"""Probe metrics as people read them: a table of accuracies, a table of differences, one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from d2v.reporting.tables import Table

Metrics = Mapping[str, float]

PROBES = (("linear", "linear %"), ("knn", "kNN %"), ("knn_search", "kNN, search space %"))
ONLINE_PROBES = PROBES[:2]
PROBE_NAMES = {"linear": "the linear probe", "knn": "kNN", "knn_search": "kNN in the search space"}
FEATURES = (("", "pretrained"), ("_random", "random weights"))
GAIN_OVER_BEST = "probe/gain_over_best"
"""Metric: the best probe of the pretrained encoder against the best baseline that is shown."""


def has_accuracies(metrics: Metrics) -> bool:
    """Whether the data had labels to probe with."""
    return "probe/linear" in metrics


def _measured(metrics: Metrics) -> list[tuple[str, str]]:
    """The probes of these metrics: those of earlier versions lack the search space."""
    return [(probe, column) for probe, column in PROBES if f"probe/{probe}" in metrics]


def accuracy_table(metrics: Metrics, baseline: str) -> Table:
    """One row a kind of features: percent of test items named right with 95% intervals, and effective rank (RankMe).

    `baseline` names the plain features, such as "raw pixels".
    """
    probes = _measured(metrics)
    rows = [
        (label, *(_accuracy(metrics, f"probe/{probe}{suffix}") for probe, _ in probes), _rank(metrics, suffix))
        for suffix, label in (*FEATURES, ("_baseline", baseline))
        if f"probe/rank{suffix}" in metrics or probes
    ]
    if probes and "probe/majority" in metrics:
        share = _percent(metrics["probe/majority"])
        rows.append(("always the largest class", *(share for _ in probes), ""))
    title = "Probes of frozen features (95% interval)" if probes else "Frozen features"
    return Table(title, ("features", *(column for _, column in probes), "rank"), tuple(rows))


def difference_table(metrics: Metrics, baseline: str) -> Table:
    """One row a baseline: percentage points that the pretrained encoder is ahead, paired over the test items."""
    others = (("_random", "random weights"), ("_baseline", baseline))
    probes = _measured(metrics)
    rows = [(f"over {label}", *(_gain(metrics, probe, suffix) for probe, _ in probes)) for suffix, label in others]
    columns = tuple(column.replace("%", "points") for _, column in probes)
    return Table("Pretrained ahead by (95% interval, same test items)", ("", *columns), tuple(rows))


FURTHER = (
    "Probes without labels. Forced choice and halves: of an item as it is and the same with its parts exchanged, every "
    "token is masked once, and the one that the pretraining objective foresees better counts as whole; guessing gets "
    "50%, and so does whatever does not know about order, such as a bag of words. Masked word, punctuation and source: "
    "classifiers on frozen features. Minimal pairs: the sentence of the higher pseudo-log-likelihood, by the "
    "classifier of masked words. The last column is the best of counts of words, or plain features; guessing where "
    "there is neither."
)

FURTHER_ROWS = {
    "forced_choice": "forced choice",
    "halves": "which is whole, halves exchanged",
    "masked_word": "masked word, by its neighbours",
    "minimal_pairs": "minimal pairs",
    "minimal_pairs_agreement": "  agreement",
    "minimal_pairs_determiners": "  determiners",
    "minimal_pairs_word_order": "  word order",
    "punctuation": "punctuation",
    "source": "source of a paragraph",
}


def further_table(metrics: Metrics) -> Table | None:
    """One row a probe that needs no labels, percent with 95% intervals; None if none was measured."""
    named = [name.removeprefix("probe/").removesuffix("_random") for name in metrics if name.endswith("_random")]
    names = sorted(
        {*named} - {"linear", "knn", "knn_search", "rank"}, key=lambda name: [*FURTHER_ROWS, name].index(name)
    )
    rows = []
    for name in (name for name in names if f"probe/{name}_low" in metrics):
        cells = [_accuracy(metrics, f"probe/{name}{suffix}") for suffix in ("", "_random")]
        has_plain = f"probe/{name}_baseline" in metrics
        plain = _accuracy(metrics, f"probe/{name}_baseline") if has_plain else "50.0"
        gain = "".join(f"{100.0 * metrics[f'probe/{name}_gain_over_random']:+.1f}")
        rows.append((FURTHER_ROWS.get(name, name.replace("_", " ")), *cells, gain, plain))
        nats = f"probe/{name}_nats"
        if nats in metrics:
            values = [f"{metrics[nats + suffix]:.3f}" for suffix in ("", "_random", "_baseline")]
            rows.append(("  -ln p, lower is better", values[0], values[1], "", values[2]))
    if not rows:
        return None
    columns = ("probe", "pretrained %", "random weights %", "ahead by", "counts or plain %")
    return Table("Probes without labels (95% interval)", columns, tuple(rows))


def verdict(metrics: Metrics, baseline: str) -> str:
    """Plain words: whether the best probe of the pretrained encoder beats the best of all baselines that the table
    shows, by any probe, and whether its linear probe beats each of them. Metrics of earlier versions know the second
    alone."""
    if not has_accuracies(metrics):
        after, before = metrics["probe/rank"], metrics["probe/rank_random"]
        return (
            f"Without labels of two classes, only the effective rank is known: {after:.1f} after pretraining, "
            f"{before:.1f} before; whether the encoder learned anything useful is not measured."
        )
    random = _compared(metrics, "_random", "the same encoder with random weights")
    plain = _compared(metrics, "_baseline", baseline)
    share = _percent(metrics["probe/linear"])
    linear = f"A linear probe of the pretrained encoder names {share}% of the test items right: {random}, and {plain}."
    if GAIN_OVER_BEST not in metrics:
        return linear
    best = _best(metrics, baseline)
    probe = max((probe for probe, _ in _measured(metrics)), key=lambda probe: metrics[f"probe/{probe}"])
    headline = (
        f"By its best probe, {PROBE_NAMES[probe]}, the pretrained encoder names "
        f"{_percent(metrics[f'probe/{probe}'])}% of the test items right: {_told(metrics, GAIN_OVER_BEST, best)}."
    )
    return f"{headline} {linear}"


def best_baseline(metrics: Metrics) -> str:
    """Name of the metric of the best baseline that the table shows: random weights and plain features by any probe,
    and always naming the largest class; of equal ones the first."""
    names = [f"probe/{probe}{suffix}" for suffix in ("_random", "_baseline") for probe, _ in PROBES]
    return max((name for name in (*names, "probe/majority") if name in metrics), key=lambda name: metrics[name])


def _best(metrics: Metrics, baseline: str) -> str:
    """The best baseline for people."""
    name = best_baseline(metrics)
    share = _percent(metrics[name])
    if name == "probe/majority":
        return f"the best baseline, always naming the largest class ({share}%)"
    features = "random weights" if name.endswith("_random") else baseline
    probe = PROBE_NAMES[name.removeprefix("probe/").removesuffix("_random").removesuffix("_baseline")]
    return f"the best baseline, {features} by {probe} ({share}%)"


def curve_table(metrics: Metrics, baseline: str) -> Table | None:
    """What the curves end at and the levels that they are drawn with: all three kinds of features on the held-out train
    items of the online probe. None without labels.

    Args:
        metrics: `online/{linear,knn}` with the suffixes of the others.
        baseline: name of the plain features.
    """
    if "online/linear" not in metrics:
        return None
    rows = [
        (label, *(_percent(metrics[f"online/{probe}{suffix}"]) for probe, _ in ONLINE_PROBES))
        for suffix, label in (*FEATURES, ("_baseline", baseline))
        if f"online/linear{suffix}" in metrics
    ]
    title = "On the items of the curves: held-out train items, without intervals"
    return Table(title, ("features", *(column for _, column in ONLINE_PROBES)), tuple(rows))


def _compared(metrics: Metrics, suffix: str, than: str) -> str:
    return _told(metrics, f"probe/linear_gain_over{suffix}", than)


def _told(metrics: Metrics, name: str, than: str) -> str:
    """A gain in words."""
    gain, low, high = (100.0 * metrics[name + end] for end in ("", "_low", "_high"))
    if low > 0.0:
        return f"{gain:.1f} points ({low:.1f} to {high:.1f}) better than {than}"
    if high < 0.0:
        return f"{-gain:.1f} points ({-high:.1f} to {-low:.1f}) worse than {than}"
    return f"not told apart from {than} ({gain:+.1f} points, {low:+.1f} to {high:+.1f})"


def _accuracy(metrics: Metrics, name: str) -> str:
    return f"{_percent(metrics[name])} ({_percent(metrics[f'{name}_low'])} to {_percent(metrics[f'{name}_high'])})"


def _gain(metrics: Metrics, probe: str, suffix: str) -> str:
    value, low, high = (100.0 * metrics[f"probe/{probe}_gain_over{suffix}{end}"] for end in ("", "_low", "_high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _rank(metrics: Metrics, suffix: str) -> str:
    rank = metrics.get(f"probe/rank{suffix}")
    return "" if rank is None else f"{rank:.1f}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.1f}"
