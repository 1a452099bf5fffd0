"""prepare: corpus -> model-ready store, statistics and the fixed probe set."""

from pathlib import Path

from kedro.pipeline import Node, Pipeline

from d2v.config import Block
from pipelines.recipes import of_modality


def create_pipeline(modality: str) -> Pipeline:
    """The prepare step of one modality, without its namespace."""
    inputs = ["params:prepare", "corpus", "prepared_dir"]
    return Pipeline([Node(of_modality(prepare, modality), inputs, "prepared", name="prepare")])


def prepare(modality: str, config: Block, corpus: Path, out: Path) -> Path:
    """Make the store that training reads by index under `out`; a finished, unchanged one is only checked."""
    from d2v.modalities import registry

    registry.get(modality).prepare(config, corpus, out)
    return out
