"""Models that answer requests: an encoder with embeddings, a fine-tuned model with what its head says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import CheckpointError
from d2v.finetuning.model import decode, load_finetuned
from d2v.model_folder import load_encoder, read_config
from d2v.tracking.requests import BATCH_ITEMS, Requests
from d2v.training.matmul import inference


@dataclass(frozen=True)
class ServedModel:
    """A model in memory and the reader of its requests.

    Attributes:
        requests: rows to inputs.
        answer: inputs of a few items to one answer an item: (n, width) float32 embeddings, or a list.
    """

    requests: Requests
    answer: Callable[[Inputs], np.ndarray | list[Any]]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a request; the first must be there."""
        return self.requests.modality.request.columns

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[np.ndarray | list[Any]]:
        """Answers to rows, a few at a time: who stops asking stops the computation. Raises RequestRefused."""
        return self.answers_of(self.requests.batches_of_rows(rows))

    def answers_of(self, batches: Iterable[Inputs]) -> Iterator[np.ndarray | list[Any]]:
        """Answers to inputs."""
        for inputs in batches:
            yield self.answer(inputs)

    def try_out(self) -> None:
        """Answer the modality's example.

        Raises:
            CheckpointError: embeddings are not finite.
        """
        example = self.requests.modality.request.example(self.requests.config)
        for answers in self.answers([example]):
            if isinstance(answers, np.ndarray) and not np.isfinite(answers).all():
                raise CheckpointError(
                    "the model's embeddings are not finite: register or restore weights without NaN and infinity"
                )


def served_encoder(folder: Path, environment: Mapping[str, str], device: str = "cpu") -> ServedModel:
    """An encoder's folder, ready for requests.

    Args:
        folder: of the model.
        environment: variables D2V_SERVE_*, see `Requests.from_environment`.
        device: `cpu`, `cuda`, ...

    Raises:
        CheckpointError: it is missing or damaged.
        ConfigError: a variable has a wrong value.
    """
    encoder, config = load_encoder(folder)
    encoder.to(device)

    def embed(inputs: Inputs) -> np.ndarray:
        like = next(encoder.parameters())
        with inference(like):
            parts = [part.to(like) for part in inputs.split(BATCH_ITEMS)]  # an item can be several windows
            rows = torch.cat([encoder.features(part.values, part.lengths) for part in parts])
            embeddings: np.ndarray = inputs.merged(rows).float().cpu().numpy()
        return embeddings

    return ServedModel(Requests.from_environment(config, environment), embed)


def served_finetuned(folder: Path, environment: Mapping[str, str], device: str = "cpu") -> ServedModel:
    """A fine-tuned model's folder, ready for requests; otherwise as `served_encoder`."""
    model = load_finetuned(folder).to(torch.device(device))
    requests = Requests.from_environment(dict(model.about), environment)
    return ServedModel(requests, lambda inputs: decode(model.task, model.predict(inputs)))


def served_model(folder: Path, environment: Mapping[str, str], device: str = "cpu") -> ServedModel:
    """Either of them, as the folder's config.json says."""
    load = served_finetuned if "finetune" in read_config(folder) else served_encoder
    return load(folder, environment, device)
