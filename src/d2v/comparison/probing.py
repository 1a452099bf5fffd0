"""Linear probe and nearest neighbours of all encoders of a benchmark, on the same items.

Shapes: T test items, D feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from d2v.comparison.comparison import Comparison
from d2v.config import EvaluateConfig
from d2v.data import digests
from d2v.data.batch import Inputs
from d2v.distributed.environment import own_device
from d2v.evaluation.features import extract_features
from d2v.evaluation.metrics_file import measured_before, write_measured
from d2v.evaluation.probe_set import labelled, why_not_probed, with_test_items
from d2v.evaluation.probes import knn, linear_probe
from d2v.modalities.base import ProbeSet
from d2v.model_folder import ENCODER, load_encoder
from d2v.models.encoder import Encoder
from d2v.objectives.build import build_objective
from d2v.statistics import Interval, of_right, seeds_difference_interval, seeds_interval
from d2v.training import resume

PROBES = ("linear", "knn")
RANDOM, PLAIN = "random", "plain"
"""Encoders with random weights, and plain features."""

_RIGHT = "right.npz"


@dataclass(frozen=True)
class Probed:
    """One kind of features under one probe.

    Attributes:
        features: an objective, RANDOM or PLAIN.
        probe: one of PROBES.
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
        right: dict[str, list[Mapping[str, np.ndarray]]] = {name: [] for name in self._comparison.config.objectives}
        for one in self._comparison.pretrainings:
            right[one.objective].append(self._of_encoder(one.encoder, one.folder / "probe"))
        right[RANDOM] = [self._of_random(seed) for seed in range(self._comparison.config.pretraining_seeds)]
        right[PLAIN] = [self._of_plain()]
        return _probed(right, self._comparison.evaluate.bootstrap_resamples)

    def _of_encoder(self, folder: Path, out: Path) -> Mapping[str, np.ndarray]:
        return self._right(
            {"encoder": digests.of_file(folder / ENCODER)}, out, lambda: self._features(load_encoder(folder)[0])
        )

    def _of_random(self, seed: int) -> Mapping[str, np.ndarray]:
        """The first weights of the first objective's encoder."""
        recipe = next(one.recipe for one in self._comparison.pretrainings if one.seed == seed)
        modality = self._comparison.modality

        def features() -> tuple[Tensor, Tensor]:
            return self._features(build_objective(modality, recipe).student)

        identity = {"random": resume.shaping(recipe)}
        return self._right(identity, self._comparison.out / "probes" / f"{RANDOM}-seed-{seed}", features)

    def _of_plain(self) -> Mapping[str, np.ndarray]:
        plain = self._comparison.modality.baseline_features

        def features() -> tuple[Tensor, Tensor]:
            return plain(self._items.train_inputs), plain(self._items.test_inputs)

        return self._right({"plain": True}, self._comparison.out / "probes" / PLAIN, features)

    def _features(self, encoder: Encoder) -> tuple[Tensor, Tensor]:
        encoder = encoder.to(own_device())

        def of(inputs: Inputs) -> Tensor:
            return extract_features(encoder, inputs, self._comparison.evaluate.batch_size)

        return of(self._items.train_inputs), of(self._items.test_inputs)

    def _right(
        self, of: Mapping[str, Any], out: Path, features: Callable[[], tuple[Tensor, Tensor]]
    ) -> Mapping[str, np.ndarray]:
        """For each probe, (T,) bool: whether it names the test item's class."""
        config = self._comparison.evaluate
        identity = {**of, "data": self._data.fingerprint, "evaluate": config.of_the_end()}
        if measured_before(out, identity, (_RIGHT,)) is None:
            right = _right(*features(), self._items, config)
            out.mkdir(parents=True, exist_ok=True)
            np.savez(out / _RIGHT, **right)  # type: ignore[arg-type]
            write_measured(out, {f"probe/{name}": float(given.mean()) for name, given in right.items()}, identity)
        with np.load(out / _RIGHT) as kept:
            return {name: kept[name] for name in PROBES}


def _right(train_ND: Tensor, test_TD: Tensor, items: ProbeSet, config: EvaluateConfig) -> dict[str, np.ndarray]:
    linear = linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2).predictions_T
    near = knn(train_ND, items.train_labels, test_TD, config.knn_k, config.knn_temperature)
    return {name: (given == items.test_labels).numpy() for name, given in zip(PROBES, (linear, near), strict=True)}


def _probed(right: Mapping[str, Sequence[Mapping[str, np.ndarray]]], resamples: int) -> list[Probed]:
    """Means over seeds, and the first one's gains over the others."""
    first = next(iter(right))
    found = []
    for probe in PROBES:
        scores = {name: [of_right(one[probe]) for one in of_seeds] for name, of_seeds in right.items()}
        for name, of_seeds in scores.items():
            gain = None if name == first else seeds_difference_interval(scores[first], of_seeds, resamples)
            interval = seeds_interval(of_seeds, resamples)
            found.append(Probed(name, probe, interval, [one.value for one in of_seeds], gain))
    return found
