"""Whether a run folder's contents are this run: the same recipe on the same data. With these answers `_begin` in
`d2v.training.train` decides whether to resume, to begin anew or to refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from d2v.config import RESULT_NEUTRAL, RunConfig, current_names, parse
from d2v.data.disk import read_json
from d2v.distributed.environment import LOGS
from d2v.errors import CheckpointError, ConfigError
from d2v.progress import log
from d2v.training.checkpoint import newest

RESULT = "result.json"
_PREVIOUS = "previous"
_LATER_KEYS = ("start", "balance", "validation")
"""Keys that the first recipes did not have; null means what was done before them."""


@contextmanager
def alone_in(out: Path, is_main: bool) -> Iterator[None]:
    """Keep a second training out of a run folder; the lock ends with this process, however that ends.

    Raises:
        CheckpointError: another process trains there.
    """
    if not is_main:
        yield
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise CheckpointError(
            f"another process is training in {out}: let it finish, or stop it with Ctrl-C (it saves); the same command "
            "then goes on from there."
        ) from None
    try:
        yield
    finally:
        lock.release()


def shaping(recipe: RunConfig) -> dict[str, Any]:
    """The parts of a recipe that shape the trained weights, as plain values. Shares of the run become numbers
    of updates, so a recipe may write either."""
    neutral: dict[str, Any] = dict.fromkeys(RESULT_NEUTRAL, True)
    outside = neutral | {"task": {"decoding", "metrics", "thresholds"}}
    values = json.loads(recipe.in_updates().model_dump_json(exclude=outside))
    budget = values.get("batch_budget")
    if budget and budget["crop_multiple"] == 1:  # likewise, what 1 means was done before there was a key
        del budget["crop_multiple"]
    return {key: value for key, value in values.items() if key not in _LATER_KEYS or value is not None}


def differences(
    block: str, kind: type[RunConfig], old: tuple[dict[str, Any], str], new: tuple[dict[str, Any], str]
) -> list[str]:
    """One line `key: old -> new` for each difference between two (recipe, data fingerprint).

    Args:
        block: dotted path of the recipe, for the lines.
        kind: type of the recipe. A stored one may have old names of keys, and lack keys of later versions, which it
            means the defaults of; neither is a difference.
        old: what is stored.
        new: what is asked for.
    """
    before, after = _flatten(_of_today(kind, old[0])), _flatten(new[0])
    keys = sorted(before.keys() | after.keys())
    lines = [
        f"{block}.{key}: {before.get(key, 'not set')} -> {after.get(key, 'not set')}"
        for key in keys
        if before.get(key) != after.get(key)
    ]
    if old[1] != new[1]:
        lines.append(f"fingerprint of the prepared data: {old[1]} -> {new[1]}")
    return lines


def _of_today(kind: type[RunConfig], stored: dict[str, Any]) -> dict[str, Any]:
    """A stored recipe under today's names, with today's defaults for what it lacks. One that this version would refuse
    stays as it is."""
    try:
        return shaping(parse(kind, current_names(kind, stored)))
    except ConfigError:
        return current_names(kind, stored)


def _flatten(values: dict[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{at}{key}.")
        else:
            flat[at + key] = value
    return flat


def refuse_differences(block: str, lines: list[str], out: Path) -> None:
    """Raise CheckpointError if an unfinished run is not the one asked for."""
    if not lines:
        return
    raise CheckpointError(
        f"{out} holds an unfinished run with another recipe or other data ({'; '.join(lines)}). Change that back to "
        f"resume it, or set {block}.resume=restart: the old run moves aside into {out / _PREVIOUS} and "
        "training starts anew; nothing is lost."
    )


def finished_result(out: Path) -> dict[str, Any] | None:
    """What a finished run wrote into its folder, or None."""
    path = out / RESULT
    if not path.is_file():
        return None
    remedy = (
        f"so it is not known which run {out} holds. Set train.resume=restart: the folder's contents move aside and "
        "training starts anew."
    )
    return read_json(path, CheckpointError, remedy, {"recipe": dict, "data_fingerprint": str})


def move_aside(out: Path, why: str) -> None:
    """Move everything in a run folder but the open logs of ranks into `previous/<n>`, the next free number."""
    contents = [path for path in out.iterdir() if path.name not in (_PREVIOUS, LOGS)] if out.is_dir() else []
    if not contents:
        return
    numbers = [int(path.name) for path in (out / _PREVIOUS).glob("*") if path.name.isdigit()]
    target = out / _PREVIOUS / str(max(numbers, default=0) + 1)
    target.mkdir(parents=True)
    for path in contents:
        path.rename(target / path.name)
    log(f"{why}: moved the run in {out} to {target}")


# ------------------------------------------------------------------------- many trainings in one command

Recipe = TypeVar("Recipe", bound=RunConfig)


def is_finished(recipe: RunConfig, fingerprint: str, folder: Path) -> bool:
    """Whether a folder holds the finished run of a recipe on data of this fingerprint."""
    result = finished_result(folder)
    return result is not None and not _differences(recipe, fingerprint, (result["recipe"], result["data_fingerprint"]))


def restarting_others(recipe: Recipe, fingerprint: Callable[[], str], folder: Path) -> Recipe:
    """The recipe; where the folder holds an unfinished run of another recipe or on other data, one that moves it aside
    and begins anew. A single training refuses that, as its user may have meant the other; in a study it is a leftover.
    """
    if (folder / RESULT).is_file():
        return recipe
    found = newest(folder / "checkpoints")
    if found and _differences(recipe, fingerprint(), (found.state.recipe, found.state.data_fingerprint)):
        return recipe.model_copy(update={"resume": "restart"})
    return recipe


def _differences(recipe: RunConfig, fingerprint: str, old: tuple[dict[str, object], str]) -> list[str]:
    return differences("", type(recipe), old, (shaping(recipe), fingerprint))
