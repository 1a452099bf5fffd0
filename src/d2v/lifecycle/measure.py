"""Challenger and champion on the same held-out items, measured afresh by the same code.

Shapes: N train items, T test items, D feature width.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2v.config import EvaluateConfig, FinetuneConfig, PromoteConfig, TrainConfig, parse
from d2v.distributed.environment import own_device
from d2v.evaluation.features import extract_features
from d2v.evaluation.probe_set import labelled, why_not_probed
from d2v.evaluation.probes import knn, linear_probe
from d2v.finetuning.data import labelled_splits
from d2v.finetuning.metrics import metric
from d2v.finetuning.model import HEAD, FinetunedModel, load_finetuned
from d2v.finetuning.predictions import Answers
from d2v.finetuning.predictions import answer as answers_of
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.lifecycle.gate import Measured, MetricScore
from d2v.lifecycle.symlink_views import as_known_by
from d2v.modalities.base import Modality
from d2v.model_folder import ENCODER, load_encoder, read_config
from d2v.models.effective_rank import effective_rank
from d2v.models.encoder import Encoder
from d2v.objectives.build import build_objective
from d2v.statistics import Interval, difference_interval, of_right

WARM_UP_CALLS = 2


@dataclass(frozen=True)
class HeldOut:
    """The held-out data, and how models are measured on them.

    Attributes:
        modality: what the data is.
        prepared: folder that prepare left.
        promote: the promote block.
        evaluate: the evaluate block, for encoders.
        finetune: the finetune block, for fine-tuned models; None where a recipe has none.
    """

    modality: Modality
    prepared: Path
    promote: PromoteConfig
    evaluate: EvaluateConfig
    finetune: FinetuneConfig | None


@dataclass(frozen=True)
class _MeasuredModel:
    """A model that was measured, and a call that answers one request."""

    measured: Measured
    answer: Callable[[], Any]


def measure_encoders(challenger: Path, champion: Path | None, held_out: HeldOut) -> tuple[Measured, Measured | None]:
    """Linear probe, kNN, effective rank, and of the challenger the gain over random weights.

    Args:
        challenger: its model folder.
        champion: that of the champion; None if there is none.
        held_out: on what.

    Raises:
        ConfigError: the data were prepared for another encoder, as text for another tokenizer.
    """
    return _both(challenger, champion, held_out, _encoder)


def measure_finetuned(challenger: Path, champion: Path | None, held_out: HeldOut) -> tuple[Measured, Measured | None]:
    """All metrics of the challenger's task. A champion of another task has none of them. Else as `measure_encoders`."""
    return _both(challenger, champion, held_out, _finetuned)


def _both(
    challenger: Path, champion: Path | None, held_out: HeldOut, measure: Callable[..., _MeasuredModel]
) -> tuple[Measured, Measured | None]:
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        ours = measure(challenger, _known(challenger, held_out, Path(scratch) / "challenger"), held_out, None)
        if champion is None:
            return ours.measured, None
        theirs = measure(champion, _known(champion, held_out, Path(scratch) / "champion"), held_out, challenger)
        medians = _latencies([ours.answer, theirs.answer], held_out.promote.latency_calls)
    own, other = (replace(one.measured, latency_s=median) for one, median in zip((ours, theirs), medians, strict=True))
    return own, other


def _known(model: Path, held_out: HeldOut, out: Path) -> Path:
    return as_known_by(read_config(model), held_out.modality, held_out.prepared, out)


def _latencies(answers: Sequence[Callable[[], Any]], calls: int) -> list[float]:
    """Median seconds of each; they take turns, so that other load on the machine meets both alike."""
    seconds: list[list[float]] = [[] for _ in answers]
    for turn in range(WARM_UP_CALLS + calls):
        for answer, kept in zip(answers, seconds, strict=True):
            begin = time.perf_counter()
            answer()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= WARM_UP_CALLS:
                kept.append(time.perf_counter() - begin)
    return [statistics.median(kept) for kept in seconds]


def recalls(right_T: np.ndarray, labels_T: np.ndarray, names: Sequence[str], least: int) -> dict[str, float]:
    """Share of the items of each class that are right, of classes with at least so many items."""
    counts = np.bincount(labels_T, minlength=len(names))
    return {
        names[label]: float(right_T[labels_T == label].mean()) for label in np.flatnonzero(counts >= least).tolist()
    }


# ------------------------------------------------------------------------------------------- encoders


def _encoder(folder: Path, prepared: Path, held_out: HeldOut, rival: Path | None) -> _MeasuredModel:
    """One encoder; the gain over random weights is the challenger's alone, which has no `rival`."""
    modality, evaluate, promote = held_out.modality, held_out.evaluate, held_out.promote
    encoder, about = load_encoder(folder)
    encoder = encoder.to(own_device())
    recipe = parse(modality.train_config, about["recipe"], at="recipe")
    data = modality.open(prepared)
    modality.check_fits(data, about)
    items = data.probe_set(recipe)
    train_ND = extract_features(encoder, items.train_inputs, evaluate.batch_size)
    few = items.test_inputs.select(torch.arange(min(promote.latency_items, len(items.test_inputs))))
    inputs = few.to(next(encoder.parameters()))
    size, apart = (folder / ENCODER).stat().st_size, data.has_own_test_items
    measured = Measured({}, {}, size, 0.0, effective_rank(train_ND), is_apart=apart)
    answering = _MeasuredModel(measured, lambda: encoder.features(inputs.values, inputs.lengths))
    if why_not_probed(items):
        return answering
    items = labelled(items)
    rights = _probe(encoder, items, evaluate)
    over_random = _over_random(rights["linear probe"], modality, recipe, items, held_out) if rival is None else None
    labels_T = items.test_labels.numpy()
    return replace(
        answering,
        measured=replace(
            measured,
            metrics={name: MetricScore(of_right(right_T)) for name, right_T in rights.items()},
            recalls=recalls(rights["linear probe"], labels_T, items.class_names, promote.min_class_items),
            over_random=over_random,
        ),
    )


def _probe(encoder: Encoder, items: Any, config: EvaluateConfig) -> dict[str, np.ndarray]:
    """(T,) bool by probe: whether it names the item's class."""
    train_ND, test_TD = (
        extract_features(encoder, inputs, config.batch_size) for inputs in (items.train_inputs, items.test_inputs)
    )
    predictions: dict[str, Tensor] = {
        "linear probe": linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2).predictions_T,
        "kNN": knn(train_ND, items.train_labels, test_TD, config.knn_k, config.knn_temperature),
    }
    return {name: (given == items.test_labels).numpy() for name, given in predictions.items()}


def _over_random(
    right_T: np.ndarray, modality: Modality, recipe: TrainConfig, items: Any, held_out: HeldOut
) -> Interval:
    random = build_objective(modality, recipe).student.to(own_device())
    promote = held_out.promote
    theirs_T = _probe(random, items, held_out.evaluate)["linear probe"]
    return difference_interval(right_T, theirs_T, promote.bootstrap_resamples, promote.seed, promote.level)


# ---------------------------------------------------------------------------------- fine-tuned models


def _finetuned(folder: Path, prepared: Path, held_out: HeldOut, rival: Path | None) -> _MeasuredModel:
    """One fine-tuned model on the task of its `rival`, or on its own."""
    modality, promote, config = held_out.modality, held_out.promote, held_out.finetune
    model = load_finetuned(folder)
    task = model.task if rival is None else load_finetuned(rival).task
    data = modality.open(prepared)
    recipe = parse(modality.train_config, model.about["recipe"], at="recipe")
    split = labelled_splits(modality, data, config, recipe, model.about)["test"]
    rows = task.usable(split)
    model = model.to(own_device())
    few = split.inputs(rows[: promote.latency_items])
    bytes_ = sum((folder / name).stat().st_size for name in (ENCODER, HEAD))
    answering = _MeasuredModel(
        Measured({}, {}, bytes_, 0.0, is_apart=data.has_own_test_items), lambda: model.predict(few)
    )
    if not len(rows) or type(model.task) is not type(task):
        return answering
    said = answers_of(model, split, rows, promote.batch_size)
    predictions = in_terms_of(data.class_names, model, said.predictions)
    said = Answers(predictions, None if said.scores is None else in_terms_of(data.class_names, model, said.scores))
    references: Any = task.references(split, rows)
    metrics = {
        name: MetricScore(metric(name).score(said.for_metric(name), references), metric(name).higher_is_better)
        for name in task.metrics
    }
    of_classes: Mapping[str, float] = {}
    if isinstance(task, Classification):
        of_classes = recalls(predictions == references, references, data.class_names, promote.min_class_items)
    return replace(answering, measured=replace(answering.measured, metrics=metrics, recalls=of_classes))


def in_terms_of(class_names: Sequence[str], model: FinetunedModel, predictions: Any) -> Any:
    """A model's predictions with the class ids of the data, which may have other classes by now than those that the
    model learned. A class that the data do not have gets an id of its own, and is never right; of one that the model
    does not know, all scores are as low as its lowest.

    Args:
        class_names: of the data, by class id.
        model: whose predictions they are.
        predictions: as `FinetunedModel.predict` gives them, or scores (T, C) of all classes.
    """
    if not isinstance(model.task, Classification | Multilabel) or model.task.class_names == tuple(class_names):
        return predictions
    known = {name: number for number, name in enumerate(class_names)}
    own = model.task.class_names
    if predictions.ndim == 1:
        ids = np.array([known.get(name, len(known) + number) for number, name in enumerate(own)])
        return ids[predictions]
    scores_TC = np.full((len(predictions), len(known)), np.min(predictions, initial=0.0))
    for number, name in enumerate(own):
        if name in known:
            scores_TC[:, known[name]] = predictions[:, number]
    return scores_TC
