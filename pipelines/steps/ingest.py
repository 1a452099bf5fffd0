"""ingest: raw source -> corpus: validated, hashed, split, quarantined."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import Block
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The ingest step of one modality, without its namespace."""
    return Pipeline([Node(of_modality(ingest, modality), ["params:ingest", "corpus_dir"], "corpus", name="ingest")])


def ingest(modality: str, config: Block, out: Path) -> Path:
    """Read the source into Arrow shards under `out`; a finished, unchanged corpus is only checked."""
    from d2v.modalities import registry

    registry.get(modality).ingest(config, out)
    return out
