"""Settings of each objective, chosen by short pretrainings before the ones that are compared.

The objectives named get the same number of trials. What counts is the last online probe, whose items are held out
for it: the test items are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from d2v.comparison.comparison import Comparison
from d2v.comparison.pretraining import probe_of, read_curve
from d2v.config.changes import merged
from d2v.errors import DataError
from d2v.evaluation.probe_set import why_not_probed, within_train


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        objective: its name.
        changes: of the objective's train block.
        accuracy: of the last online probe, 0 to 1.
        updates: done.
        chosen: the best one of its objective, the first of equals.
    """

    objective: str
    changes: dict[str, Any]
    accuracy: float
    updates: int
    chosen: bool

    @property
    def settings(self) -> str:
        """Its changes in a line."""
        return json.dumps(self.changes, sort_keys=True).replace('"', "")[1:-1] or "as in the recipe"


def choose(comparison: Comparison) -> tuple[Comparison, list[Trial]]:
    """The comparison with the best trial's settings for each objective, and all trials.

    Args:
        comparison: whose trials are done.
    """
    if comparison.config.trials is None:
        return comparison, []
    probe = probe_of(comparison.trials)
    objectives, found = dict(comparison.config.objectives), []
    for name, alternatives in comparison.config.trials.changes.items():
        pretrainings = [one for one in comparison.trials if one.objective == name]
        accuracies = [read_curve(one, probe).accuracy[-1] for one in pretrainings]
        best = accuracies.index(max(accuracies))
        objectives[name] = merged(objectives[name], alternatives[best], f"trials.{name}")
        found += [
            Trial(name, changes, accuracy, one.recipe.max_updates, number == best)
            for number, (changes, accuracy, one) in enumerate(zip(alternatives, accuracies, pretrainings, strict=True))
        ]
    return replace(comparison, config=comparison.config.model_copy(update={"objectives": objectives})), found


def check_labels(comparison: Comparison) -> None:
    """Refuse trials that nothing could choose from, before the first one.

    Raises:
        DataError: there are no labels to probe with.
    """
    data, recipe = comparison.modality.open(comparison.prepared), comparison.trials[0].recipe
    why_not = why_not_probed(within_train(data.probe_set(recipe)))
    pairs = range(comparison.evaluate.online_choice_items)
    if why_not and comparison.modality.choice(data, recipe, pairs) is None:
        raise DataError(f"Trials are chosen by the online probe, and {why_not}: remove benchmark.trials")
