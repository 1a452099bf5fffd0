"""finetune: encoder and labelled items -> fine-tuned model -> its metrics on the test split, registered model."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import FinetuneConfig, TrainConfig
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The finetune step of one modality, without its namespace."""
    return Pipeline(
        [
            Node(
                of_modality(finetune, modality),
                ["params:finetune", "params:train", "prepared", "run_dir", "tuned_dir"],
                "tuned_folder",
                name="finetune",
            ),
            Node(
                of_modality(evaluate_tuned, modality),
                ["params:finetune", "prepared", "tuned_folder", "tuned_report_dir"],
                "tuned_report",
                name="evaluate_tuned",
            ),
            Node(
                of_modality(register_tuned, modality),
                ["params:finetune", "prepared", "corpus", "tuned_folder", "tuned_report"],
                None,
                name="register_tuned",
            ),
        ]
    )


def finetune(
    modality: str, config: FinetuneConfig, pretraining: TrainConfig, prepared: Path, run_dir: Path, out: Path
) -> Path:
    """Fine-tune the encoder that `finetune.start` names under `out`, then once a fold if the recipe has folds: an
    unfinished run of this recipe is resumed."""
    from d2v.finetuning.finetune import finetune as run_finetuning
    from d2v.finetuning.folds import finetune_folds
    from d2v.modalities import registry
    from d2v.tracking.models import find_model
    from pipelines.tracking import active_tracker

    start, tracker = find_model(config.start, run_dir / "encoder"), active_tracker()
    run_finetuning(registry.get(modality), config, pretraining, prepared, start, out, tracker)
    finetune_folds(registry.get(modality), config, pretraining, prepared, start, out, tracker)
    return out


def evaluate_tuned(modality: str, config: FinetuneConfig, prepared: Path, tuned: Path, out: Path) -> Path:
    """Predictions, metrics with intervals and a report under `out`, and the same of each fold."""
    from d2v.finetuning.evaluation import evaluate_finetuned as run_evaluation
    from d2v.finetuning.folds import evaluate_folds
    from d2v.modalities import registry
    from pipelines.tracking import active_tracker

    tracker = active_tracker()
    folds = evaluate_folds(registry.get(modality), config, prepared, tuned, out, tracker)
    run_evaluation(registry.get(modality), config, prepared, tuned, out, tracker, folds=folds)
    return out


def register_tuned(
    modality: str, config: FinetuneConfig, prepared: Path, corpus: Path, tuned: Path, report: Path
) -> None:
    """Register the model as `d2v-<modality>-tuned` with the alias `challenger`."""
    from d2v.lifecycle.lineage import register_finetuned_of
    from d2v.modalities import registry

    register_finetuned_of(registry.get(modality), config, corpus, prepared, tuned, report)
