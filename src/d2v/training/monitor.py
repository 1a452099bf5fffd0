"""Signs of collapse: spread and rank of features, and the stops that follow from them. Also the `Window` in which
metrics of updates wait for the next row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from d2v.config import MonitorConfig
from d2v.data.batch import Batch
from d2v.errors import CollapseError
from d2v.models.effective_rank import effective_rank
from d2v.models.encoder import Encoder
from d2v.models.masking import is_padding
from d2v.models.targets import mean_std

_WATCHED_SAMPLES = 64

_ADVICE = (
    "Lower train.optimizer.lr, lengthen train.schedule.warmup_updates or, where there is a teacher, raise "
    "train.objective.ema.decay_start, and start over with train.resume=restart."
)


class Window:
    """Metrics since the last log line. They stay on the device, and on their rank, until they are read.

    Args:
        values: metrics of a window that a checkpoint cut in two.
        mean_over_ranks: (N,) metrics of this rank -> their mean over all; all ranks read at the same time.
    """

    def __init__(
        self,
        values: dict[str, list[float]] | None = None,
        mean_over_ranks: Callable[[Tensor], Tensor] = lambda metrics: metrics,
    ) -> None:
        self._mean_over_ranks = mean_over_ranks
        self._values: dict[str, list[Tensor]] = {}
        self._read: dict[str, list[float]] = {name: list(v) for name, v in (values or {}).items()}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Note () tensors without looking at them."""
        for name, metric in metrics.items():
            self._values.setdefault(name, []).append(metric.detach())

    def to_lists(self) -> dict[str, list[float]]:
        """All metrics by name, oldest first; one wait for the device."""
        if self._values:
            new = torch.stack([metric.float() for metrics in self._values.values() for metric in metrics])
            metrics = iter(self._mean_over_ranks(new).tolist())
            for name, tensors in self._values.items():
                self._read.setdefault(name, []).extend(itertools.islice(metrics, len(tensors)))
            self._values.clear()
        return self._read

    def take_means(self) -> dict[str, float]:
        """Mean of each metric, in the order of arrival; the window is empty afterwards."""
        means = {name: math.fsum(values) / len(values) for name, values in self.to_lists().items()}
        self._read = {}
        return means


def stage_features(encoder: Encoder, inputs: Tensor, lengths: Tensor | None) -> dict[str, Tensor]:
    """(N, D) features of all tokens after the stem, in the middle of the trunk and at the end."""
    local = encoder.stem(inputs)
    token_lengths = encoder.token_lengths(lengths)
    encoded = encoder.encode(local, token_lengths, activation="end_of_block")
    stages = {"stem": local, "middle": encoded.activations[len(encoded.activations) // 2], "final": encoded.tokens}
    if token_lengths is None:
        return {name: features.flatten(0, 1) for name, features in stages.items()}
    real = ~is_padding(token_lengths, local.shape[1])
    return {name: features[real] for name, features in stages.items()}


@torch.no_grad()
def watch(student: Encoder, batch: Batch) -> dict[str, float]:
    """Spread and RankMe of the student's stages on a few samples.

    Args:
        student: in evaluation mode.
        batch: its first samples are taken.
    """
    metrics: dict[str, float] = {}
    lengths = None if batch.lengths is None else batch.lengths[:_WATCHED_SAMPLES]
    for stage, features_ND in stage_features(student, batch.inputs[:_WATCHED_SAMPLES], lengths).items():
        metrics[f"features/{stage}_std"] = float(mean_std(features_ND))
        metrics[f"features/{stage}_rank"] = effective_rank(features_ND)
    return metrics


def position_warning(config: MonitorConfig, metrics: dict[str, float]) -> str | None:
    """What to say of a logged row whose targets are mostly position; None if they are not, or have no teacher."""
    share = metrics.get("train/target_position_share", 0.0)
    if not share > config.max_position_share:
        return None
    return (
        f"{share:.0%} of the targets' variance is explained by their positions alone (more than "
        f"train.monitor.max_position_share {config.max_position_share:g}), which can leave little to learn from: "
        "compare train/predicted_beyond_position, and start positions smaller beside contents (for text "
        "train.encoder.word_std=1.0 and position_std=0.1). Where they cannot, try "
        "train.objective.targets.average_norms=[position] in a short run beside this one: it has mended texts and "
        "spoilt small images"
    )


def check_collapse(
    config: MonitorConfig, metrics: dict[str, float], updates: int, last_healthy: int, checkpoints: Path
) -> bool:
    """Whether the representations are healthy: logged metrics compared with their minima.

    Args:
        config: the minima, and the update from which they hold.
        metrics: a logged row.
        updates: updates done.
        last_healthy: updates at the last check that passed.
        checkpoints: the run's checkpoint folder.

    Raises:
        CollapseError: one is below after the grace period, with the evidence, the last healthy checkpoint and advice.
    """
    limits = {
        "train/target_std": config.min_target_std,
        "train/pred_std": config.min_prediction_std,
        "features/final_rank": config.min_rank,
    }
    low = [
        f"{name} {metrics[name]:.3g} is below {limit:g}"
        for name, limit in limits.items()
        if limit > 0 and name in metrics and not metrics[name] >= limit
    ]
    if low and updates > config.grace_updates:
        raise CollapseError(
            f"The representations collapsed by update {updates}: {'; '.join(low)}. They were healthy at update "
            f"{last_healthy}; {describe_last_checkpoint(checkpoints, last_healthy)}. {_ADVICE}"
        )
    return not low


def describe_last_checkpoint(folder: Path, updates: int) -> str:
    """Words for the newest checkpoint made at or before `updates`."""
    healthy = [p for p in sorted(folder.glob("update-*")) if int(p.name.removeprefix("update-")) <= updates]
    return f"the last healthy checkpoint is {healthy[-1]}" if healthy else "there is no checkpoint from before"


def non_finite_error(update: int, rows: list[int], rank: int, checkpoints: Path) -> CollapseError:
    """The stop for a loss or gradient that is not finite.

    Args:
        update: index of the update, from 0.
        rows: sample ids of its batch.
        rank: which rank saw it.
        checkpoints: the run's checkpoint folder.
    """
    shown = ", ".join(map(str, rows[:8])) + (", ..." if len(rows) > 8 else "")
    return CollapseError(
        f"The loss or its gradient is not finite at update {update + 1} (rank {rank}, samples {shown}); that update "
        f"was not applied, and {describe_last_checkpoint(checkpoints, update)}. Lower train.optimizer.lr, lengthen "
        "train.schedule.warmup_updates, set train.optimizer.clip_norm or train.precision=fp32, and start over with "
        "train.resume=restart."
    )
