"""A fine-tuned model: encoder, head, and the task that decodes their outputs. As a folder: `config.json`,
`encoder.safetensors`, `head.safetensors`, and of several labels `thresholds.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from d2v import moved
from d2v.config import Block, FinetuneConfig, TaskConfig, TrainConfig, parse
from d2v.data import digests
from d2v.data.batch import Inputs
from d2v.data.disk import read_json
from d2v.errors import CheckpointError
from d2v.finetuning.objective import FineTuning
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.build_task import restore_task
from d2v.finetuning.tasks.classification import Classification, Multilabel
from d2v.modalities import registry
from d2v.modalities.base import Modality
from d2v.model_folder import (
    CONFIG,
    ENCODER,
    RESTORE,
    TEACHER,
    build_fitting,
    load_state,
    own_weights,
    read_config,
    read_weights,
    refuse_misfits,
    shapes_of,
)
from d2v.models.encoder import Encoder
from d2v.models.shards import WeightsOf
from d2v.training.matmul import fast_products

HEAD, THRESHOLDS, MODEL = "head.safetensors", "thresholds.json", "model"
"""The files of the head and of the classes' thresholds, and the folder of the model below a run's."""


@dataclass(frozen=True)
class FinetunedModel:
    """An encoder and a head in evaluation mode.

    Attributes:
        encoder: inputs to tokens.
        head: (Encoded, token lengths) -> outputs.
        task: outputs to predictions.
        about: contents of config.json.
    """

    encoder: Encoder
    head: nn.Module
    task: Task
    about: Mapping[str, Any]

    def to(self, device: torch.device) -> FinetunedModel:
        """The same on a device."""
        return FinetunedModel(self.encoder.to(device), self.head.to(device), self.task, self.about)

    @torch.no_grad()
    def outputs(self, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
        """The head's outputs of a batch in float32, and its token lengths."""
        like = next(self.encoder.parameters())
        inputs = inputs.to(like)
        with fast_products(like):
            lengths = self.encoder.token_lengths(inputs.lengths)
            encoded = self.encoder.encode(self.encoder.stem(inputs.values), lengths)
            return self.head(encoded, lengths).float(), lengths

    def predict(self, inputs: Inputs, batch_size: int = 64) -> Sequence[Any] | np.ndarray:
        """One prediction an item: class ids, numbers, logits of classes, or texts. Of an item in several windows, the
        outputs are averaged."""
        if inputs.owners is not None:
            rows = torch.cat([self.outputs(batch)[0] for batch in inputs.split(batch_size)])
            return self.task.predict(inputs.merged(rows), None)
        batches = [self.task.predict(*self.outputs(batch)) for batch in inputs.split(batch_size)]
        if batches and isinstance(batches[0], np.ndarray):
            return np.concatenate(batches)
        return [prediction for batch in batches for prediction in batch]


def decode(task: Task, predictions: Any) -> list[Any]:
    """Predictions as people read them, one an item: a class name, a text, a number, or {class: probability}.

    Args:
        task: whose predictions.
        predictions: what its `predict` gave.
    """
    if isinstance(task, Classification):
        return [task.class_names[class_id] for class_id in predictions]
    if isinstance(task, Multilabel):
        probabilities_NC = torch.as_tensor(predictions).sigmoid().tolist()
        return [dict(zip(task.class_names, row_C, strict=True)) for row_C in probabilities_NC]
    return predictions.tolist() if isinstance(predictions, np.ndarray) else list(predictions)


def start_recipe(start: Path | None, modality: Modality, recipe: TrainConfig, config: FinetuneConfig) -> TrainConfig:
    """The train block of the encoder to tune, with the settings that the finetune block changes.

    Args:
        start: a model folder; None for random weights.
        modality: what the data is.
        recipe: the train block that random weights are built from.
        config: the finetune block.

    Raises:
        CheckpointError: no such model, or one of another modality.
        ConfigError: settings that an encoder does not have.
    """
    about = {} if start is None else read_config(start)
    if start is not None and about.get("modality") != modality.name:
        raise CheckpointError(
            f"{start} is a model for {about.get('modality')}, not for {modality.name}: set {modality.name}.finetune."
            "start to another one"
        )
    values = about.get("recipe", recipe.model_dump(mode="json"))
    changed = values | {"encoder": values["encoder"] | config.encoder}
    return parse(modality.train_config, changed, at=f"{modality.name}.finetune")


def start_weights(start: Path, config: FinetuneConfig) -> Path:
    """The file of the weights to start from."""
    return start / (TEACHER if config.teacher else ENCODER)


def load_weights(module: nn.Module, file: Path) -> None:
    """Fill a module from a file.

    Raises:
        CheckpointError: the file is missing or damaged, or does not fit.
    """
    load_state(module, read_weights(file), str(file))


def save_finetuned(
    folder: Path,
    objective: FineTuning,
    modality: str,
    pretraining: TrainConfig,
    about: Mapping[str, Any],
    weights_of: WeightsOf = own_weights,
) -> None:
    """Write a fine-tuned model.

    Args:
        folder: created if it is not there.
        objective: whose encoder and head are saved.
        modality: registry name.
        pretraining: the train block that the encoder was built from.
        about: what the modality says of the data, for feeding the encoder.
        weights_of: gathers weights that are spread over processes; all of them call this function then.
    """
    for file, module in ((ENCODER, objective.student), (HEAD, objective.head)):
        weights = weights_of(module, lambda name: True)
        if weights:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights, folder / file)
    config = {
        "format": 1,
        "modality": modality,
        "recipe": pretraining.model_dump(mode="json"),
        "finetune": objective.config.model_dump(mode="json"),
        **about,
        "task": objective.task.describe(),
    }
    if weights:  # of the head, in the process that writes
        (folder / THRESHOLDS).unlink(missing_ok=True)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        digests.seal(folder)


class _TaskBlock(Block):
    task: TaskConfig


def _task_of(about: Mapping[str, Any], folder: Path) -> tuple[TaskConfig, Mapping[str, Any]]:
    """The task's block, and what it says of itself."""
    block, described = about["finetune"], about.get("task")
    if not isinstance(block, dict) or not isinstance(block.get("task"), dict) or not isinstance(described, dict):
        raise CheckpointError(f"{folder / CONFIG} is not what was written (it lacks finetune.task or task): {RESTORE}")
    return parse(_TaskBlock, {"task": block["task"]}, at="finetune").task, described


def _read_thresholds(folder: Path, task: Multilabel) -> np.ndarray:
    digests.check(folder, [THRESHOLDS], CheckpointError, RESTORE)
    of_classes = read_json(folder / THRESHOLDS, CheckpointError, RESTORE, dict.fromkeys(task.class_names, float))
    return np.array([of_classes[name] for name in task.class_names])


def load_finetuned(folder: Path) -> FinetunedModel:
    """Read what `save_tuned` wrote, in evaluation mode on the CPU.

    Raises:
        CheckpointError: a file is missing or damaged, or weights and recipe do not fit.
    """
    about = read_config(folder)
    if "finetune" not in about:
        raise CheckpointError(f"{folder} holds an encoder without a head: give the folder of a fine-tuned model")
    config, described = _task_of(about, folder)
    modality = registry.get(about["modality"])
    recipe = parse(modality.train_config, about["recipe"], at="recipe")
    weights, head_weights = read_weights(folder / ENCODER), read_weights(folder / HEAD)
    encoder = build_fitting(modality, recipe, shapes_of(weights), str(folder / ENCODER))
    task = restore_task(config, described)
    if isinstance(task, Multilabel) and (folder / THRESHOLDS).is_file():
        task.thresholds_C = _read_thresholds(folder, task)
    with torch.device("meta"):
        refuse_misfits(task.make_head(encoder), shapes_of(head_weights), str(folder / HEAD))
    head = task.make_head(encoder)
    load_state(encoder, weights, str(folder / ENCODER))
    load_state(head, head_weights, str(folder / HEAD))
    return FinetunedModel(encoder.eval(), head.eval(), task, about)


if not TYPE_CHECKING:
    __getattr__ = moved.old_attributes(__name__)
