"""model-ready store -> run folder: checkpoints, history, encoder."""

from kedro.pipeline import Node, Pipeline

from pipelines.recipes import of_modality
from pipelines.train import nodes


def create_pipeline(modality: str) -> Pipeline:
    """The train step of one modality, without its namespace."""
    step = of_modality(nodes.train, modality)
    return Pipeline(
        [Node(step, ["params:train", "params:evaluate", "prepared", "run_dir"], "run_folder", name="train")]
    )
