"""Fine-tuning as a job: from an encoder and labelled items to a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2v.config import FinetuneConfig, MultilabelTask, TrainConfig, ValidationConfig, updates_of
from d2v.data import digests
from d2v.data.prepared import log_ingest
from d2v.distributed.environment import read_dist_env
from d2v.errors import CheckpointError
from d2v.finetuning import metrics
from d2v.finetuning.data import TaskData, labelled_splits
from d2v.finetuning.model import MODEL, FinetunedModel, load_weights, save_finetuned, start_recipe, start_weights
from d2v.finetuning.objective import FineTuning
from d2v.finetuning.predictions import answer_and_loss
from d2v.finetuning.splits import Chosen, choose, fold_names, fold_of
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.build_task import build_task
from d2v.finetuning.thresholds import keep_thresholds
from d2v.modalities.base import Modality
from d2v.model_folder import read_config
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.objectives.base import Objective
from d2v.progress import log
from d2v.tracker import Tracker
from d2v.training.job import Job, Selection
from d2v.training.train import TrainResult, train

BLOCK, LOSS = "finetune", "loss"


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
    return Setting(modality, config, pretraining, prepared, start).train(out, tracker)


def finetuning_job(
    modality: Modality, config: FinetuneConfig, pretraining: TrainConfig, prepared: Path, start: Path | None
) -> Job:
    """What fine-tuning trains; arguments as of `finetune`."""
    return Setting(modality, config, pretraining, prepared, start).job()


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is tuned, on what; opened when it is needed.

    Attributes:
        modality: what the data is.
        config: the finetune block.
        pretraining: the train block.
        prepared: folder that prepare left.
        start: model folder of the encoder; None for random weights.
        fold: of `finetune.folds` that is held out to be tested on; None for the splits of the source.
    """

    modality: Modality
    config: FinetuneConfig
    pretraining: TrainConfig
    prepared: Path
    start: Path | None
    fold: str | None = None

    def job(self) -> Job:
        """The training."""
        config, selection = self.config.in_updates(), None
        if config.validation is not None:
            validation = config.validation.model_copy(update={"metric": deciding_metric(config)})
            config, selection = config.model_copy(update={"validation": validation}), self.selection(validation)
        name = f"{self.modality.name}.{BLOCK}"
        return Job(name, config, self.open_data, self.build, self.export, selection=selection)

    def train(self, out: Path, tracker: Tracker | None) -> TrainResult:
        """Train, or go on training, and leave `out/model`."""
        result = train(self.job(), out, tracker)
        if isinstance(self.config.task, MultilabelTask) and read_dist_env().is_main:
            keep_thresholds(out / MODEL, self.chosen, self.config)
        return result

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
        """The labelled parts, of a fold if there is one."""
        if self.fold is None or self.config.folds is None:
            return self._source_parts
        return fold_of(self._source_parts, self.config.folds, self.fold, self.data)

    @cached_property
    def _source_parts(self) -> Any:
        about = {} if self.start is None else read_config(self.start)
        return labelled_splits(self.modality, self.data, self.config, self.recipe, about)

    @cached_property
    def folds(self) -> list[str]:
        """Names of the folds; none if the recipe asks for none."""
        return fold_names(self._source_parts, self.config.folds, self.data) if self.config.folds else []

    @cached_property
    def chosen(self) -> Chosen:
        """The items to train and to validate on."""
        return choose(self.parts, self._plain_task, self.config, self.data)

    @cached_property
    def _plain_task(self) -> Task:
        return build_task(self.config.task, self.data.class_names, self.parts["train"])

    @cached_property
    def task(self) -> Task:
        """The task on this data."""
        if self.config.balance == "weights":
            self._plain_task.weigh(self.chosen.train, self.chosen.rows)
        return self._plain_task

    def open_data(self) -> TaskData:
        """What a training takes its batches from; says what ingest left out."""
        log_ingest(self.prepared, BLOCK)
        chosen, fingerprint = self.chosen, f"{self.data.fingerprint}+{self._weights_digest()}"
        if chosen.val is not None or self.fold is not None:
            fingerprint += f"+{chosen.digest}"
        if chosen.val_rows is not None:
            where = "held out of train" if chosen.val is chosen.train else "of the val split"
            log(f"{BLOCK}: {len(chosen.rows):,} items to train on, {len(chosen.val_rows):,} {where} to validate on")
        return TaskData(chosen.train, chosen.rows, self.task, self.config, fingerprint)

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

    def selection(self, config: ValidationConfig) -> Selection:
        """How the best state of the run is found.

        Raises:
            ConfigError: there is no such metric.
        """
        metric, every = deciding_metric(self.config), updates_of(config.every_updates, self.config.max_updates)
        higher = metric != LOSS and metrics.metric(metric).higher_is_better
        return Selection(self.validate, f"val/{metric}", higher, every, config.patience, config.min_gain)

    def validate(
        self, student: Encoder, weights: Mapping[str, Tensor], heartbeat: Callable[[], None]
    ) -> dict[str, float]:
        """Loss and metrics on the validation items: `val/loss`, `val/<metric>`.

        Args:
            student: the encoder in evaluation mode.
            weights: of all that is trained beside it, by its name in the objective.
            heartbeat: called at every batch.
        """
        assert self.chosen.val is not None
        assert self.chosen.val_rows is not None
        with torch.random.fork_rng():
            head = self.task.make_head(student)
        head.load_state_dict({name.removeprefix("head."): value for name, value in weights.items()})
        model = FinetunedModel(student, head.eval(), self.task, {})
        split, rows = self.chosen.val, self.chosen.val_rows
        answers, loss = answer_and_loss(model, split, rows, self.config.evaluation_batch_size, heartbeat)
        references = self.task.references(split, rows)
        wanted = dict.fromkeys((deciding_metric(self.config), *self.task.metrics))
        return {f"val/{LOSS}": loss} | {
            f"val/{name}": metrics.metric(name).compute(answers.for_metric(name), references)
            for name in wanted
            if name != LOSS
        }

    def export(self, out: Path, objective: FineTuning, weights_of: WeightsOf) -> None:
        """Leave `out/model`."""
        about = self.modality.describe(self.data)
        save_finetuned(out / MODEL, objective, self.modality.name, self.recipe, about, weights_of)


def deciding_metric(config: FinetuneConfig) -> str:
    """The metric, or `loss`, that chooses the best state of a run: the one of the block `validation`, or the task's
    first."""
    return (config.validation.metric if config.validation else None) or config.task.metrics[0]
