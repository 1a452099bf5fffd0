"""Learning rate and teacher decay as pure functions of the update."""

from __future__ import annotations

import math

from d2v.config import EmaConfig, ScheduleConfig


def ema_decay(config: EmaConfig, update: int) -> float:
    """Decay tau of the EMA step that follows optimiser update number `update` (from 1).

    tau(n) = tau_end - (tau_end - tau_start) * (1 - n / n_anneal) while n < n_anneal, then tau_end
    (data2vec section 3.2).
    """
    if update >= config.anneal_updates:
        return config.decay_end
    left = 1.0 - update / config.anneal_updates
    return config.decay_end - (config.decay_end - config.decay_start) * left


def learning_rate(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    """Learning rate of the update that follows `update` finished ones.

    Args:
        config: the schedule.
        peak: highest rate.
        update: updates done so far, from 0.
        max_updates: length of the run.
    """
    if config.name == "cosine":
        return _cosine(config, peak, update, max_updates)
    return _tri_stage(config, peak, update, max_updates)


def _cosine(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    low, warmup = config.min_lr, config.warmup_updates
    if update < warmup:
        return low + (peak - low) * update / warmup
    progress = min((update - warmup) / max(max_updates - warmup, 1), 1.0)
    return low + 0.5 * (peak - low) * (1.0 + math.cos(math.pi * progress))


def _tri_stage(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    warmup, hold, decay = (int(max_updates * share) for share in config.phases)
    if update < warmup:
        first = config.init_scale * peak
        return first + (peak - first) * update / warmup
    if update < warmup + hold:
        return peak
    progress = min((update - warmup - hold) / max(decay, 1), 1.0)
    return peak * config.final_scale**progress
