"""Two steps of aligning encoders: features to a trained space, and a trained space to its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d2v.alignment.measure import Direction, encode, mean_recall, measure
from d2v.alignment.pair_features import read_pair_features
from d2v.alignment.recall import AT
from d2v.alignment.report import write_alignment_report
from d2v.alignment.space import is_space, read_space, save_space
from d2v.alignment.train import train_heads
from d2v.config.alignment import AlignConfig
from d2v.data import digests
from d2v.data.disk import one_at_a_time
from d2v.errors import CheckpointError
from d2v.evaluation.metrics_file import measured_before, spelled, write_measured
from d2v.progress import log
from d2v.statistics import score_interval
from d2v.tracker import Tracker
from d2v.training.history import History

SPACE, HISTORY = "space", "history.csv"
WRITTEN = ("report.md", "report.html", "model_card.md")
NEUTRAL = {"log_every_updates", "batch_items", "bootstrap_resamples", "promote", "encoders"}
"""Keys of the recipe that do not shape the heads. Encoders count by their fingerprints."""


@one_at_a_time
def train_space(config: AlignConfig, features: Path, encoders: Mapping[str, Path], out: Path, tracker: Tracker) -> Path:
    """Train heads and write the aligned space into `out/space`; a finished one of the same features and recipe says so.

    Args:
        config: the recipe.
        features: folder that `encode_pairs` left.
        encoders: modality -> model folder, those that made the features.
        out: folder of the run.
        tracker: gets the metrics.

    Raises:
        DataError: features that are damaged or not finite.
        CollapseError: the loss is not finite.
    """
    found = read_pair_features(features)
    identity = {"recipe": config.model_dump(mode="json", exclude=NEUTRAL), **found.identity}
    if _made_of(out / SPACE) == identity:
        log(f"align: the heads in {out / SPACE} are trained: nothing to do")
        return out
    kinds = [held.train for held in found.held_out.values()]
    heads, rows = train_heads(found.features, kinds, config, tracker)
    history = History()
    (out / HISTORY).unlink(missing_ok=True)
    for row in rows:
        history.add(int(row["update"]), {name: value for name, value in row.items() if name != "update"}, out / HISTORY)
    said = [found.texts[one.second][row] for one in kinds if one.second in found.texts for row in one.second_rows]
    used = {name: encoders[name] for name in found.features}
    save_space(out / SPACE, heads, config, used, found.identity["encoders"], said, {"identity": identity})
    tracker.log_artifact(out / HISTORY, "align")
    return out


def _made_of(space: Path) -> object:
    """What a space was made of; None where there is none that is whole."""
    try:
        return read_space(space).about.get("identity") if is_space(space) and not digests.changed(space) else None
    except CheckpointError:
        return None


@one_at_a_time
def evaluate_space(config: AlignConfig, features: Path, run: Path, out: Path, tracker: Tracker) -> Path:
    """Measure recall on held-out pairs beside the bag of words and chance; metrics and report go under `out`.

    Args:
        config: the recipe.
        features: folder that `encode_pairs` left.
        run: folder that `train_space` left.
        out: report folder.
        tracker: gets the metrics and files.
    """
    found, space = read_pair_features(features), read_space(run / SPACE)
    identity = {"space": digests.read(run / SPACE), "features": found.about["files"], "pairs": found.identity}
    identity |= {"bootstrap_resamples": config.bootstrap_resamples}
    metrics = measured_before(out, identity, WRITTEN)
    if metrics is None:
        vectors = encode({name: aligned.head for name, aligned in space.heads.items()}, found.features)
        directions = measure(vectors, found.features, found.held_out, found.texts, config.bootstrap_resamples)
        metrics = metrics_of(directions, config.bootstrap_resamples)
        write_alignment_report(out, directions, found, space, metrics)
        write_measured(out, metrics, identity)
    else:
        log(f"align: {out} has the metrics of this space: nothing to do")
    tracker.log_metrics(metrics, config.max_updates)
    for name in WRITTEN:
        tracker.log_artifact(out / name, "align")
    log(
        f"align: mean recall at 5 of new texts {metrics['align/recall_at_5']:.3f}; all directions in "
        f"{out / 'report.html'}"
    )
    return out


def metrics_of(directions: Sequence[Direction], resamples: int) -> dict[str, float]:
    """`align/recall_at_5` over all directions with new texts, and `align/recall_at_<k>_<direction>` of each, with
    intervals, `_baseline` and `_chance`."""
    metrics: dict[str, Any] = {}
    for k in AT:
        metrics |= spelled(f"align/recall_at_{k}", score_interval(mean_recall(directions, k), resamples))
    for one in directions:
        suffix = f"{one.kind}_{one.name}_{one.texts.split()[0]}"
        for k in AT:
            name = f"align/recall_at_{k}_{suffix}"
            metrics |= spelled(name, one.aligned[k]) | {f"{name}_chance": one.chance[k]}
            metrics |= spelled(f"{name}_baseline", one.baseline[k]) if one.baseline else {}
    return metrics
