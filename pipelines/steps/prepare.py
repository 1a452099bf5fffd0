"""The prepare step."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step


def prepare(modality: str, values: dict[str, Any], corpus: Path, out: Path) -> Path:
    """Make the store that training reads by index under `out`; a finished, unchanged one is only checked."""
    from d2v.modalities import registry

    registry.get(modality).prepare(step(modality, "prepare", values), corpus, out)
    return out
