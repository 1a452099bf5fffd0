"""How long to train: epochs or a time that was asked for, or what the data suggests."""

from __future__ import annotations

import re
from dataclasses import dataclass

from d2v.errors import ConfigError
from d2v.modalities.suggestion import Survey
from d2v.planning.measure import Costs

START_S = 40.0
"""Of a command: the plan, imports, tracking, checks, registration."""
EVALUATE_S, PROBED_ITEMS = 25.0, 6000
"""Of probes and pictures: what does not depend on the encoder, and passes of the encoder over items."""
TUNE_SHARE = 0.25
"""Of the time for training that fine-tuning gets."""
LEAST_UPDATES, MOST_UPDATES = 500, 20_000
EPOCHS, TUNE_EPOCHS, MOST_TUNE_EPOCHS = 100.0, 10.0, 30.0
USUAL_S = 3600.0
"""Without a budget no pretraining is planned for longer."""
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def seconds_of(text: str) -> float:
    """A duration such as 30m, 1h30m or 90s.

    Raises:
        ConfigError: it is none.

    Example:
        >>> seconds_of("1h30m")
        5400.0
    """
    found = _TIME.fullmatch(text.strip().lower())
    parts = [float(part or 0.0) for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, (3600.0, 60.0, 1.0), strict=False))
    if not seconds > 0.0:
        raise ConfigError(f"--time {text!r} is no duration: write it as 30m, 2h, 1h30m or 90s")
    return seconds


@dataclass(frozen=True)
class Lengths:
    """How long the trainings are.

    Attributes:
        updates: of pretraining.
        epochs: the same, in passes over the data.
        tune_updates: of fine-tuning; 0: there is none.
        seconds: step -> seconds, about.
        why: of the number of updates.
    """

    updates: int
    epochs: float
    tune_updates: int
    seconds: dict[str, float]
    why: str


def lengths(
    survey: Survey, costs: Costs, tune_batch: int, epochs: float | None, time_s: float | None, models: int = 1
) -> Lengths:
    """Updates of both trainings under a budget.

    Args:
        survey: of the data.
        costs: of the recipe.
        tune_batch: items of an update of fine-tuning; 0: there is none.
        epochs: of pretraining that were asked for.
        time_s: that was asked for, for everything.
        models: that are fine-tuned, more than one where there are folds.

    Raises:
        ConfigError: the time does not suffice for a start.
    """
    an_epoch = max(1.0, survey.items / len(survey.sample) / costs.epochs_per_update)
    around = {
        "start": START_S,
        "ingest and prepare": survey.items * (costs.ingest_item_s + costs.prepare_item_s),
        "probes": EVALUATE_S + PROBED_ITEMS * costs.tune_item_s / 3.0,
    }
    tune_update_s = models * tune_batch * costs.tune_item_s
    tune_epoch = survey.labelled / tune_batch if tune_batch else 0.0
    most_tuned = MOST_TUNE_EPOCHS * tune_epoch
    if time_s is not None:
        left_s = time_s - sum(around.values())
        tune = int(min(most_tuned, TUNE_SHARE * left_s / tune_update_s)) if tune_batch else 0
        updates = int((left_s - tune * tune_update_s) / costs.update_s)
        if updates < 20 or (tune_batch and tune < 20):
            least_s = sum(around.values()) + 20 * costs.update_s / (1.0 - TUNE_SHARE) + 20 * tune_update_s / TUNE_SHARE
            raise ConfigError(f"--time is too short for this data on this machine: give at least {least_s / 60:.0f}m")
        why = "what the time allows"
    else:
        wanted = round((epochs or EPOCHS) * an_epoch)
        fits = int(USUAL_S / costs.update_s)
        usual = max(1, min(max(LEAST_UPDATES, wanted), MOST_UPDATES, fits))
        updates = max(1, wanted) if epochs else usual
        why = "the epochs that were asked for" if epochs else "of an hour at most; --epochs or --time say otherwise"
        tune = int(max(200.0, TUNE_EPOCHS * tune_epoch)) if tune_batch else 0
        tune = int(min(tune, max(200.0, updates * costs.update_s / 2.0 / tune_update_s))) if tune_batch else 0
    trained = {"pretraining": updates * costs.update_s, "fine-tuning": tune * tune_update_s}
    return Lengths(updates, updates / an_epoch, tune, around | trained, why)
