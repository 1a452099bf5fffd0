"""Learning rate as a pure function of the update."""

from __future__ import annotations

import math

from d2v.config import ScheduleConfig


def learning_rate(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    """Learning rate of the update that follows `update` finished ones.

    Args:
        config: the schedule.
        peak: highest rate.
        update: updates done so far, from 0.
        max_updates: length of the run.
    """
    if config.name == "tri_stage":
        return _tri_stage(config, peak, update, max_updates)
    return _one_period(config, peak, update, max_updates)


def _one_period(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    low, warmup = config.min_lr, config.warmup(max_updates)
    if update < warmup:
        return low + (peak - low) * update / warmup
    progress = min((update - warmup) / max(max_updates - warmup, 1), 1.0)
    left = 1.0 - progress if config.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return low + (peak - low) * left


def _tri_stage(config: ScheduleConfig, peak: float, update: int, max_updates: int) -> float:
    warmup = config.warmup(max_updates)
    hold, decay = (int(max_updates * share) for share in config.phases[1:])
    if update < warmup:
        first = config.init_scale * peak
        return first + (peak - first) * update / warmup
    if update < warmup + hold:
        return peak
    progress = min((update - warmup - hold) / max(decay, 1), 1.0)
    return peak * config.final_scale**progress
