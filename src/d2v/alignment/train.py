"""Training of heads on features that were computed once: one process, some minutes on a CPU.

Batches and dropout are functions of (seed, kind of pairs, update), so the same features give the same heads. Features
are small and an update takes milliseconds, so ranks would cost more than they give; a batch is whole in this process
and needs no gathering.

Shapes: n items, D width of a modality's features, B pairs, R width of the shared space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from d2v.alignment.heads import Head
from d2v.alignment.loss import Temperature, contrastive_loss
from d2v.alignment.pairs import Pairs
from d2v.config.alignment import AlignConfig
from d2v.data.random import STREAM_DROPOUT, STREAM_ORDER, seed_of
from d2v.errors import CollapseError, DataError
from d2v.progress import Progress
from d2v.tracker import NullTracker, Tracker
from d2v.training.schedule import learning_rate


class Heads(nn.Module):
    """The heads of all modalities and their temperature.

    Args:
        widths: modality -> D.
        config: sizes of the heads.
    """

    def __init__(self, widths: Mapping[str, int], config: AlignConfig) -> None:
        super().__init__()
        made = {name: Head(width, config.hidden, config.width, config.dropout) for name, width in widths.items()}
        self.heads = nn.ModuleDict(made)
        self.temperature = Temperature()

    def head(self, modality: str) -> Head:
        """Of a modality."""
        return cast(Head, self.heads[modality])

    def loss(self, features: Mapping[str, Tensor], pairs: Pairs, groups: Tensor) -> Tensor:
        """The contrastive loss of some pairs of one kind.

        Args:
            features: modality -> (n, D) of all items.
            pairs: B of them.
            groups: (B,) int64, what pairs belong together, see `contrastive_loss`.
        """
        rows = {pairs.first: pairs.first_rows, pairs.second: pairs.second_rows}
        first_BR, second_BR = (
            self.head(name)(features[name][torch.from_numpy(rows[name])]) for name in (pairs.first, pairs.second)
        )
        return contrastive_loss(first_BR, second_BR, self.temperature(), groups)


def train_heads(
    features: Mapping[str, Tensor], kinds: Sequence[Pairs], config: AlignConfig, tracker: Tracker | None = None
) -> tuple[Heads, list[dict[str, float]]]:
    """Heads for the modalities of some kinds of pairs.

    Args:
        features: modality -> (n, D) float32 of its items; they are not changed, and no gradient leads to encoders.
        kinds: pairs to train on.
        config: the recipe.
        tracker: gets `align/loss`, `align/loss_<kind>`, `align/scale` and `align/lr`.

    Returns:
        (heads in evaluation mode, the rows of metrics).

    Raises:
        DataError: features or losses that are not finite, or an empty kind.
        CollapseError: the loss is not finite.
    """
    for pairs in kinds:
        if len(pairs) < 2:
            raise DataError(f"{pairs.name}: {len(pairs)} pairs are too few to compare: give more")
    for name, rows_nD in features.items():
        if not bool(torch.isfinite(rows_nD).all()):
            raise DataError(f"features of {name} are not finite: see with d2v verify whether its encoder is damaged")
    tracker = tracker or NullTracker()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(config.seed, STREAM_ORDER))
        heads = Heads({name: rows_nD.shape[1] for name, rows_nD in features.items()}, config)
        for name in features:
            trained_on = [_rows_of(pairs, name) for pairs in kinds if name in (pairs.first, pairs.second)]
            heads.head(name).fit_scale(features[name][torch.from_numpy(np.unique(np.concatenate(trained_on)))])
        history = _updates(heads.train(), features, kinds, config, tracker)
    return heads.eval(), history


def _updates(
    heads: Heads, features: Mapping[str, Tensor], kinds: Sequence[Pairs], config: AlignConfig, tracker: Tracker
) -> list[dict[str, float]]:
    optimizer = _optimizer(heads, config)
    groups = [torch.from_numpy(pairs.groups()) for pairs in kinds]
    history: list[dict[str, float]] = []
    with Progress("align", config.max_updates) as progress:
        for update in range(config.max_updates):
            rate = learning_rate(config.schedule, config.optimizer.lr, update, config.max_updates)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.default_generator.manual_seed(seed_of(config.seed, STREAM_DROPOUT, update))
            losses = []
            for number, pairs in enumerate(kinds):
                chosen = batch_of(len(pairs), config.batch_size, config.seed, number, update)
                losses.append(heads.loss(features, pairs.select(chosen), groups[number][torch.from_numpy(chosen)]))
            loss = torch.stack(losses).mean()
            optimizer.zero_grad()
            loss.backward()
            if config.optimizer.clip_norm is not None:
                nn.utils.clip_grad_norm_(heads.parameters(), config.optimizer.clip_norm)
            optimizer.step()
            heads.temperature.clamp()
            if (update + 1) % config.log_every_updates == 0 or update + 1 == config.max_updates:
                named = {f"align/loss_{pairs.name}": one.item() for pairs, one in zip(kinds, losses, strict=True)}
                metrics = {"align/loss": loss.item(), **named, "align/scale": heads.temperature().item()}
                if not math.isfinite(metrics["align/loss"]):
                    raise CollapseError(
                        f"the loss of update {update + 1} is not finite: lower align.optimizer.lr "
                        f"({config.optimizer.lr:g})"
                    )
                tracker.log_metrics(metrics | {"align/lr": rate}, update + 1)
                history.append({"update": update + 1, **metrics, "align/lr": rate})
            progress.advance(1, f"loss {loss.item():.3f}" if update % config.log_every_updates == 0 else None)
    return history


def batch_of(count: int, size: int, seed: int, kind: int, update: int) -> np.ndarray:
    """(min(size, count),) int64: numbers of the pairs of an update, each epoch in an order of its own. What is left of
    an epoch and does not fill a batch is left out."""
    size = min(size, count)
    epoch, batch = divmod(update, count // size)
    order = np.random.default_rng(seed_of(seed, STREAM_ORDER, kind, epoch)).permutation(count)
    return order[batch * size : (batch + 1) * size]


def _optimizer(heads: Heads, config: AlignConfig) -> torch.optim.AdamW:
    """AdamW; matrices have weight decay, biases and the temperature have none."""
    decayed = [one for one in heads.parameters() if one.ndim > 1]
    others = [one for one in heads.parameters() if one.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.optimizer.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.optimizer.lr, betas=config.optimizer.betas, eps=config.optimizer.eps)


def _rows_of(pairs: Pairs, modality: str) -> np.ndarray:
    return pairs.first_rows if modality == pairs.first else pairs.second_rows
