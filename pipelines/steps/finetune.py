"""The finetune step: a model for a task, measured on held-out items."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step
from pipelines.tracking import active_tracker


def finetune(
    modality: str, values: dict[str, Any], train_values: dict[str, Any], prepared: Path, run_dir: Path, out: Path
) -> Path:
    """Tune the encoder that `finetune.start` names under `out`: an unfinished run of this recipe is resumed."""
    from d2v.finetuning.finetune import finetune as run_finetuning
    from d2v.modalities import registry
    from d2v.tracking.models import find_model

    config, pretraining = step(modality, "finetune", values), step(modality, "train", train_values)
    start = find_model(config.start, run_dir / "encoder")
    run_finetuning(registry.get(modality), config, pretraining, prepared, start, out, active_tracker())
    return out


def evaluate_tuned(modality: str, values: dict[str, Any], prepared: Path, tuned: Path, out: Path) -> Path:
    """Predictions, metrics with intervals and a report under `out`."""
    from d2v.finetuning.evaluation import evaluate_finetuned as run_evaluation
    from d2v.modalities import registry

    config = step(modality, "finetune", values)
    run_evaluation(registry.get(modality), config, prepared, tuned, out, active_tracker())
    return out


def register_tuned(
    modality: str, values: dict[str, Any], prepared: Path, corpus: Path, tuned: Path, report: Path
) -> None:
    """Register the model as `d2v-<modality>-tuned` with the alias `challenger`."""
    from d2v.lifecycle.lineage import register_finetuned_of
    from d2v.modalities import registry

    config = step(modality, "finetune", values)
    register_finetuned_of(registry.get(modality), config, corpus, prepared, tuned, report)
