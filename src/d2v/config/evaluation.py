"""How a frozen encoder is looked at."""

from __future__ import annotations

from typing import Any

from d2v.config.blocks import Block, NonNegativeInt, Positive, PositiveInt


class EvaluateConfig(Block):
    """Probes of a frozen encoder on the prepared probe set, and the report's pictures."""

    knn_k: PositiveInt = 20
    """Nearest train items that vote for a test item's class in the kNN probe."""
    knn_temperature: Positive = 0.07
    """Cosine similarities are divided by this before their exponentials weight the votes; smaller lets the nearest
    decide (DINO, appendix F.1)."""
    linear_l2: tuple[Positive, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    """L2 strengths of the linear probe to choose from, on a fifth of the train items that is held out for it."""
    bootstrap_resamples: PositiveInt = 1000
    """Resamples of the test items for confidence intervals; more make the ends of intervals less random."""
    neighbour_queries: PositiveInt = 8
    """Test items whose nearest train items the report shows."""
    picture_items: PositiveInt = 8
    """Test items at most in the pictures of masks and of token features."""
    further_items: NonNegativeInt = 800
    """Items at most of each probe that needs no labels, such as sentences of the forced choice; 0 leaves these probes
    out."""
    online_train_items: PositiveInt = 1000
    """Train items at most that the probe during pretraining learns from."""
    online_test_items: PositiveInt = 500
    """Held-out train items at most that it is measured on; more make the curve of pretraining less noisy."""
    online_choice_items: NonNegativeInt = 200
    """Pairs at most of which the probe during pretraining says the whole one, for items whose own labels are not
    there, such as sentences of a text; none of them is among those of `further_items`; 0 leaves this out."""
    batch_size: PositiveInt = 256
    """Items that are encoded at a time; larger needs more memory and changes no result."""

    def of_the_end(self) -> dict[str, Any]:
        """The settings that what is measured after training depends on."""
        return self.model_dump(
            mode="json", exclude={name for name in type(self).model_fields if name.startswith("online_")}
        )
