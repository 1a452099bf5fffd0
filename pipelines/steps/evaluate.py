"""evaluate: run folder -> probes against two baselines, plots, report, registered encoder."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import EvaluateConfig, TrainConfig
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The evaluate step of one modality, without its namespace."""
    inputs = ["params:train", "params:evaluate", "prepared", "run_folder", "report_dir"]
    return Pipeline(
        [
            Node(of_modality(evaluate, modality), inputs, "report", name="evaluate"),
            Node(
                of_modality(register, modality),
                ["run_folder", "prepared", "corpus", "report"],
                None,
                name="register",
            ),
        ]
    )


def evaluate(
    modality: str, recipe: TrainConfig, config: EvaluateConfig, prepared: Path, run_folder: Path, out: Path
) -> Path:
    """Probe the frozen encoder beside the random-initialised one and plain features; metrics, plots and report go
    under `out`."""
    from d2v.evaluation.evaluate import evaluate as run_evaluation
    from d2v.modalities import registry
    from pipelines.tracking import active_tracker

    run_evaluation(registry.get(modality), recipe, config, prepared, run_folder, out, active_tracker())
    return out


def register(modality: str, run_folder: Path, prepared: Path, corpus: Path, report: Path) -> None:
    """Register the encoder as `d2v-<modality>` with the alias `challenger`: metrics as tags, its card, and what later
    retrainings compare with."""
    from d2v.lifecycle.lineage import register_encoder_of
    from d2v.modalities import registry

    register_encoder_of(registry.get(modality), corpus, prepared, run_folder, report)
