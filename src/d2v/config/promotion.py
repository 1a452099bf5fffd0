"""When a challenger takes the champion's place."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from d2v.config.blocks import Block, Fraction, NonNegativeInt, Positive, PositiveInt

NonNegative = Annotated[float, Field(ge=0.0)]


class PromoteConfig(Block):
    """The challenger is promoted if its gain over the champion, on the same held-out items, lies above `margin` with
    its whole interval, and no guard objects. Margins, drops and tolerances are in the figure's own unit: 0.01 is one
    percentage point of accuracy.

    Encoders are compared by the linear probe, fine-tuned models by the first metric of their task. Guards: the probe's
    gain over random weights (`min_gain_over_random`, with its interval), the effective rank of the features, the recall
    of every class with at least `min_class_items` held-out items, the other figures (they may fall by `tolerance`), and
    size and time of an answer as multiples of the champion's. `null` switches a guard off."""

    margin: NonNegative = 0.0
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(default=0.95, description="of the interval of the gain")
    bootstrap_resamples: PositiveInt = 2000
    min_gain_over_random: float | None = 0.0
    min_rank: NonNegative | None = 2.0
    max_class_drop: Fraction | None = 0.2
    min_class_items: PositiveInt = 20
    tolerance: NonNegative | None = 0.02
    max_size_factor: Positive | None = 1.5
    max_latency_factor: Positive | None = 1.5
    latency_calls: PositiveInt = Field(default=20, description="of either model, taking turns; medians are compared")
    latency_items: PositiveInt = Field(default=8, description="in each call")
    batch_size: PositiveInt = 64
    seed: NonNegativeInt = 0
