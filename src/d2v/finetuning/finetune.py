"""Fine-tuning as a job: from an encoder and labelled items to a model."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from d2v.config import FinetuneConfig, TrainConfig
from d2v.data import digests
from d2v.data.prepared import log_ingest
from d2v.errors import CheckpointError
from d2v.finetuning.data import TaskData, chosen_rows, labelled_splits
from d2v.finetuning.model import load_weights, save_finetuned, start_recipe, start_weights
from d2v.finetuning.objective import FineTuning
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.build_task import build_task
from d2v.modalities.base import Modality
from d2v.model_folder import read_config
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.tracker import Tracker
from d2v.training.job import Job
from d2v.training.train import TrainResult, train

BLOCK = "finetune"
MODEL = "model"


def finetune(
    modality: Modality,
    config: FinetuneConfig,
    pretraining: TrainConfig,
    prepared: Path,
    start: Path | None,
    out: Path,
    tracker: Tracker | None = None,
) -> TrainResult:
    """Tune an encoder to a task, or go on tuning, and leave `out/model`.

    Args:
        modality: from `d2v.modalities.registry`.
        config: its finetune block.
        pretraining: its train block: the encoder's sizes where the weights are random.
        prepared: folder that prepare left, with labels.
        start: model folder of the encoder; None for random weights.
        out: run folder.
        tracker: where metrics go, such as an MLflow run.

    Raises:
        DataError: the data has nothing that the task needs.
        CheckpointError: there is no such encoder, or it does not fit.
        D2vError: see `d2v.training.train.train`.
    """
    return train(finetuning_job(modality, config, pretraining, prepared, start), out, tracker)


def finetuning_job(
    modality: Modality, config: FinetuneConfig, pretraining: TrainConfig, prepared: Path, start: Path | None
) -> Job:
    """What fine-tuning trains; arguments as of `finetune`."""
    setting = Setting(modality, config, pretraining, prepared, start)
    return Job(f"{modality.name}.{BLOCK}", config, setting.open_data, setting.build, setting.export)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is tuned, on what; opened when it is needed.

    Attributes:
        modality: what the data is.
        config: the finetune block.
        pretraining: the train block.
        prepared: folder that prepare left.
        start: model folder of the encoder; None for random weights.
    """

    modality: Modality
    config: FinetuneConfig
    pretraining: TrainConfig
    prepared: Path
    start: Path | None

    @cached_property
    def recipe(self) -> TrainConfig:
        """The encoder's own train block."""
        return start_recipe(self.start, self.modality, self.pretraining, self.config)

    @cached_property
    def data(self) -> Any:
        """The prepared folder, opened."""
        return self.modality.open(self.prepared)

    @cached_property
    def parts(self) -> Any:
        """The labelled parts."""
        about = {} if self.start is None else read_config(self.start)
        return labelled_splits(self.modality, self.data, self.config, self.recipe, about)

    @cached_property
    def task(self) -> Task:
        """The task on this data."""
        task = build_task(self.config.task, self.data.class_names, self.parts["train"])
        if self.config.balance == "weights":
            task.weigh(self.parts["train"], chosen_rows(self.parts["train"], task, self.config))
        return task

    def open_data(self) -> TaskData:
        """What a training takes its batches from; says what ingest left out."""
        log_ingest(self.prepared, BLOCK)
        rows = chosen_rows(self.parts["train"], self.task, self.config)
        fingerprint = f"{self.data.fingerprint}+{self._weights_digest()}"
        return TaskData(self.parts["train"], rows, self.task, self.config, fingerprint)

    def _weights_digest(self) -> str:
        if self.start is None:
            return "random"
        weights = start_weights(self.start, self.config)
        try:
            return digests.of_file(weights)[:16]
        except OSError as error:
            raise CheckpointError(
                f"{weights} cannot be read ({error}): pretrain first (kedro run --pipeline=pretrain_"
                f"{self.modality.name}), or set {self.modality.name}.finetune.start to another model or to scratch"
            ) from error

    def build(self) -> Objective:
        """Encoder and head, what is random being drawn from the recipe's seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            encoder = self.modality.build_encoder(self.recipe)
            head = self.task.make_head(encoder)
        if self.start is not None:
            load_weights(encoder, start_weights(self.start, self.config))
        return FineTuning(self.config, encoder, head, self.task, self.modality.max_tokens(self.recipe))

    def export(self, out: Path, objective: FineTuning, weights_of: WeightsOf) -> None:
        """Leave `out/model`."""
        about = self.modality.describe(self.data)
        save_finetuned(out / MODEL, objective, self.modality.name, self.recipe, about, weights_of)
