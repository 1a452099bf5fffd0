"""The probe that runs during training: small, always on the same items, without a trace on the training."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from d2v.config import EvaluateConfig, TrainConfig
from d2v.data.disk import write_json
from d2v.evaluation.features import extract_features
from d2v.evaluation.further import CannotTellError, choose
from d2v.evaluation.probe_set import labelled, smaller, why_not_probed, within_train
from d2v.evaluation.probes import knn, linear_probe
from d2v.modalities.base import Modality, PreparedData, ProbeSet
from d2v.modalities.probes import Choice
from d2v.models.effective_rank import effective_rank
from d2v.models.encoder import Encoder
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective

SIZES = "sizes.json"
LINEAR, CHOICE = "online/linear", "online/choice"


class OnlineProbe:
    """Nearest neighbours, linear probe and RankMe on some of the probe set's train items.

    Its metrics show a trend; `d2v.evaluation.evaluate.evaluate` measures on the whole probe set, with intervals.
    Items are read at the first call.

    Args:
        modality: what the data is.
        recipe: the train block, for the size of inputs.
        data: the prepared folder, opened.
        config: settings of the probes.

    Example:
        >>> OnlineProbe(modality, recipe, data, EvaluateConfig())(encoder)  # doctest: +SKIP
        {'online/rank': 21.7, 'online/knn': 0.41, 'online/linear': 0.52}
    """

    def __init__(self, modality: Modality, recipe: TrainConfig, data: PreparedData, config: EvaluateConfig) -> None:
        self._modality, self._recipe, self._data, self._config = modality, recipe, data, config

    @cached_property
    def _items(self) -> ProbeSet:
        whole, config = within_train(self._data.probe_set(self._recipe)), self._config
        items = whole if why_not_probed(whole) else labelled(whole)
        return smaller(items, config.online_train_items, config.online_test_items)

    def __call__(self, encoder: Encoder, keep: Path | None = None) -> dict[str, float]:
        """`online/rank`, and with labels of two classes or more the shares `online/knn` and `online/linear` of test
        items named right (0 to 1). Modes of modules and the global random state are left as they were.

        Args:
            encoder: that is probed.
            keep: file for the linear probe's (items,) bool: is the item named right? None: not kept.

        Raises:
            CollapseError: a feature is NaN or infinite.
        """
        items, batch_size = self._items, self._config.batch_size
        train_ND = extract_features(encoder, items.train_inputs, batch_size)
        rank = {"online/rank": effective_rank(train_ND)}
        if why_not_probed(items):
            return rank
        right = self._right(train_ND, extract_features(encoder, items.test_inputs, batch_size))
        if keep is not None:
            self._keep(right[LINEAR].numpy(), keep)
        return rank | _shares(right)

    @cached_property
    def pairs(self) -> Choice | None:
        """What `choice` chooses from; None where items have labels of their own, or no parts to exchange."""
        first = self._config.further_items
        those = range(first, first + self._config.online_choice_items)
        pairs: Choice | None = self._modality.choice(self._data, self._recipe, those)
        return pairs

    def choice(self, objective: Objective, keep: Path | None = None) -> dict[str, float]:
        """`online/choice`: the share of pairs (0 to 1) of which the objective foresees the whole one better; nothing
        where there are no pairs, or where the objective has no loss of single tokens.

        Args:
            objective: trained so far, with its teacher and decoder.
            keep: as of a call.
        """
        if self.pairs is None:
            return {}
        try:
            right = choose(objective, self.pairs, self._config.batch_size)
        except CannotTellError:
            return {}
        if keep is not None:
            self._keep(right, keep)
        return {CHOICE: float(right.mean())}

    def _keep(self, right: np.ndarray, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, right)
        sizes = sizes_of(self._config)
        if self.pairs is None:
            del sizes["further_items"]
        write_json(file.parent / SIZES, sizes)

    def baselines(self) -> dict[str, float]:
        """The same metrics of the first random weights (`_random`) and of plain features (`_baseline`, without a rank
        and without a choice), on the same items."""
        objective = build_objective(self._modality, self._recipe)
        objective.take_from(self._data)
        metrics = {
            f"{name}_random": value for name, value in (self(objective.student) | self.choice(objective)).items()
        }
        if why_not_probed(self._items):
            return metrics
        plain_of = self._modality.baseline_features
        plain = self._right(plain_of(self._items.train_inputs), plain_of(self._items.test_inputs))
        return metrics | {f"{name}_baseline": value for name, value in _shares(plain).items()}

    def _right(self, train_ND: Tensor, test_TD: Tensor) -> dict[str, Tensor]:
        """(T,) bool of each probe."""
        items, config = self._items, self._config
        predictions = {
            "online/knn": knn(train_ND, items.train_labels, test_TD, config.knn_k, config.knn_temperature),
            LINEAR: linear_probe(train_ND, items.train_labels, test_TD, config.linear_l2).predictions_T,
        }
        return {name: given == items.test_labels for name, given in predictions.items()}


def sizes_of(config: EvaluateConfig) -> dict[str, int]:
    """How many items the probe learns from and is measured on, and behind how many its pairs come, as it is kept in
    `SIZES`."""
    names = [name for name in type(config).model_fields if name.startswith("online_")]
    return {name: getattr(config, name) for name in (*names, "further_items")}


def _shares(right: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(right_T.float().mean()) for name, right_T in right.items()}
