"""corpus that may have grown -> champions that may have changed."""

from kedro.pipeline import Node, Pipeline

from pipelines.recipes import of_modality
from pipelines.retrain import nodes


def create_pipeline(modality: str) -> Pipeline:
    """The retrain step of one modality, without its namespace; the chain `retrain_<modality>` ingests first."""
    step = of_modality(nodes.retrain, modality)
    inputs = ["parameters", "corpus", "prepared_dir", "retrained_dir", "promotion_dir", "retraining_dir"]
    return Pipeline([Node(step, inputs, "retraining", name="retrain")])
