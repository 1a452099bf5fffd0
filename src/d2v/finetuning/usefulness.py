"""Whether a fine-tuned model is good for anything: against answers that never look, and against random weights.

Shapes: N items, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from d2v.config import FinetuneConfig, TrainConfig
from d2v.data.prepared import balanced_subset
from d2v.distributed.environment import own_device
from d2v.evaluation.features import extract_features
from d2v.evaluation.flags import Flag
from d2v.evaluation.probes import linear_probe
from d2v.finetuning import metrics
from d2v.finetuning.classes import ClassResult
from d2v.finetuning.predictions import Answers
from d2v.finetuning.splits import Chosen
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.finetuning.tasks.transcription import Transcription
from d2v.modalities.base import LabelledSplit, Modality
from d2v.models.encoder import Encoder
from d2v.statistics import Interval

ENOUGH_ITEMS = 5
"""Test items from which a class that is never named counts."""
MOST_UNNAMED = 0.1
"""Share of these classes that a model may never name."""
PROBED_ITEMS = 2000
PROBE_L2 = (1e-3, 1e-2, 1e-1)


def few_classes(results: Sequence[ClassResult]) -> Flag | None:
    """A flag if more than a tenth of the classes are never named, of those with enough test items."""
    asked = [one for one in results if one.test_items >= ENOUGH_ITEMS]
    never = [one.name for one in asked if not one.predicted]
    if len(never) <= MOST_UNNAMED * len(asked):
        return None
    named = ", ".join(never[:6]) + (f" and {len(never) - 6:,} more" if len(never) > 6 else "")
    return Flag("few_classes", f"it predicts {len(asked) - len(never)} of {len(asked)} classes, never {named}")


def below_majority(
    task: Task, chosen: Chosen, answers: Answers, references: Any, resamples: int
) -> tuple[Flag | None, Interval]:
    """A flag if the model is not told apart from an answer that never looks at the item, by the metric that decides;
    and the model's gain over that answer.

    Args:
        task: its first metric decides.
        chosen: the training items, which the answer is taken from.
        answers: of the model to the items that are measured.
        references: the right ones.
        resamples: of the bootstrap.
    """
    blind, said = blind_answers(task, chosen, len(references))
    name = task.metrics[0]
    ours, theirs = answers.for_metric(name), blind.for_metric(name)
    gain = metrics.gain_interval(name, ours, theirs, references, resamples)
    if gain.above_zero:
        return None, gain
    values = [metrics.metric(name).compute(given, references) for given in (ours, theirs)]
    words = (
        f"it is not better than {said}: {name} {values[0]:.3f} and {values[1]:.3f}, a gain of {gain.value:+.3f} "
        f"({gain.low:+.3f} to {gain.high:+.3f})"
    )
    return Flag("below_majority", words), gain


def blind_answers(task: Task, chosen: Chosen, items: int) -> tuple[Answers, str]:
    """The best answer that never looks at an item, given `items` times, and what it is."""
    right: Any = task.references(chosen.train, chosen.rows)
    if isinstance(task, Classification):
        counts_C = np.bincount(right, minlength=len(task.class_names))
        largest = int(counts_C.argmax())
        scores_NC = np.tile(counts_C / counts_C.sum(), (items, 1))
        return Answers(
            np.full(items, largest), scores_NC
        ), f"always naming the largest class, {task.class_names[largest]}"
    if isinstance(task, Multilabel):
        scores_NC = np.tile(np.asarray(right).mean(axis=0), (items, 1))
        return Answers(scores_NC, scores_NC), "giving every item the same scores"
    if isinstance(task, Transcription):
        return Answers([""] * items), "an empty text"
    return Answers(np.full(items, np.mean(right))), "always answering the mean of the training items"


def like_random(
    modality: Modality,
    recipe: TrainConfig,
    config: FinetuneConfig,
    chosen: Chosen,
    split: LabelledSplit,
    rows: np.ndarray,
    predictions: np.ndarray,
) -> tuple[Flag | None, Interval]:
    """A remark if the model is not told apart from a linear probe of the same encoder with random weights, by accuracy,
    on at most 2000 training and 2000 test items; and the model's gain over that probe.

    Args:
        modality: what the data is.
        recipe: the encoder's train block.
        config: the finetune block.
        chosen: the training items.
        split: that is measured on.
        rows: of it.
        predictions: (len(rows),) the model's class ids.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = modality.build_encoder(recipe).to(own_device()).eval()
    random = np.random.Generator(np.random.Philox(key=[0, 5]))
    train = chosen.rows[balanced_subset(chosen.train.labels[chosen.rows], PROBED_ITEMS, random)]
    some = np.sort(random.permutation(len(rows))[:PROBED_ITEMS])
    train_ND, test_TD = (
        _features(encoder, part, few, config.evaluation_batch_size)
        for part, few in ((chosen.train, train), (split, rows[some]))
    )
    labels_N = torch.from_numpy(chosen.train.labels[train])
    probe_T = linear_probe(train_ND, labels_N, test_TD, PROBE_L2).predictions_T.numpy()
    gain = metrics.gain_interval(
        "accuracy", predictions[some], probe_T, split.labels[rows[some]], config.bootstrap_resamples
    )
    if gain.above_zero:
        return None, gain
    words = (
        "it is not told apart from a linear probe of random weights: its accuracy is "
        f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) beside it"
    )
    return Flag("like_random", words, blocks=False), gain


def _features(encoder: Encoder, split: LabelledSplit, rows: np.ndarray, batch_size: int) -> torch.Tensor:
    """(len(rows), D) mean-pooled features, batch by batch."""
    parts = [rows[begin : begin + batch_size] for begin in range(0, len(rows), batch_size)]
    return torch.cat([extract_features(encoder, split.inputs(part), batch_size) for part in parts])
