"""A whole evaluation: from a prepared folder and a run folder to metrics, pictures, report and model card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from d2v.config import EvaluateConfig, TrainConfig
from d2v.distributed.environment import own_device
from d2v.errors import CheckpointError, DataError
from d2v.evaluation.features import extract_features
from d2v.evaluation.figures import Illustrator
from d2v.evaluation.metrics_file import METRICS, measured_before, write_measured
from d2v.evaluation.paired import PLAIN, PRETRAINED, RANDOM, compare
from d2v.evaluation.probe_set import labelled, why_not_probed, with_test_items
from d2v.modalities.base import Modality, PreparedData, ProbeSet
from d2v.model_folder import ENCODER, load_encoder
from d2v.models.effective_rank import effective_rank
from d2v.models.encoder import Encoder
from d2v.objectives.build import build_objective
from d2v.progress import log
from d2v.reporting.model_card import write_model_card
from d2v.reporting.probe_tables import accuracy_table, difference_table, has_accuracies, verdict
from d2v.reporting.report import Heading, Part, Picture, write_report
from d2v.tracker import Tracker
from d2v.training import resume

PREPARED = "prepared.json"
WRITTEN = ("report.md", "report.html", "model_card.md", "curves.png", "masks.png", "pca.png", "neighbours.png")


def evaluate(
    modality: Modality,
    recipe: TrainConfig,
    config: EvaluateConfig,
    prepared: Path,
    run_folder: Path,
    out: Path,
    tracker: Tracker,
) -> dict[str, float]:
    """Probe a frozen encoder beside the same encoder with random weights and plain features.

    Prints a table, writes `metrics.json` (last: its presence means that the rest is there), `report.md`,
    `report.html`, `model_card.md` and pictures into `out`, and logs all of it. Where `out` already belongs to these
    weights, data and settings, nothing is measured anew.

    Args:
        modality: what the data is.
        recipe: the train block that the encoder was trained with.
        config: settings of the probes.
        prepared: folder that prepare left.
        run_folder: folder that train left, with `encoder/`, `history.csv` and `result.json`.
        out: report folder.
        tracker: gets metrics at update `recipe.max_updates`, and the files.

    Returns:
        Accuracies and differences as shares from 0 to 1, and effective ranks; see `comparison.compare`.

    Raises:
        CheckpointError: there is no finished run in `run_folder`, or it had another recipe.
        DataError: the probe set has no train items.
        CollapseError: a feature is NaN or infinite.
    """
    data = modality.open(prepared)
    result = _finished_run(modality, recipe, run_folder)
    identity = _identity(run_folder / "encoder" / ENCODER, data, config)
    metrics = measured_before(out, identity, WRITTEN)
    if metrics is None:
        metrics = _Evaluation(modality, recipe, config, data, prepared, run_folder, out, result).write(identity)
    else:
        log(f"evaluate: {out} already belongs to this encoder and these settings")
    _show(metrics, modality.baseline_name)
    tracker.log_metrics(metrics, recipe.max_updates)
    for path in sorted(path for path in out.iterdir() if path.is_file() and not path.name.startswith(".")):
        tracker.log_artifact(path, "report")
    return metrics


def _finished_run(modality: Modality, recipe: TrainConfig, run_folder: Path) -> dict[str, Any]:
    """What the run wrote at its end."""
    train_again = f"kedro run --pipeline=train_{modality.name}"
    result = resume.finished_result(run_folder)
    if result is None:
        raise CheckpointError(f"{run_folder} holds no finished run: finish it with {train_again}, then evaluate again")
    fingerprint = result["data_fingerprint"]  # an encoder may be probed on other data than its own
    old, new = (result["recipe"], fingerprint), (resume.shaping(recipe), fingerprint)
    if lines := resume.differences(f"{modality.name}.train", type(recipe), old, new):
        raise CheckpointError(
            f"The encoder in {run_folder} was trained with another recipe ({'; '.join(lines)}), so the random encoder "
            f"of this one would be no fair baseline: change the recipe back, or train with it by {train_again}"
        )
    return result


def _identity(weights: Path, data: PreparedData, config: EvaluateConfig) -> dict[str, Any]:
    """What metrics belong to: weights, data, settings."""
    try:
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{weights} cannot be read ({error}): train again or restore the file") from error
    settings = config.model_dump(mode="json")
    return {"encoder_sha256": digest, "data_fingerprint": data.fingerprint, "evaluate": settings}


@dataclass(frozen=True)
class _Evaluation:
    """The phases of an evaluation that is not there yet."""

    modality: Modality
    recipe: TrainConfig
    config: EvaluateConfig
    data: PreparedData
    prepared: Path
    run_folder: Path
    out: Path
    result: dict[str, Any]

    def write(self, identity: dict[str, Any]) -> dict[str, float]:
        """Load, measure, draw, write."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / METRICS).unlink(missing_ok=True)  # pictures and report are about to be others
        items = self._items()
        objective = build_objective(self.modality, self.recipe)
        device = own_device()
        encoder = load_encoder(self.run_folder / "encoder")[0].to(device)
        random = objective.student.to(device)
        log(f"evaluate: {len(items.train_labels)} train and {len(items.test_labels)} test items")
        features = self._features(items, encoder, random)
        metrics = self._metrics(items, features)
        draw = Illustrator(self.modality, self.recipe, self.config, self.data, items, self.out)
        pictures = [
            draw.curves(self.run_folder / "history.csv"),
            draw.masks(objective),
            draw.pca({"pretrained": encoder, "random": random}),
            draw.neighbours(*features[PRETRAINED]),
        ]
        self._write_report(metrics, pictures, why_not_probed(items))
        self._write_card(metrics)
        write_measured(self.out, metrics, identity)
        return metrics

    def _items(self) -> ProbeSet:
        whole = with_test_items(self.data.probe_set(self.recipe))
        if not len(whole.train_labels) or not len(whole.test_labels):
            raise DataError(
                f"The probe set in {self.prepared} has {len(whole.train_labels)} train and {len(whole.test_labels)} "
                "test items, and at least one of each is needed: raise their numbers in the prepare block"
            )
        return whole if why_not_probed(whole) else labelled(whole)

    def _features(self, items: ProbeSet, encoder: Encoder, random: Encoder) -> dict[str, tuple[Tensor, Tensor]]:
        plain = self.modality.baseline_features
        of_encoders = {
            suffix: (
                extract_features(one, items.train_inputs, self.config.batch_size),
                extract_features(one, items.test_inputs, self.config.batch_size),
            )
            for suffix, one in ((PRETRAINED, encoder), (RANDOM, random))
        }
        return of_encoders | {PLAIN: (plain(items.train_inputs), plain(items.test_inputs))}

    def _metrics(self, items: ProbeSet, features: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        ranks = {f"probe/rank{suffix}": effective_rank(features[suffix][0]) for suffix in (PRETRAINED, RANDOM)}
        if reason := why_not_probed(items):
            log(f"evaluate: {reason}")
            return ranks
        return compare(features, items, self.config) | ranks

    def _write_report(self, metrics: dict[str, float], pictures: list[Picture], reason: str | None) -> None:
        titles = ("Training", "Masks", "Token features", "Nearest neighbours")
        parts: list[Part] = [verdict(metrics, self.modality.baseline_name)]
        if reason:
            parts.append(f"No accuracies: {reason}.")
        parts += [Heading("Probes"), accuracy_table(metrics, self.modality.baseline_name)]
        if has_accuracies(metrics):
            parts += [difference_table(metrics, self.modality.baseline_name), INTERVALS]
        parts.append(RANK)
        for title, picture in zip(titles, pictures, strict=True):
            parts += [Heading(title), picture]
        write_report(self.out, f"d2v {self.modality.name}: a pretrained encoder and its baselines", parts)

    def _write_card(self, metrics: dict[str, float]) -> None:
        about = _read_json(self.prepared / PREPARED)
        about |= {"fingerprint": self.data.fingerprint, "train_items": self.data.num_train}
        about |= {"classes": len(self.data.class_names)}
        name, baseline = self.modality.name, self.modality.baseline_name
        card = self.out / "model_card.md"
        write_model_card(card, name, self.recipe, about, metrics, self.result, baseline)


RANK = (
    "Rank is the effective rank of the features of the train items (RankMe): how many directions they really use, "
    "at most the encoder's width."
)

INTERVALS = (
    "Intervals are percentile bootstraps over the test items; differences are paired, item by item. They speak of the "
    "choice of test items only: another training seed adds spread that they do not show."
)


def _show(metrics: dict[str, float], baseline: str) -> None:
    """The tables and the verdict on the console."""
    console = Console(highlight=False)
    console.print(accuracy_table(metrics, baseline).to_rich())
    if has_accuracies(metrics):
        console.print(difference_table(metrics, baseline).to_rich())
    console.print(verdict(metrics, baseline))


def _read_json(path: Path) -> dict[str, Any]:
    """The file's contents; nothing if there is no such file."""
    return json.loads(path.read_text()) if path.is_file() else {}
