"""Back to an earlier champion, and a table of registered models."""

from __future__ import annotations

from d2v.errors import CheckpointError
from d2v.lifecycle.promotion import TAG
from d2v.reporting.tables import Table
from d2v.tracking import versions
from d2v.tracking.versions import CHAMPION, PREVIOUS, Version

_ROLLED_BACK = "rolled back: {} is the champion again"
KEY_METRICS = (
    *("probe/linear", "probe/rank", "eval/accuracy", "eval/wer", "eval/matthews", "eval/pearson_and_spearman"),
    "align/recall_at_5",
)
"""Metrics of versions that the table shows, where they have them."""


def roll_back(name: str, to: int | None = None) -> str:
    """Make an earlier version the champion. The one that was it becomes `previous`, so a second call undoes the first.

    Args:
        name: registered model.
        to: version number; None takes the one with the alias `previous`.

    Returns:
        What was done, in one line.

    Raises:
        CheckpointError: there is no champion, no previous one, or no such version.
    """
    champion = versions.find(name, CHAMPION)
    if champion is None:
        known = ", ".join(sorted({one.name for one in versions.all_versions()})) or "none"
        raise CheckpointError(
            f"{name} has no champion to roll back (registered models: {known}): give --model one that has, see d2v "
            "models"
        )
    target = _target(name, to)
    if target.number == champion.number:
        left = _rolled_back_to(champion)
        if to is not None or left is None:
            return f"{champion} is the champion already: nothing was done"
        champion = left  # the last call was killed between the two aliases
    versions.set_tag(target, TAG, f"promoted by hand: rolled back from version {champion.number}")
    versions.set_tag(champion, TAG, _ROLLED_BACK.format(target))
    versions.set_alias(target, CHAMPION)
    versions.set_alias(champion, PREVIOUS)
    return f"{target} is the champion again; version {champion.number} has the alias {PREVIOUS}"


def _rolled_back_to(champion: Version) -> Version | None:
    """The version that was champion before a rollback to this one."""
    said = _ROLLED_BACK.format(champion)
    return next(
        (one for one in versions.all_versions() if one.name == champion.name and one.tags.get(TAG) == said), None
    )


def _target(name: str, to: int | None) -> Version:
    target = versions.find(name, PREVIOUS) if to is None else versions.version_number(name, to)
    if target is None and to is None:
        raise CheckpointError(
            f"{name} has no version with the alias {PREVIOUS}, as no champion was ever replaced: name one with --to, "
            "see d2v models"
        )
    if target is None:
        raise CheckpointError(f"{name} has no version {to}: give --to one of those that d2v models lists")
    return target


def versions_table() -> Table:
    """All versions with their aliases, key metrics and the decision about them."""

    def shown(version: Version) -> list[str]:
        keys = [key for key in KEY_METRICS if key in version.tags]
        return [f"{key.partition('/')[2]} {float(version.tags[key]):.3f}" for key in keys]

    rows = tuple(
        (str(one), ", ".join(one.aliases), ", ".join(shown(one)), one.tags.get(TAG, "not judged"))
        for one in versions.all_versions()
    )
    return Table("Registered models", ("version", "aliases", "metrics", "promotion"), rows)
