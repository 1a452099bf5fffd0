"""The speed of a recipe's training on prepared data: the real loop, with loading and augmentation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from d2v.config import parse, read_recipe
from d2v.errors import ConfigError, DataError
from d2v.modalities import registry


def time_updates(recipe_file: Path, prepared: Path, updates: int, scratch: Path) -> dict[str, float]:
    """Train for `updates` updates and give the `perf/` metrics of the second half.

    The real loop runs: loading, augmentation, masks, teacher, optimiser and EMA, without probes and checkpoints.

    Args:
        recipe_file: a file of conf/, such as conf/base/parameters_vision.yml.
        prepared: folder that prepare left for it.
        updates: the first half warms up.
        scratch: empty folder for the run.

    Raises:
        ConfigError: no such recipe, or a wrong one.
        DataError: nothing is prepared there.
    """
    from d2v.objectives.build import build_objective
    from d2v.training.job import Job
    from d2v.training.train import train

    file = recipe_file.resolve()
    name = file.stem.removeprefix("parameters_")
    if not file.is_file() or name not in registry.MODALITIES:
        raise ConfigError(f"there is no recipe {recipe_file}: give a file such as conf/base/parameters_vision.yml")
    values = read_recipe(file.parents[1], file.parent.name, name)
    if not prepared.is_dir():
        raise DataError(f"{prepared} is missing: make it with `kedro run --pipeline=prepare_{name}`, or say --prepared")
    modality = registry.get(name)
    shortened = {
        "max_updates": updates,
        "log_every_updates": updates // 2,
        "probe_every_updates": 0,
        "checkpoint": {"every_updates": updates},
    }
    recipe = parse(modality.train_config, values["train"] | shortened, at=f"{name}.train")
    job = Job(f"{name}.train", recipe, partial(modality.open, prepared), partial(build_objective, modality, recipe))
    metrics = train(job, scratch).metrics
    return {key: value for key, value in metrics.items() if key.startswith("perf/")}
