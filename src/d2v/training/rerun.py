"""Many trainings in one command: which are done, and which folders hold what nobody asks for any more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from d2v.config import RunConfig
from d2v.training import checkpoint, resume

Recipe = TypeVar("Recipe", bound=RunConfig)


def is_finished(recipe: RunConfig, fingerprint: str, folder: Path) -> bool:
    """Whether a folder holds the finished run of a recipe on data of this fingerprint."""
    result = resume.finished_result(folder)
    return result is not None and not _differences(recipe, fingerprint, (result["recipe"], result["data_fingerprint"]))


def restarting_others(recipe: Recipe, fingerprint: Callable[[], str], folder: Path) -> Recipe:
    """The recipe; where the folder holds an unfinished run of another recipe or on other data, one that moves it aside
    and begins anew. A single training refuses that, as its user may have meant the other; in a study it is a leftover.
    """
    if (folder / resume.RESULT).is_file():
        return recipe
    found = checkpoint.newest(folder / "checkpoints")
    if found and _differences(recipe, fingerprint(), (found.state.recipe, found.state.data_fingerprint)):
        return recipe.model_copy(update={"resume": "restart"})
    return recipe


def _differences(recipe: RunConfig, fingerprint: str, old: tuple[dict[str, object], str]) -> list[str]:
    return resume.differences("", type(recipe), old, (resume.shaping(recipe), fingerprint))
