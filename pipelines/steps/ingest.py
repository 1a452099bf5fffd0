"""The ingest step."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step


def ingest(modality: str, values: dict[str, Any], out: Path) -> Path:
    """Read the source into Arrow shards under `out`; a finished, unchanged corpus is only checked."""
    from d2v.modalities import registry

    registry.get(modality).ingest(step(modality, "ingest", values), out)
    return out
