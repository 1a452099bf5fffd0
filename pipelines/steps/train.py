"""train: model-ready store -> run folder with checkpoints, history and encoder."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import EvaluateConfig, TrainConfig
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The train step of one modality, without its namespace."""
    inputs = ["params:train", "params:evaluate", "prepared", "run_dir"]
    return Pipeline([Node(of_modality(pretrain, modality), inputs, "run_folder", name="train")])


def pretrain(modality: str, recipe: TrainConfig, probes: EvaluateConfig, prepared: Path, out: Path) -> Path:
    """Pretrain under `out`: an unfinished run of this recipe is resumed, a finished one says so."""
    from d2v.modalities import registry
    from d2v.pretraining import pretraining_job
    from d2v.tracking.models import find_start
    from d2v.training.train import train
    from pipelines.tracking import active_tracker

    start = find_start(recipe.start)
    train(pretraining_job(registry.get(modality), recipe, prepared, probes, start), out, active_tracker())
    return out
