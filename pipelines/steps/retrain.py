"""retrain: corpus that may have grown -> champions that may have changed."""

from collections.abc import Mapping
from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import Block
from d2v.errors import LaunchError
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The retrain step of one modality, without its namespace; the chain `retrain_<modality>` ingests first."""
    inputs = ["parameters", "corpus", "prepared_dir", "retrained_dir", "promotion_dir", "retraining_dir"]
    return Pipeline([Node(of_modality(retrain, modality), inputs, "retraining", name="retrain")])


def retrain(
    modality: str,
    recipes: Mapping[str, Block],
    corpus: Path,
    prepared_dir: Path,
    work_dir: Path,
    promotion_dir: Path,
    out: Path,
) -> Path:
    """Train on new items, and promote what is better; a report goes under `out`. Kedro has no conditional nodes, so
    one node does all the steps that may have nothing to do."""
    from d2v.distributed.environment import read_dist_env
    from d2v.lifecycle.retraining import Plan, RetrainingFolders
    from d2v.lifecycle.retraining import retrain as run_retraining
    from d2v.modalities import registry
    from pipelines.tracking import active_tracker

    if read_dist_env().world_size > 1:
        raise LaunchError(
            "a retraining starts its ranks itself: run it with plain kedro run, not by torchrun or srun, and set "
            f"{modality}.train.distributed.ranks (and hostfile for more machines)"
        )
    folders = RetrainingFolders(corpus, prepared_dir, work_dir, promotion_dir, out)
    run_retraining(registry.get(modality), Plan.of(recipes[modality]), folders, active_tracker())
    return out
