"""corpus -> model-ready store, statistics and the fixed probe set."""

from kedro.pipeline import Node, Pipeline

from pipelines.prepare import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The prepare step of one modality, without its namespace."""
    step = of_modality(nodes.prepare, modality)
    return Pipeline([Node(step, ["params:prepare", "corpus", "prepared_dir"], "prepared", name="prepare")])
