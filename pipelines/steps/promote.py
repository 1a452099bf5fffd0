"""The promote step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.recipes import parse_all
from pipelines.tracking import active_tracker


def promote(modality: str, parameters: Mapping[str, Any], corpus: Path, prepared: Path, out: Path) -> Path:
    """Measure challengers beside champions on the held-out items, move aliases, and leave a report under `out`."""
    from d2v.lifecycle.promotion import PromotionInputs
    from d2v.lifecycle.promotion import promote as run_promotion
    from d2v.lifecycle.retraining import Plan
    from d2v.modalities import registry

    held_out = Plan.of(parse_all(parameters)[modality]).held_out(registry.get(modality), prepared)
    run_promotion(PromotionInputs(held_out, corpus), out, active_tracker())
    return out
