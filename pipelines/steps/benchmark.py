"""The benchmark step, and the report of all modalities."""

from pathlib import Path
from typing import Any

from pipelines.recipes import step
from pipelines.tracking import active_tracker


def benchmark(
    modality: str,
    values: dict[str, Any],
    train_values: dict[str, Any],
    finetune_values: dict[str, Any],
    probe_values: dict[str, Any],
    prepared: Path,
    out: Path,
) -> Path:
    """Pretrain, probe and tune with every objective under `out`: what is done there is not done again."""
    from d2v.comparison.compare import benchmark as run_benchmark
    from d2v.comparison.comparison import Comparison
    from d2v.modalities import registry

    comparison = Comparison(
        modality=registry.get(modality),
        config=step(modality, "benchmark", values),
        train=step(modality, "train", train_values),
        finetune=step(modality, "finetune", finetune_values),
        evaluate=step(modality, "evaluate", probe_values),
        prepared=prepared,
        out=out,
    )
    run_benchmark(comparison, active_tracker())
    return out


def report(out: Path, *folders: Path) -> Path:
    """One report of all modalities under `out`."""
    from d2v.comparison.compare import combine

    combine(folders, out, active_tracker())
    return out
