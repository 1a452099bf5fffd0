"""The evaluate step, and the entry in the model registry."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step
from pipelines.tracking import active_tracker


def evaluate(
    modality: str,
    train_values: dict[str, Any],
    values: dict[str, Any],
    prepared: Path,
    run_folder: Path,
    out: Path,
) -> Path:
    """Probe the frozen encoder beside the random-initialised one and plain features; metrics, plots and report
    go under `out`."""
    from d2v.evaluation.evaluate import evaluate as run_evaluation
    from d2v.modalities import registry

    recipe, config = step(modality, "train", train_values), step(modality, "evaluate", values)
    run_evaluation(registry.get(modality), recipe, config, prepared, run_folder, out, active_tracker())
    return out


def register(modality: str, run_folder: Path, prepared: Path, corpus: Path, report: Path) -> None:
    """Register the encoder as `d2v-<modality>` with the alias `challenger`: metrics as tags, its card, and what later
    runs compare with."""
    from d2v.lifecycle.lineage import register_encoder_of
    from d2v.modalities import registry

    register_encoder_of(registry.get(modality), corpus, prepared, run_folder, report)
