"""Promotion: challengers are measured beside champions, `gate` decides, and aliases and report follow."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from d2v.config import PromoteConfig
from d2v.data.disk import one_at_a_time, write_json
from d2v.errors import CheckpointError
from d2v.evaluation.flags import NONE
from d2v.evaluation.flags import TAG as FLAGS
from d2v.lifecycle.corpus_items import Items, items_of, leaked, read_items
from d2v.lifecycle.gate import Decision, Measured, judge
from d2v.lifecycle.measure import HeldOut, measure_encoders, measure_finetuned
from d2v.progress import log
from d2v.reporting.report import Heading, Part, write_report
from d2v.reporting.tables import Table
from d2v.tracker import Tracker
from d2v.tracking import versions
from d2v.tracking.registry import encoder_name, finetuned_name
from d2v.tracking.versions import CHALLENGER, CHAMPION, PREVIOUS, Fetched, Version

DECISION, UNFINISHED = "decision.json", ".unfinished.json"
TAG = "promotion"
"""Tag of a version with the decision about it."""


@dataclass(frozen=True)
class PromotionInputs:
    """The data and settings of a promotion.

    Attributes:
        held_out: on what they are measured.
        corpus: folder that ingest left, for what models were trained on.
    """

    held_out: HeldOut
    corpus: Path


@one_at_a_time
def promote(inputs: PromotionInputs, out: Path, tracker: Tracker) -> list[Decision]:
    """Decide on the encoder and, where the recipe has a finetune block and one is registered, on the fine-tuned model;
    move the aliases, and leave a report in `out`.

    Args:
        inputs: data and settings.
        out: report folder: `report.md`, `report.html` and, written last, `decision.json`.
        tracker: gets the gains and the files.

    Raises:
        CheckpointError: nothing was registered.
    """
    unfinished = Unfinished(out / UNFINISHED)
    decisions = [decide_encoder(inputs, unfinished)]
    write_decisions(decisions, out, tracker)
    if finetuned := decide_finetuned(inputs, unfinished):
        decisions.append(finetuned)
        write_decisions(decisions, out, tracker)
    unfinished.end()
    return decisions


class Unfinished:
    """Decisions of a promotion that has not ended, kept before aliases move: one that was killed ends in what it had
    decided, and with its report.

    Args:
        path: of the file that holds them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            values = json.loads(path.read_text())
            self._decisions = {name: Decision.of_values(one) for name, one in values.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none, or a damaged one
            self._decisions = {}

    def about(self, challenger: Version) -> Decision | None:
        """What was decided about a version."""
        found = self._decisions.get(challenger.name)
        return found if found and found.challenger == challenger.number else None

    def keep(self, decision: Decision) -> None:
        """Write a decision down."""
        self._decisions[decision.model] = decision
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, {name: one.as_values() for name, one in self._decisions.items()})

    def end(self) -> None:
        """Forget all of them."""
        self._path.unlink(missing_ok=True)


def decide_encoder(inputs: PromotionInputs, unfinished: Unfinished | None = None) -> Decision:
    """The modality's encoder. Raises CheckpointError if there is no challenger."""
    modality = inputs.held_out.modality.name
    decision = _decide(encoder_name(modality), inputs, unfinished)
    if decision is None:
        raise CheckpointError(
            f"no {encoder_name(modality)} has the alias {CHALLENGER}: train and register one with kedro run "
            f"--pipeline=pretrain_{modality}, then promote"
        )
    return decision


def decide_finetuned(inputs: PromotionInputs, unfinished: Unfinished | None = None) -> Decision | None:
    """The fine-tuned model; None if the recipe has no finetune block or there is no challenger."""
    if inputs.held_out.finetune is None:
        return None
    return _decide(finetuned_name(inputs.held_out.modality.name), inputs, unfinished)


def _decide(name: str, inputs: PromotionInputs, unfinished: Unfinished | None) -> Decision | None:
    return decide(name, partial(_measure, inputs), inputs.held_out.promote, unfinished)


MeasureBoth = Callable[[Version, Version | None, Fetched, Fetched | None], tuple[Measured, Measured | None]]
"""Measures challenger and champion from their files."""


def decide(
    name: str, measure: MeasureBoth, config: PromoteConfig, unfinished: Unfinished | None = None
) -> Decision | None:
    """Measure a challenger beside the champion, decide, and move the aliases.

    Args:
        name: of the registered model.
        measure: both of them on the same held-out items.
        config: the promote block.
        unfinished: decisions of a promotion that was interrupted.

    Returns:
        None where there is no challenger.
    """
    challenger, champion = versions.find(name, CHALLENGER), versions.find(name, CHAMPION)
    if challenger is None:
        return None
    if unfinished and (decided := unfinished.about(challenger)):
        before = versions.version_number(name, decided.champion) if decided.champion else None
        _apply(decided, challenger, before)
        return decided
    if champion and champion.digest == challenger.digest:
        if TAG not in challenger.tags:  # a promotion that was interrupted before its last line
            versions.set_tag(challenger, TAG, "promoted: see the report of that run")
        why = "the challenger has the champion's weights: nothing to do"
        return Decision(name, "nothing", why, challenger.number, champion.number)
    with tempfile.TemporaryDirectory() as scratch:
        files = versions.fetch(challenger, Path(scratch))
        ours, theirs = measure(
            challenger, champion, files, versions.fetch(champion, Path(scratch)) if champion else None
        )
    verdict = judge(ours, theirs, config)
    numbers = challenger.number, champion.number if champion else None
    decision = Decision(name, verdict.outcome, verdict.why, *numbers, verdict.checks, verdict.gain)
    if unfinished:
        unfinished.keep(decision)
    _apply(decision, challenger, champion)
    return decision


def _measure(
    inputs: PromotionInputs, challenger: Version, champion: Version | None, files: Fetched, theirs_files: Fetched | None
) -> tuple[Measured, Measured | None]:
    is_finetuned = challenger.name == finetuned_name(inputs.held_out.modality.name)
    measure = measure_finetuned if is_finetuned else measure_encoders
    ours, theirs = measure(files.model, theirs_files.model if theirs_files else None, inputs.held_out)
    items = items_of(inputs.corpus)
    ours = replace(ours, leaked=_leaked(items, files))
    theirs = replace(theirs, leaked=_leaked(items, theirs_files)) if theirs and theirs_files else None
    if is_finetuned:  # an encoder's gain over random weights is a guard itself
        ours = replace(ours, flags=_flags(challenger))
        theirs = replace(theirs, flags=_flags(champion)) if theirs else None
    return ours, theirs


def _flags(version: Version | None) -> str:
    """What the report of a version flags it for; nothing where an earlier version of the code registered it."""
    found = version.tags.get(FLAGS, NONE) if version else NONE
    return "" if found == NONE else found


def _leaked(items: Items, model: Fetched) -> int | None:
    trained_on = read_items(model.lineage)
    return None if trained_on is None else leaked(items, trained_on)


def _apply(decision: Decision, challenger: Version, champion: Version | None) -> None:
    """Aliases, and last the tag that says that the challenger was judged: what is interrupted before is done again.

    Raises:
        CheckpointError: another version became champion while these were measured.
    """
    if decision.outcome == "promoted":
        now = versions.find(challenger.name, CHAMPION)
        if (now and now.number) not in (decision.champion, decision.challenger):  # the latter: it was interrupted here
            raise CheckpointError(
                f"{challenger.name} got another champion while {challenger} was measured against {champion or 'none'}: "
                f"nothing was changed, promote again"
            )
        if champion:
            versions.set_alias(champion, PREVIOUS)
        versions.set_alias(challenger, CHAMPION)
    versions.set_tag(challenger, TAG, decision.why)


# -------------------------------------------------------------------------------------------- report


def write_decisions(decisions: Sequence[Decision], out: Path, tracker: Tracker) -> None:
    """Report, JSON and metrics of all decisions so far, and the checks of the last one on the console."""
    parts = list(parts_of(decisions))
    for check in decisions[-1].checks:
        values = f"{check.challenger} (champion {check.champion or 'none'}; limit {check.limit})"
        log(f"promote: {'ok  ' if check.passed else 'FAIL'} {check.name}: {values}")
    log(f"promote: {decisions[-1].model}: {decisions[-1].why}")
    written = write_report(out, "Promotion", [*parts, INTERVALS])
    write_json(out / DECISION, {decision.model: decision.as_values() for decision in decisions})
    gains: dict[str, float] = {}
    for one in decisions:
        if one.gain is not None:
            name = f"promotion/{'tuned' if one.model.endswith('-tuned') else 'encoder'}_gain"
            gains |= {name: one.gain.value, f"{name}_low": one.gain.low, f"{name}_high": one.gain.high}
    tracker.log_metrics(gains, 0)
    tracker.set_tags({f"{TAG}.{decision.model}": decision.why for decision in decisions})
    for path in (*written, out / DECISION):
        tracker.log_artifact(path, TAG)


def parts_of(decisions: Sequence[Decision]) -> Iterator[Part]:
    """Report parts: of each model the decision, and the table of checks."""
    for decision in decisions:
        yield Heading(decision.model)
        yield _sentence(decision)
        if decision.checks:
            yield checks_table(decision)


def checks_table(decision: Decision) -> Table:
    """Check, both values, limit, whether it passed."""
    champion = f"champion (version {decision.champion})" if decision.champion else "champion (none)"
    columns = ("check", f"challenger (version {decision.challenger})", champion, "limit", "passed")
    rows = tuple(
        (check.name, check.challenger, check.champion, check.limit, "yes" if check.passed else "NO")
        for check in decision.checks
    )
    return Table(decision.model, columns, rows)


def _sentence(decision: Decision) -> str:
    now = decision.challenger if decision.outcome == "promoted" else decision.champion
    return f"{decision.why[0].upper()}{decision.why[1:]}. Champion now: {f'version {now}' if now else 'none'}."


INTERVALS = (
    "Both models were measured afresh, by the same code, on the held-out items that are on disk now. Intervals are "
    "paired percentile bootstraps over these items; another training seed adds spread that they do not show."
)
