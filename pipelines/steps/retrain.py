"""The retrain step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2v.errors import LaunchError
from pipelines.recipes import parse_all
from pipelines.tracking import active_tracker


def retrain(
    modality: str,
    parameters: Mapping[str, Any],
    corpus: Path,
    prepared_dir: Path,
    work_dir: Path,
    promotion_dir: Path,
    out: Path,
) -> Path:
    """Train on new items, and promote what is better; a report goes under `out`. Kedro has no conditional
    nodes, so the steps that may have nothing to do are one node's."""
    from d2v.distributed.environment import read_dist_env
    from d2v.lifecycle.retraining import Plan, RetrainingFolders
    from d2v.lifecycle.retraining import retrain as run_retraining
    from d2v.modalities import registry

    if read_dist_env().ranks > 1:
        raise LaunchError(
            "a retraining starts its ranks itself: run it with plain kedro run, not by torchrun or srun, and set "
            f"{modality}.train.distributed.ranks (and hostfile for more machines)"
        )
    plan = Plan.of(parse_all(parameters)[modality])
    folders = RetrainingFolders(corpus, prepared_dir, work_dir, promotion_dir, out)
    run_retraining(registry.get(modality), plan, folders, active_tracker())
    return out
