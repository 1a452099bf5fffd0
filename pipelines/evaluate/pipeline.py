"""run folder -> probes against two baselines, plots, report, registered model."""

from kedro.pipeline import Node, Pipeline

from pipelines.evaluate import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The evaluate step of one modality, without its namespace."""
    evaluate, register = (of_modality(step, modality) for step in (nodes.evaluate, nodes.register))
    inputs = ["params:train", "params:evaluate", "prepared", "run_folder", "report_dir"]
    return Pipeline(
        [
            Node(evaluate, inputs, "report", name="evaluate"),
            Node(register, ["run_folder", "prepared", "corpus", "report"], None, name="register"),
        ]
    )
