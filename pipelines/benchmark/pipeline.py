"""model-ready store -> every objective's encoders, costs and task metrics -> report."""

import warnings

from kedro.pipeline import Node, Pipeline

from d2v.modalities import registry
from pipelines.benchmark import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The benchmark step of one modality, without its namespace."""
    step = of_modality(nodes.benchmark, modality)
    blocks = [f"params:{block}" for block in ("benchmark", "train", "finetune", "evaluate")]
    return Pipeline([Node(step, [*blocks, "prepared", "benchmark_dir"], "benchmark_folder", name="benchmark")])


def create_report_pipeline() -> Pipeline:
    """One report of all modalities."""
    folders = [f"{modality}.benchmark_folder" for modality in registry.MODALITIES]
    with warnings.catch_warnings():  # Kedro's, of a node that takes from several namespaces, as this one is to
        warnings.simplefilter("ignore", UserWarning)
        node = Node(nodes.report, ["benchmark_dir", *folders], "benchmark_report", name="benchmark_report")
    return Pipeline([node])
