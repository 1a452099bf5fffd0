"""raw source -> corpus: validated, hashed, split, quarantined."""

from kedro.pipeline import Node, Pipeline

from pipelines.ingest import nodes
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The ingest step of one modality, without its namespace."""
    step = of_modality(nodes.ingest, modality)
    return Pipeline([Node(step, ["params:ingest", "corpus_dir"], "corpus", name="ingest")])
