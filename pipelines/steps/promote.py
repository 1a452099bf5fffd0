"""promote: registered challengers and held-out data -> champions, and the reasons."""

from collections.abc import Mapping
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import Block
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The promote step of one modality, without its namespace. It reads several blocks, of which a modality may lack
    some, so it takes all recipes."""
    inputs = ["parameters", "corpus", "prepared", "promotion_dir"]
    return Pipeline([Node(of_modality(promote, modality), inputs, "promotion", name="promote")])


def promote(modality: str, recipes: Mapping[str, Block], corpus: Path, prepared: Path, out: Path) -> Path:
    """Measure challengers beside champions on the held-out items, move aliases, and leave a report under `out`."""
    from d2v.lifecycle.promotion import PromotionInputs
    from d2v.lifecycle.promotion import promote as run_promotion
    from d2v.lifecycle.retraining import Plan
    from d2v.modalities import registry
    from pipelines.tracking import active_tracker

    held_out = Plan.of(recipes[modality]).held_out(registry.get(modality), prepared)
    run_promotion(PromotionInputs(held_out, corpus), out, active_tracker())
    return out
