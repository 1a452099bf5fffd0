"""Pretraining as a job: a student, its teacher and the online probe, and an encoder folder at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from d2v.config import EvaluateConfig, TrainConfig
from d2v.data import digests
from d2v.distributed.environment import own_device
from d2v.errors import CollapseError, DataError
from d2v.evaluation.online import OnlineProbe
from d2v.evaluation.search_space import SEARCH, learn
from d2v.modalities.base import Modality, PreparedData
from d2v.model_folder import DECODER, ENCODER, is_rest, load_state, read_weights, save_encoder
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.objectives.build import build_objective
from d2v.pretraining.start import build_from, digest_of
from d2v.progress import log
from d2v.tracker import Tracker
from d2v.training.job import Job
from d2v.training.train import TrainResult, train

PROBED = "probed"
"""Folder of a run that keeps the items which the online probe named right."""


def pretrain(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    out: Path,
    evaluation: EvaluateConfig | None = None,
    tracker: Tracker | None = None,
    start: Path | None = None,
) -> TrainResult:
    """Pretrain, or go on pretraining, and leave `out/encoder`: `train` on a `pretraining_job`.

    Args:
        out: run folder.
        tracker: where metrics go, such as an MLflow run.
        modality, recipe, prepared, evaluation, start: see `pretraining_job`.

    Raises:
        D2vError: see `pretraining_job` and `d2v.training.train.train`.

    Example:
        >>> pretrain(registry.get(name), recipe, Path("prepared"), Path("run"))  # doctest: +SKIP
    """
    return train(pretraining_job(modality, recipe, prepared, evaluation, start, out / PROBED), out, tracker)


def pretraining_job(
    modality: Modality,
    recipe: TrainConfig,
    prepared: Path,
    evaluation: EvaluateConfig | None = None,
    start: Path | None = None,
    probed: Path | None = None,
) -> Job:
    """What pretraining trains.

    Args:
        modality: from `d2v.modalities.registry`.
        recipe: its train block.
        prepared: folder that prepare left.
        evaluation: settings of the online probe.
        start: folder of the encoder to start from, which `recipe.start` names; None for random weights.
        probed: folder for `<updates>.npy`, which says of each item of the online probe whether it is right about it:
            its choice, and where there is none its linear probe; None: not kept.

    Raises:
        CheckpointError: the encoder to start from is missing, damaged, of another modality or of other sizes.
    """
    recipe = recipe.in_updates()
    parts = _Pretraining(modality, recipe, prepared, evaluation or EvaluateConfig(), start, probed)
    return Job(
        name=f"{modality.name}.train",
        recipe=recipe,
        open_data=parts.open_data,
        build=parts.build,
        export=parts.export,
        probe=parts.probe,
        whole_probe=parts.probe_whole if modality.has_choices and parts.evaluation.online_choice_items else None,
        origin=digest_of(start, modality.name) if start else "",
    )


@dataclass(frozen=True)
class _Pretraining:
    """What the job's functions share; each rank has its own, filled as it is needed."""

    modality: Modality
    recipe: TrainConfig
    prepared: Path
    evaluation: EvaluateConfig
    start: Path | None
    probed: Path | None

    @cached_property
    def _data(self) -> PreparedData:
        data: PreparedData = self.modality.open(self.prepared)
        return data

    @cached_property
    def _online_probe(self) -> OnlineProbe:
        return OnlineProbe(self.modality, self.recipe, self._data, self.evaluation)

    def open_data(self) -> PreparedData:
        return self._data

    def build(self) -> Objective:
        if self.start is None:
            objective = build_objective(self.modality, self.recipe)
        else:
            objective = build_from(self.start, self.modality, self.recipe)
        objective.take_from(self._data)
        return objective

    def probe(self, encoder: Encoder, update: int) -> dict[str, float]:
        return self._online_probe(encoder, self._file_of(update))

    def probe_whole(self, weights: Mapping[str, Tensor], update: int) -> dict[str, float]:
        if self._online_probe.pairs is None:
            return {}
        objective = build_objective(self.modality, self.recipe)
        objective.take_from(self._data)
        load_state(objective, weights, f"the training after {update} updates")
        return self._online_probe.choice(objective.to(own_device()), self._file_of(update))

    def _file_of(self, update: int) -> Path | None:
        return self.probed and self.probed / f"{update}.npy"

    def export(self, out: Path, objective: Objective, weights_of: WeightsOf) -> None:
        folder, about = out / "encoder", self.modality.describe(self._data)
        is_written = save_encoder(folder, objective, self.modality.name, self.recipe, about, weights_of)
        rest = weights_of(objective, is_rest)
        if rest:
            save_file(rest, folder / DECODER)
            digests.seal(folder)
        if is_written:
            self._learn_search_space(folder)

    def _learn_search_space(self, folder: Path) -> None:
        """From the train items of the probe set, without their labels. A space that cannot be learned is no reason to
        lose the encoder."""
        (folder / SEARCH).unlink(missing_ok=True)
        items = self._data.probe_set(self.recipe).train_inputs
        try:
            encoder = self.modality.build_encoder(self.recipe)
            load_state(encoder, read_weights(folder / ENCODER), str(folder))
            encoder.eval().to(own_device())
            learn(encoder, items, self.modality.grid(self.recipe), self.evaluation.batch_size).save(folder)
        except (CollapseError, DataError) as error:
            log(f"train: {folder} has no space to search in: {error}")
