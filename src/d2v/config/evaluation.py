"""How a frozen encoder is looked at."""

from __future__ import annotations

from d2v.config.blocks import Block, Positive, PositiveInt


class EvaluateConfig(Block):
    """Probes of a frozen encoder on the prepared probe set."""

    knn_k: PositiveInt = 20
    knn_temperature: Positive = 0.07
    linear_l2: tuple[Positive, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    bootstrap_resamples: PositiveInt = 1000
    neighbour_queries: PositiveInt = 8
    picture_items: PositiveInt = 8
    batch_size: PositiveInt = 256
