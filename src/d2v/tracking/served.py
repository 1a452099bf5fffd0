"""Models that answer requests: an encoder with embeddings, a fine-tuned model with what its head says. Both give
vectors of items, which an index is searched with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d2v.data.batch import Inputs
from d2v.errors import CheckpointError
from d2v.evaluation.search_space import SearchSpace, pool
from d2v.finetuning.model import decode, load_finetuned
from d2v.model_folder import load_encoder, read_config
from d2v.models.encoder import Encoder
from d2v.tracking.requests import BATCH_ITEMS, RequestRefused, Requests
from d2v.training.matmul import inference


@dataclass(frozen=True)
class ServedModel:
    """A model in memory and the reader of its requests.

    Attributes:
        requests: rows to inputs.
        answer: inputs of a few items to one answer an item: (n, width) float32 embeddings, or a list.
        encoder: of either kind of model.
        search_space: of an encoder; None where it has none.
    """

    requests: Requests
    answer: Callable[[Inputs], np.ndarray | list[Any]]
    encoder: Encoder
    search_space: SearchSpace | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a request; the first must be there."""
        return self.requests.modality.request.columns

    def answers(self, rows: Sequence[Mapping[str, Any]], space: str = "plain") -> Iterator[np.ndarray | list[Any]]:
        """Answers to rows, a few at a time: who stops asking stops the computation. Raises RequestRefused."""
        return self.answers_of(self.requests.batches_of_rows(rows), space)

    def answers_of(self, batches: Iterable[Inputs], space: str = "plain") -> Iterator[np.ndarray | list[Any]]:
        """Answers to inputs: of an encoder embeddings in a space, `plain` or `search`. Raises RequestRefused if there
        is no such space."""
        if space not in ("plain", "search"):
            raise RequestRefused(f"There is no space {space[:60]!r}: give plain or search")
        if space == "search" and self.search_space is None:
            raise RequestRefused("The model has no space to search in: ask without it, or have one made with d2v space")
        for inputs in batches:
            yield self.answer(inputs) if space == "plain" else self.vectors(inputs, self.search_space)

    def vectors(self, inputs: Inputs, space: SearchSpace | None) -> np.ndarray:
        """(n, R) float32 of inputs: vectors of a space to search in, or (n, width) plain features without one."""
        like, grid = next(self.encoder.parameters()), None if space is None else space.grid
        with inference(like):
            pooled = []
            for part in (part.to(like) for part in inputs.split(BATCH_ITEMS)):  # an item can be several windows
                if grid is None:
                    pooled.append(self.encoder.features(part.values, part.lengths))
                else:
                    tokens = self.encoder(part.values, part.lengths)
                    pooled.append(pool(tokens, self.encoder.token_lengths(part.lengths), grid))
            rows = inputs.merged(torch.cat(pooled)).float().cpu()
            found: np.ndarray = (rows if space is None else space(rows)).numpy()
        return found

    def try_out(self) -> None:
        """Answer the modality's example.

        Raises:
            CheckpointError: embeddings are not finite.
        """
        example = self.requests.modality.request.example(self.requests.config)
        for space in ("plain", "search") if self.search_space is not None else ("plain",):
            for answers in self.answers([example], space):
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
        return served.vectors(inputs, None)

    requests = Requests.from_environment(config, environment)
    served = ServedModel(requests, embed, encoder, SearchSpace.read(folder))
    return served


def served_finetuned(folder: Path, environment: Mapping[str, str], device: str = "cpu") -> ServedModel:
    """A fine-tuned model's folder, ready for requests; otherwise as `served_encoder`."""
    model = load_finetuned(folder).to(torch.device(device))
    requests = Requests.from_environment(dict(model.about), environment)
    return ServedModel(requests, lambda inputs: decode(model.task, model.predict(inputs)), model.encoder)


def served_model(folder: Path, environment: Mapping[str, str], device: str = "cpu") -> ServedModel:
    """Either of them, as the folder's config.json says."""
    load = served_finetuned if "finetune" in read_config(folder) else served_encoder
    return load(folder, environment, device)
