"""registered challengers and held-out data -> champions, and why."""

from kedro.pipeline import Node, Pipeline

from pipelines.promote import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The promote step of one modality, without its namespace. Recipes need not have a promote block, so it reads all
    parameters."""
    step = of_modality(nodes.promote, modality)
    inputs = ["parameters", "corpus", "prepared", "promotion_dir"]
    return Pipeline([Node(step, inputs, "promotion", name="promote")])
