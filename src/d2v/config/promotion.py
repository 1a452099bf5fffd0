"""When a challenger takes the champion's place."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from d2v.config.blocks import Block, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt


class PromoteConfig(Block):
    """The challenger is promoted if its gain over the champion, on the same held-out items, lies above `margin` with
    its whole interval, and no guard objects. Margins, drops and tolerances are in the metric's own unit: 0.01 is one
    percentage point of accuracy. `null` switches a guard off.

    Encoders are compared by the linear probe, fine-tuned models by the first metric of their task."""

    margin: NonNegative = 0.0
    """The whole interval of the gain must lie above this; larger promotes less often. In the metric's unit."""
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Confidence level of the interval; higher makes it wider and promotion rarer."""
    bootstrap_resamples: PositiveInt = 2000
    """Resamples of the held-out items for the interval."""
    min_gain_over_random: float | None = 0.0
    """Guard for encoders: the whole interval of the linear probe's gain over random weights must lie above this."""
    min_rank: NonNegative | None = 2.0
    """Guard for encoders: least effective rank (RankMe) of the features."""
    max_class_drop: Fraction | None = 0.2
    """Guard: most that the recall of any class may fall below the champion's."""
    min_class_items: PositiveInt = 20
    """Held-out items that a class needs for that guard to look at it."""
    tolerance: NonNegative | None = 0.02
    """Guard: most that each further metric may be worse than the champion's. In the metric's unit."""
    refuse_flagged: bool = True
    """Guard: the challenger's own report must not flag it as useless."""
    max_size_factor: Positive | None = 1.5
    """Guard: largest size of the weights' files, as a multiple of the champion's."""
    max_latency_factor: Positive | None = 1.5
    """Guard: longest median time of an answer, as a multiple of the champion's."""
    latency_calls: PositiveInt = 20
    """Timed calls of either model, taking turns; their medians are compared."""
    latency_items: PositiveInt = 8
    """Items in each timed call."""
    batch_size: PositiveInt = 64
    """Items that a fine-tuned model is given at a time when it is measured; changes no result."""
    seed: NonNegativeInt = 0
    """Seed of the resamples."""
