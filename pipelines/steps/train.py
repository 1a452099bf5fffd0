"""The train step."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step
from pipelines.tracking import active_tracker


def train(modality: str, values: dict[str, Any], probe_values: dict[str, Any], prepared: Path, out: Path) -> Path:
    """Pretrain under `out`: an unfinished run of this recipe is resumed, a finished one says so."""
    from d2v.modalities import registry
    from d2v.pretraining.pretrain import pretrain
    from d2v.tracking.models import find_start

    recipe, probes = step(modality, "train", values), step(modality, "evaluate", probe_values)
    start = find_start(recipe.start)
    pretrain(registry.get(modality), recipe, prepared, out, probes, active_tracker(), start)
    return out
