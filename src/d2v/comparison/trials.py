"""Settings of each objective, chosen by short pretrainings before the ones that are compared.

The objectives named get the same number of trials. What counts is the last online probe, whose items are held out
for it: the test items are not looked at.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from d2v.comparison.comparison import Comparison, Pretraining
from d2v.comparison.pretraining import fingerprint_of, is_pretrained, probe_of, read_curve, run_pretraining
from d2v.config.changes import merged
from d2v.data.disk import read_json, write_json
from d2v.errors import CollapseError, DataError
from d2v.evaluation.online import OnlineProbe
from d2v.evaluation.probe_set import why_not_probed, within_train
from d2v.progress import log
from d2v.training import resume

COLLAPSED = "collapsed.json"
"""In the folder of a trial whose representations collapsed."""


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        objective: its name.
        changes: of the objective's train block.
        accuracy: of the last online probe, 0 to 1; None where its representations collapsed.
        updates: done.
        chosen: the best one of its objective, the first of equals.
    """

    objective: str
    changes: dict[str, Any]
    accuracy: float | None
    updates: int
    chosen: bool

    @property
    def settings(self) -> str:
        """Its changes in a line."""
        return json.dumps(self.changes, sort_keys=True).replace('"', "")[1:-1] or "as in the recipe"


def run_trial(comparison: Comparison, one: Pretraining) -> None:
    """Pretrain. A collapse is the trial's result, too."""
    try:
        run_pretraining(comparison, one)
    except CollapseError as error:
        log(f"benchmark {comparison.modality.name}: trial {one.folder.name} is out: {error}")
        one.folder.mkdir(parents=True, exist_ok=True)
        write_json(one.folder / COLLAPSED, {**_identity(comparison, one), "why": str(error)})


def is_tried(comparison: Comparison, one: Pretraining) -> bool:
    """Whether a trial is done: the same recipe on the same data."""
    return is_pretrained(comparison, one) or _has_collapsed(comparison, one)


def _has_collapsed(comparison: Comparison, one: Pretraining) -> bool:
    file = one.folder / COLLAPSED
    if not file.is_file():
        return False
    kept = read_json(file, DataError, f"remove {one.folder}")
    return bool({name: kept.get(name) for name in ("recipe", "data")} == _identity(comparison, one))


def _identity(comparison: Comparison, one: Pretraining) -> dict[str, Any]:
    return {"recipe": resume.shaping(one.recipe), "data": fingerprint_of(comparison, one)}


def choose(comparison: Comparison) -> tuple[Comparison, list[Trial]]:
    """The comparison with the best trial's settings for each objective, and all trials.

    Args:
        comparison: whose trials are done.

    Raises:
        CollapseError: all trials of an objective collapsed.
        DataError: a trial has no online probe.
    """
    if comparison.config.trials is None:
        return comparison, []
    collapsed = [one for one in comparison.trials if _has_collapsed(comparison, one)]
    probe = probe_of([one for one in comparison.trials if one not in collapsed])
    objectives, found = dict(comparison.config.objectives), []
    for name, alternatives in comparison.config.trials.changes.items():
        pretrainings = [one for one in comparison.trials if one.objective == name]
        accuracies = [None if one in collapsed else _last_probe(one, probe) for one in pretrainings]
        best = max(range(len(accuracies)), key=lambda number: -1.0 if (at := accuracies[number]) is None else at)
        if accuracies[best] is None:
            raise CollapseError(
                f"All trials of {name} collapsed: name others under benchmark.trials.changes, with a lower "
                "optimizer.lr or a longer warmup"
            )
        objectives[name] = merged(objectives[name], alternatives[best], f"trials.{name}")
        found += [
            Trial(name, changes, accuracy, one.recipe.max_updates, number == best)
            for number, (changes, accuracy, one) in enumerate(zip(alternatives, accuracies, pretrainings, strict=True))
        ]
    return replace(comparison, config=comparison.config.model_copy(update={"objectives": objectives})), found


def _last_probe(one: Pretraining, probe: str) -> float:
    if accuracy := read_curve(one, probe).accuracy:
        return accuracy[-1]
    raise DataError(
        f"The trial {one.folder} has no online probe to choose by: its items have no labels, and {one.objective} "
        "no loss of single tokens that could choose between pairs: remove benchmark.trials"
    )


def check_labels(comparison: Comparison) -> None:
    """Refuse trials that nothing could choose from, before the first one.

    Raises:
        DataError: there are neither labels nor pairs to probe with.
    """
    modality, evaluate = comparison.modality, comparison.evaluate
    data, recipe = modality.open(comparison.prepared), comparison.trials[0].recipe
    why_not = why_not_probed(within_train(data.probe_set(recipe)))
    if why_not and OnlineProbe(modality, recipe, data, evaluate).pairs is None:
        lower = f", or lower evaluate.further_items ({evaluate.further_items}), behind which its pairs come"
        raise DataError(
            f"Trials are chosen by the online probe, and {why_not}: remove benchmark.trials"
            f"{lower if modality.has_choices else ''}"
        )
