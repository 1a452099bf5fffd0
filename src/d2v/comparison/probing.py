"""Linear probe, nearest neighbours and, where there are no labels of the items' own, the choice of pairs, of all
encoders of a benchmark on the same items.

Shapes: T test items, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from d2v.comparison.comparison import Comparison, Pretraining
from d2v.config import EvaluateConfig
from d2v.data import digests
from d2v.data.batch import Inputs
from d2v.distributed.environment import own_device
from d2v.evaluation.features import extract_features
from d2v.evaluation.further import CannotTellError, choose
from d2v.evaluation.metrics_file import measured_before, write_measured
from d2v.evaluation.probe_set import labelled, why_not_probed, with_test_items
from d2v.evaluation.probes import knn, linear_probe
from d2v.modalities.base import ProbeSet
from d2v.modalities.probes import Choice
from d2v.model_folder import ENCODER, load_encoder, load_objective
from d2v.models.encoder import Encoder
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.statistics import Interval, of_right, seeds_difference_interval, seeds_interval
from d2v.training import resume

PROBES = ("linear", "knn")
RANDOM, PLAIN = "random", "plain"
"""Encoders with random weights, and plain features or counts."""

_RIGHT = "right.npz"

Right = dict[str, np.ndarray]
"""Probe -> (T,) bool: whether it is right about each item."""


@dataclass(frozen=True)
class Probed:
    """One kind of features under one probe.

    Attributes:
        features: an objective, RANDOM or PLAIN.
        probe: one of PROBES, or the name of a `d2v.modalities.probes.Choice`.
        interval: accuracy, the mean over seeds, with its interval over seeds and test items.
        by_seed: the accuracy of each seed.
        gain: how much better the first objective is, paired; None for itself.
    """

    features: str
    probe: str
    interval: Interval
    by_seed: list[float]
    gain: Interval | None


class Prober:
    """Probes encoders once: the right predictions of each are kept in its folder.

    Args:
        comparison: whose encoders.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison
        self._data = comparison.modality.open(comparison.prepared)

    @cached_property
    def _whole(self) -> ProbeSet:
        return with_test_items(self._data.probe_set(self._comparison.pretrainings[0].recipe))

    @cached_property
    def why_not(self) -> str | None:
        """Why nothing can be probed; None if it can."""
        return why_not_probed(self._whole)

    @cached_property
    def _items(self) -> ProbeSet:
        return labelled(self._whole)

    def measure(self) -> list[Probed]:
        """All kinds of features under all probes.

        Raises:
            CollapseError: a feature is NaN or infinite.
            CheckpointError: an encoder cannot be read.
        """
        right: dict[str, list[Right]] = {name: [] for name in self._comparison.config.objectives}
        for one in self._comparison.pretrainings:
            right[one.objective].append(self._of_pretrained(one))
        right[RANDOM] = [self._of_random(seed) for seed in range(self._comparison.config.pretraining_seeds)]
        right[PLAIN] = [self._of_plain()]
        return _probed(right, self._comparison.evaluate.bootstrap_resamples)

    def _of_pretrained(self, one: Pretraining) -> Right:
        identity = {"encoder": digests.of_file(one.encoder / ENCODER)}
        right = self._kept(identity, one.folder / "probe", lambda: self._right(load_encoder(one.encoder)[0]))
        objective = load_objective(one.encoder, self._comparison.modality, one.recipe) if self._choice else None
        return right if objective is None else right | self._chosen(identity, one.folder / "choice", objective)

    def _of_random(self, seed: int) -> Right:
        """The first weights of the first objective."""
        recipe = next(one.recipe for one in self._comparison.pretrainings if one.seed == seed)
        objective = build_objective(self._comparison.modality, recipe)
        objective.take_from(self._data)
        identity, out = {"random": resume.shaping(recipe)}, self._comparison.out / "probes" / f"{RANDOM}-seed-{seed}"
        right = self._kept(identity, out, lambda: self._right(objective.student))
        return right | self._chosen(identity, out / "choice", objective)

    def _of_plain(self) -> Right:
        plain, items, out = self._comparison.modality.baseline_features, self._items, self._comparison.out / "probes"
        right = self._kept(
            {"plain": True},
            out / PLAIN,
            lambda: _named(plain(items.train_inputs), plain(items.test_inputs), items, self._comparison.evaluate),
        )
        choice = self._choice
        return right if choice is None or choice.counts is None else right | {choice.name: choice.counts.right}

    @cached_property
    def _choice(self) -> Choice | None:
        """With counts beside."""
        pairs, recipe = range(self._comparison.evaluate.further_items), self._comparison.pretrainings[0].recipe
        choice: Choice | None = self._comparison.modality.choice(self._data, recipe, pairs, counted=True)
        return choice

    def _chosen(self, identity: Mapping[str, Any], out: Path, objective: Objective) -> Right:
        """Nothing where the objective cannot tell."""
        choice = self._choice
        if choice is None:
            return {}
        batch_size = self._comparison.evaluate.batch_size
        with suppress(CannotTellError):
            return self._kept(
                identity, out, lambda: {choice.name: choose(objective.to(own_device()), choice, batch_size)}
            )
        return {}

    def _right(self, encoder: Encoder) -> Right:
        encoder, config = encoder.to(own_device()), self._comparison.evaluate

        def of(inputs: Inputs) -> Tensor:
            return extract_features(encoder, inputs, config.batch_size)

        return _named(of(self._items.train_inputs), of(self._items.test_inputs), self._items, config)

    def _kept(self, of: Mapping[str, Any], out: Path, make: Callable[[], Right]) -> Right:
        """Made once, and read again where nothing that it depends on has changed."""
        identity = {**of, "data": self._data.fingerprint, "evaluate": self._comparison.evaluate.of_the_end()}
        if measured_before(out, identity, (_RIGHT,)) is None:
            right = make()
            out.mkdir(parents=True, exist_ok=True)
            np.savez(out / _RIGHT, **right)  # type: ignore[arg-type]
            write_measured(out, {f"probe/{name}": float(given.mean()) for name, given in right.items()}, identity)
        with np.load(out / _RIGHT) as kept:
            return {name: kept[name] for name in kept.files}


def _named(train_ND: Tensor, test_TD: Tensor, items: ProbeSet, config: EvaluateConfig) -> Right:
    """Whether each probe names the test item's class."""
    linear = linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2).predictions_T
    near = knn(train_ND, items.train_labels, test_TD, config.knn_k, config.knn_temperature)
    return {name: (given == items.test_labels).numpy() for name, given in zip(PROBES, (linear, near), strict=True)}


def _probed(right: Mapping[str, Sequence[Right]], resamples: int) -> list[Probed]:
    """Means over seeds, and the first one's gains over the others."""
    first = next(iter(right))
    found = []
    for probe in dict.fromkeys(probe for of_seeds in right.values() for probe in of_seeds[0]):
        scores = {
            name: [of_right(one[probe]) for one in of_seeds]
            for name, of_seeds in right.items()
            if all(probe in one for one in of_seeds)
        }
        for name, of_seeds in scores.items():
            gain = (
                None
                if name == first or first not in scores
                else seeds_difference_interval(scores[first], of_seeds, resamples)
            )
            interval = seeds_interval(of_seeds, resamples)
            found.append(Probed(name, probe, interval, [one.value for one in of_seeds], gain))
    return found
