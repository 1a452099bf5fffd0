"""From a recipe to a task: on a data set, or as a model brings it along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from d2v.config import ClassificationTask, MultilabelTask, RegressionTask, TaskConfig
from d2v.errors import DataError
from d2v.finetuning.ctc_vocabulary import CtcVocabulary
from d2v.finetuning.tasks.base import Task
from d2v.finetuning.tasks.classification import Classification, Multilabel, names_in
from d2v.finetuning.tasks.regression import Regression
from d2v.finetuning.tasks.transcription import Transcription
from d2v.modalities.base import LabelledSplit


def build_task(config: TaskConfig, class_names: Sequence[str], train: LabelledSplit) -> Task:
    """The task on a data set.

    Args:
        config: the task's block of the recipe.
        class_names: of the data's classes, by id.
        train: characters and lists of classes are gathered from it.

    Raises:
        DataError: the data has no such labels.
    """
    if isinstance(config, ClassificationTask):
        if len(class_names) < 2:
            raise DataError(
                f"The data has {len(class_names)} class(es), and classification needs two: give labelled data, or set "
                "finetune.task.name=transcription or regression"
            )
        return Classification(config, class_names)
    if isinstance(config, MultilabelTask):
        return Multilabel(config, sorted({name for text in train.texts for name in names_in(text)}))
    if isinstance(config, RegressionTask):
        return Regression(config)
    if config.vocabulary == "fairseq":
        return Transcription(config, CtcVocabulary.fairseq())
    return Transcription(config, CtcVocabulary.of_transcripts(text for text in train.texts if text))


def restore_task(config: TaskConfig, about: Mapping[str, Any]) -> Task:
    """The task of a fine-tuned model, from what `Task.describe` gave."""
    if isinstance(config, ClassificationTask):
        return Classification(config, about["class_names"])
    if isinstance(config, MultilabelTask):
        return Multilabel(config, about["class_names"])
    if isinstance(config, RegressionTask):
        return Regression(config)
    return Transcription(config, CtcVocabulary(tuple(about["letters"])))
