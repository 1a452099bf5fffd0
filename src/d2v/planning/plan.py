"""A plan: what a first look found, the recipe that follows from it, and what it costs here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2v.config import parse, read_recipe
from d2v.config.changes import merged
from d2v.modalities import registry
from d2v.modalities.suggestion import Hardware, Suggestion, Survey
from d2v.planning.budget import Lengths, lengths
from d2v.planning.measure import Costs, measured

BASE = "own_data"
PATIENCE, MOST_FOLDS = 6, 10
MOST_CLASSES = 8
"""Classes that a line names."""


@dataclass(frozen=True)
class Plan:
    """What will be done.

    Attributes:
        survey: of the data.
        hardware: that trains.
        recipe: what the environment says, in its own words.
        reasons: dotted key -> why.
        lengths: of the trainings.
        costs: as they were measured.
    """

    survey: Survey
    hardware: Hardware
    recipe: Mapping[str, Any]
    reasons: Mapping[str, str]
    lengths: Lengths
    costs: Costs

    @property
    def pipeline(self) -> str:
        """Name of the pipeline that does it."""
        return f"{'whole' if self.tunes else 'pretrain'}_{self.survey.modality}"

    @property
    def tunes(self) -> bool:
        """Whether there are labels to fine-tune and evaluate on."""
        return bool(self.lengths.tune_updates)


def hardware_here() -> Hardware:
    """What this machine would train with."""
    import psutil
    import torch

    from d2v.training.performance import device_name

    if torch.cuda.is_available():
        device = torch.device("cuda")
        return Hardware(device_name(device), True, torch.cuda.get_device_properties(device).total_memory)
    name = f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} threads"
    return Hardware(name, False, psutil.virtual_memory().available)


def make_plan(
    survey: Survey, hardware: Hardware, conf: Path, epochs: float | None = None, time_s: float | None = None
) -> Plan:
    """Choose a recipe, and measure it.

    Args:
        survey: of the data.
        hardware: that trains.
        conf: folder of the recipes, with `own_data`.
        epochs: of pretraining that were asked for.
        time_s: for everything that was asked for.

    Raises:
        ConfigError: the time is too short.
        DataError: the recipe does not train on this data.
    """
    suggestion = registry.get(survey.modality).suggest(survey, hardware)
    base = read_recipe(conf, BASE, survey.modality)
    written = {"ingest": dict(survey.ingest), **suggestion.changes}
    blocks: Any = parse(registry.recipe_type(survey.modality), merged(base, written, BASE), at=survey.modality)
    with tempfile.TemporaryDirectory() as folder:
        whole = merged(base, written, BASE)
        if not survey.can_classify:
            whole = {key: value for key, value in whole.items() if key not in ("finetune", "benchmark")}
        costs = measured(survey.modality, whole, survey.sample, Path(folder))
    tune_batch = blocks.finetune.batch_unit if survey.can_classify and blocks.finetune is not None else 0
    models = 1 + len(survey.folds) if _uses_folds(survey) else 1
    found = lengths(survey, costs, tune_batch, epochs, time_s, models)
    return Plan(survey, hardware, _recipe(written, survey, found), _reasons(suggestion, survey, found), found, costs)


def _uses_folds(survey: Survey) -> bool:
    return 1 < len(survey.folds) <= MOST_FOLDS


def _tuning(survey: Survey) -> dict[str, Any]:
    """How a model of these classes is chosen and measured."""
    tuning: dict[str, Any] = {"validation": {"patience": PATIENCE}}
    if survey.is_unequal:
        tuning |= {"task": {"metrics": ["macro_f1", "balanced_accuracy", "accuracy"]}, "balance": None}
    if _uses_folds(survey):
        tuning["folds"] = "fold"
    return tuning


def _recipe(written: Mapping[str, Any], survey: Survey, found: Lengths) -> dict[str, Any]:
    """The environment's recipe: its base, and what differs from it."""
    often = max(1, min(50, found.updates // 20))
    train = {"max_updates": found.updates, "log_every_updates": often, "probe_every_updates": 0.25}
    recipe: dict[str, Any] = {"base": BASE}
    changes: dict[str, Any] = {"train": train}
    if found.tune_updates:
        often = max(1, min(50, found.tune_updates // 10))
        changes["finetune"] = {"max_updates": found.tune_updates, "log_every_updates": often, **_tuning(survey)}
    else:
        recipe["without"] = ["finetune", "benchmark"]
    return recipe | merged(written, changes, BASE)


def _reasons(suggestion: Suggestion, survey: Survey, found: Lengths) -> dict[str, str]:
    reasons = {
        "base": "the blocks of conf/own_data; what is below replaces theirs",
        "train.max_updates": f"{found.epochs:.1f} epochs: {found.why}",
        "train.probe_every_updates": "a share of the run, as are the warm-up and the teacher's annealing",
    }
    if not found.tune_updates:
        reasons["without"] = "there are no classes to learn"
    else:
        reasons["finetune.validation.patience"] = "validations in a row without a gain, after which it stops"
        if survey.is_unequal:
            reasons["finetune.task.metrics"] = (
                "the first decides: the mean of the classes' F1, which also counts false alarms"
            )
            reasons["finetune.balance"] = (
                "sampling or weights name more of the small classes, and more of the others wrongly"
            )
        if _uses_folds(survey):
            reasons["finetune.folds"] = f"{len(survey.folds)} more models, each tested on one fold"
    if "columns" in survey.ingest:
        reasons["ingest.columns"] = "the table's column of the class; change it if another one tells it"
    return {**suggestion.reasons, **reasons}


def lines(plan: Plan) -> Iterator[str]:
    """The plan for people: data, recipe, time and memory."""
    survey, found = plan.survey, plan.lengths
    about = "" if survey.is_whole else "at least "
    yield f"data        {about}{survey.items:,} items for {survey.modality}: {survey.description}"
    yield f"sizes       {'; '.join(_sizes(survey))}"
    yield f"classes     {_classes(survey)}"
    yield f"splits      {_splits(survey)}"
    if survey.problems:
        yield f"problems    {len(survey.problems)} of the items looked at, such as {survey.problems[0]}"
    for remark in survey.remarks:
        yield f"note        {remark}"
    yield f"device      {plan.hardware.name}, {plan.hardware.memory_bytes / 1e9:.0f} GB"
    yield f"encoder     {plan.costs.parameters / 1e6:.1f} million parameters"
    yield f"pretraining {found.updates:,} updates, {found.epochs:.1f} epochs: {found.why}"
    yield f"fine-tuning {f'{found.tune_updates:,} updates' if plan.tunes else 'none, for want of classes'}"
    parts = ", ".join(f"{step} {words(seconds)}" for step, seconds in found.seconds.items() if seconds >= 1.0)
    yield f"time        about {words(sum(found.seconds.values()))}: {parts}"
    yield f"memory      {plan.costs.peak_bytes / 1e9:.1f} GB, measured in a few updates"


def head(plan: Plan, command: str) -> str:
    """What stands above the recipe: where it comes from, and what was found."""
    return "\n".join(
        [
            f"{plan.survey.modality} of {plan.survey.ingest['source']}, planned by `{command}`.",
            "Edit what you like: `kedro run --env=` with the folder's name runs it; docs/config.md explains its keys.",
            "",
            *lines(plan),
        ]
    )


def words(seconds: float) -> str:
    """A duration for people, without seconds where there are hours."""
    from d2v.training.performance import duration

    return duration(seconds)


def _sizes(survey: Survey) -> Iterator[str]:
    for quantity in registry.get(survey.modality).quantities():
        values = np.asarray(quantity.of(*(survey.facts[name] for name in quantity.facts)), np.float64)
        low, middle, high = np.quantile(values, (0.0, 0.5, 1.0))
        span = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}, half up to {middle:.4g}"
        yield f"{quantity.name} {span} {quantity.unit}".rstrip()


def _classes(survey: Survey) -> str:
    if not survey.classes:
        return "none: probes need classes, which class folders or a column of a table give"
    shown = [f"{name} {count:,}" for name, count in list(survey.classes.items())[:MOST_CLASSES]]
    more = f" and {len(survey.classes) - MOST_CLASSES} more" if len(survey.classes) > MOST_CLASSES else ""
    return f"{len(survey.classes)}, the largest has {survey.majority:.0%}: {', '.join(shown)}{more}"


def _splits(survey: Survey) -> str:
    if _uses_folds(survey):
        return f"{len(survey.folds)} folds, a model is tested on each; the last one is the test split"
    if not survey.splits:
        return "none: a tenth is held out for tests, by a hash of the content"
    return ", ".join(f"{name} {count:,}" for name, count in survey.splits.items())
