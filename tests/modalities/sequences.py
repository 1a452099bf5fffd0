"""What the tests of speech and of text share: recipes of masks, keys, runs; objectives over small encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2v.config import TrainConfig, parse
from d2v.data.batch import Batch
from d2v.data.random import fold_in
from d2v.modalities.base import Modality
from d2v.models.decoders import ConvDecoder
from d2v.models.encoder import Encoder
from d2v.models.masking import Masks
from d2v.models.teacher import Teacher
from d2v.objectives.base import Objective
from d2v.objectives.data2vec1 import Data2Vec1
from d2v.objectives.data2vec2 import Data2Vec2

# --------------------------------------------------------------------------------------------- masks


def masking(modality: Modality, mask: Mapping[str, Any]) -> Any:
    """A recipe with this mask block; spans are data2vec 1.0's."""
    version = "data2vec1" if mask["kind"] == "span" else "data2vec2"
    ema = {"decay_start": 0.999, "decay_end": 0.9999}
    values = {
        "encoder": {"layout": version},
        "mask": mask,
        "objective": {"name": version, "targets": {"top_k_layers": 8}, "ema": ema},
        "optimizer": {"lr": 1e-3},
        "batch_size": 1,
        "max_updates": 1,
    }
    return parse(modality.train_config, values)


def keys(count: int, seed: int = 0) -> Tensor:
    """Keys of so many masks."""
    return fold_in(seed, torch.arange(count))


def runs(masks: np.ndarray) -> tuple[float, np.ndarray]:
    """How many runs of hidden tokens a row has on average, and the share of each length among them."""
    edges = np.diff(np.pad(masks.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    counts = np.bincount(lengths, minlength=masks.shape[1] + 1)
    return counts.sum() / len(masks), counts / counts.sum()


# ------------------------------------------------------------------------------------------ encoders


def published_sizes(modality: Modality, values: Mapping[str, Any]) -> tuple[int, int, int]:
    """(parameters with the decoder, without it, tensors that the teacher averages)."""
    recipe: Any = parse(modality.train_config, values)
    with torch.device("meta"):
        student = modality.build_encoder(recipe)
        decoder = ConvDecoder(student.width, recipe.objective.decoder, grid=None)
        teacher = Teacher(student, recipe.objective.ema.copied, shared_local=True)
    without = count_parameters(student)
    return without + count_parameters(decoder), without, len(list(teacher.encoder.parameters()))


def count_parameters(module: nn.Module) -> int:
    """Numbers in all parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def student_alone_and_in_a_batch(
    modality: Modality, recipe: TrainConfig, encoder: Encoder, items: Sequence[Tensor], padded: tuple[Tensor, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """For each item, what the student makes of its visible tokens under three masks: alone, and in a padded batch."""
    values, lengths = padded
    lengths = encoder.token_lengths(lengths)
    longest = int(lengths.max())
    is_masked = modality.draw_masks(recipe, keys(3 * len(items), seed=5), longest, lengths.repeat_interleave(3))
    masks = Masks.with_padding(is_masked, lengths, modality.num_masked(recipe, longest))
    together = encoder.encode(encoder.stem(values), lengths, masks).tokens
    pairs = []
    for row, (item, n) in enumerate(zip(items, lengths.tolist(), strict=True)):
        rows = slice(3 * row, 3 * row + 3)
        its_masks = Masks.with_equal_counts(is_masked[rows, :n], 1, modality.num_masked(recipe, n))
        alone = encoder.encode(encoder.stem(item[None]), None, its_masks).tokens
        pairs.append((alone, together[rows, : alone.shape[1]]))
    return pairs


# ---------------------------------------------------------------------------------------- objectives


def batch_of(inputs: Tensor, lengths: Tensor | None = None) -> Batch:
    """Inputs as samples 0, 1, 2 ... of the first epoch."""
    ids = torch.arange(len(inputs))
    return Batch(inputs, ids, torch.zeros_like(ids), update=0, lengths=lengths)


def objective_over(modality: Modality, recipe: Any, encoder: Encoder, **changes: Any) -> Objective:
    """The recipe's objective over this encoder, in float64, with changes to its block."""
    config, longest = recipe.objective.model_copy(update=changes), modality.max_tokens(recipe)
    draw, hidden = partial(modality.draw_masks, recipe), partial(modality.num_masked, recipe)
    if config.name == "data2vec1":
        return Data2Vec1(config, encoder, longest, draw).double()
    decoder = ConvDecoder(encoder.width, config.decoder, grid=None)
    return Data2Vec2(config, encoder, decoder, longest, hidden, draw).double()


def loss_sum(objective: Objective, batch: Batch) -> Tensor:
    """The loss under the masks of update 0."""
    return objective(batch, objective.draw_masks(batch, 0, "cpu")).loss_sum


def idle_parameters(objective: Objective, batch: Batch) -> list[str]:
    """Names of trained parameters that the batch's loss has no gradient for, or one that is zero or not finite; and of
    the teacher's that it has one for."""
    loss_sum(objective, batch).backward()
    named = list(objective.named_parameters())
    trained = {name: p for name, p in named if not name.startswith("teacher.")}
    idle = [name for name, p in trained.items() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()]
    return idle + [name for name, p in named if name not in trained and p.grad is not None]


def loss_of_each(objective: Objective, batch: Batch, items: Sequence[Tensor]) -> Tensor:
    """The sum of the losses that the items of a batch have alone."""
    ids, epochs = batch.sample_ids, batch.epochs
    alone = [Batch(item[None], ids[row : row + 1], epochs[row : row + 1], 0) for row, item in enumerate(items)]
    return torch.stack([loss_sum(objective, one) for one in alone]).sum()


def placed(objective: Objective, batch: Batch) -> tuple[Masks, Tensor, Tensor, Tensor | None]:
    """(masks, the student's local features before positions are added, after, bias), as the objective's pass has it."""
    stem, masks, calls = objective.student.stem, objective.draw_masks(batch, 0, "cpu"), []
    add_positions = stem.add_positions
    stem.add_positions = lambda *arguments: calls.append((arguments[0], *add_positions(*arguments))) or calls[-1][1:]
    objective(batch, masks)
    del stem.add_positions
    return masks, *calls[-1]
