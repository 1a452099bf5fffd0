"""Checkpoints that are whole or not there.

A checkpoint is a folder `update-00000500`, written under a temporary name, synced and renamed:

    trained.safetensors      student, decoder and heads in fp32
    teacher.safetensors      the teacher, where there is one
    exp_avg.safetensors      AdamW's moments, by the parameter's name
    exp_avg_sq.safetensors
    best.safetensors         student and heads of the best validation so far, where a run has validations
    generators.pt            random generators (loaded with weights_only)
    history.csv              the metrics logged so far
    state.json               update, recipe, data fingerprint, versions; size and SHA-256 of every file above

Whatever the ranks and the ZeRO stage, the files are the same, and every rank reads them.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import platform
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2v import __version__
from d2v.data.disk import sync
from d2v.errors import CheckpointError
from d2v.models.shards import count
from d2v.objectives.base import Objective
from d2v.progress import log
from d2v.training.engine import MOMENTS, Engine
from d2v.training.history import History
from d2v.training.matmul import MatmulBackend
from d2v.training.states import take_moments_over, trained, whole_moments, whole_weights

FORMAT = 2
_TRAINED, _TEACHER, _BEST = "trained.safetensors", "teacher.safetensors", "best.safetensors"
_STATE, _GENERATORS, _HISTORY = "state.json", "generators.pt", "history.csv"


_Part = tuple[str, dict[str, Tensor]]


@dataclass
class RunState:
    """What a run is besides its weights.

    Attributes:
        update: updates done.
        recipe: the recipe's parts that shape the result.
        data_fingerprint: of the prepared store.
        precision: format that the run's products are in, so that a resumed one keeps it.
        matmul_backend: what multiplies float32 matrices, likewise.
        selection: the best validation so far: its `value` and `update`, how often it `waited` since, and whether the
            run `stopped` for that; empty before the first.
        best: weights of that state on rank 0, which `best.safetensors` keeps.
        window: metrics logged in part.
        last_healthy: updates at the last collapse check that passed.
        tracker_run_id: the tracked run, if any.
    """

    update: int
    recipe: dict[str, Any]
    data_fingerprint: str
    precision: str
    window: dict[str, list[float]] = field(default_factory=dict)
    last_healthy: int = 0
    tracker_run_id: str | None = None
    matmul_backend: MatmulBackend = "blas"
    selection: dict[str, float] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were compared."""

    path: Path
    state: RunState


# ------------------------------------------------------------------------------------------- writing


def save(folder: Path, state: RunState, objective: Objective, engine: Engine, history: History, keep: int) -> Path:
    """Write the checkpoint of `state.update` and remove those beyond the newest `keep`. All ranks call it; rank 0 holds
    one full copy of the weights or of one moment at a time, and the others wait until it has written them.

    Raises:
        CheckpointError: the disk is full or failed; earlier checkpoints are untouched.
    """
    target = folder / f"update-{state.update:08d}"
    parts = _parts(objective, engine, state.best)
    if engine.env.is_main:
        best_bytes = sum(value.nbytes for value in state.best.values())
        _write(target, state, parts, history, _needed_bytes(objective) + best_bytes)
        prune(folder, keep)
    else:
        collections.deque(parts, maxlen=0)
    engine.group.barrier()
    return target


def _parts(objective: Objective, engine: Engine, best: dict[str, Tensor]) -> Iterator[_Part]:
    """(file, tensors) one after the other; all ranks must take them all."""
    yield _TRAINED, whole_weights(objective, engine, lambda name: not _is_teachers(name))
    if objective.teacher is not None:
        yield _TEACHER, whole_weights(objective, engine, _is_teachers)
    for moment in MOMENTS:
        yield f"{moment}.safetensors", whole_moments(objective, engine, moment)
    if best:
        yield _BEST, best


def _is_teachers(name: str) -> bool:
    return name.startswith("teacher.")


def _needed_bytes(objective: Objective) -> int:
    return 4 * (count(objective.parameters()) + len(MOMENTS) * count(trained(objective).values()))


def _write(
    target: Path,
    state: RunState,
    parts: Iterator[_Part],
    history: History,
    needed_bytes: int,
) -> None:
    """A folder that gets its name when all of it is on the disk."""
    folder, temporary = target.parent, target.with_name(f".{target.name}.tmp")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _refuse_if_full(folder, needed_bytes)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for file, tensors in _apart(parts):
            save_file(tensors, temporary / file)
            del tensors  # before the next ones are gathered
        with (temporary / _GENERATORS).open("wb") as stream:
            torch.save(_random_states(), stream)
        history.write(temporary / _HISTORY)
        _write_state(temporary, state)
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        shutil.rmtree(target, ignore_errors=True)  # only a damaged one can be there
        temporary.rename(target)
        sync(folder)
    except _GatheringError as error:  # a lost rank is no full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise error.cause from None
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        raise CheckpointError(
            f"The checkpoint of update {state.update} could not be written to {folder}: {error}. It needs about "
            f"{_megabytes(needed_bytes)}, and {_megabytes(free)} are free there. Earlier checkpoints are whole. Free "
            "some space (or lower train.checkpoint.keep) and run the same command: it resumes."
        ) from error


class _GatheringError(Exception):
    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


def _apart(parts: Iterator[_Part]) -> Iterator[_Part]:
    """The same parts; what fails while they are gathered is a _GatheringError."""
    while True:
        try:
            part = next(parts, None)
        except Exception as error:
            raise _GatheringError(error) from error
        if part is None:
            return
        yield part
        del part


def _refuse_if_full(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError("no space left on device")


def _write_state(folder: Path, state: RunState) -> None:
    files = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(folder.iterdir())}
    versions = {name: version(name) for name in ("torch", "deepspeed", "numpy")}
    versions |= {"d2v": __version__, "python": platform.python_version()}
    content = {"format": FORMAT, "files": files, "versions": versions}
    content |= asdict(dataclasses.replace(state, best={}))
    del content["best"]
    (folder / _STATE).write_text(json.dumps(content | {"checksum": _checksum(content)}, indent=1))


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` whole checkpoints, and what a kill left of others. Damaged ones do not count as
    kept."""
    whole = [path for path in _paths(folder) if _looks_whole(path)]
    for path in whole[keep:]:
        path.rename(path.with_name(f".{path.name}.old"))  # half of a checkpoint would be a damaged one
    for path in folder.glob(".update-*"):
        shutil.rmtree(path, ignore_errors=True)


def _paths(folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    return sorted((p for p in folder.glob("update-*") if p.is_dir()), reverse=True)


# ------------------------------------------------------------------------------------------- reading


class _DamagedError(Exception):
    """Why a checkpoint cannot be used."""


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint whose checksums fit; says so when newer ones are damaged. None if there is none.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    for leftover in folder.glob(".update-*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    damages = []
    for path in _paths(folder):
        try:
            return Checkpoint(path, _verified_state(path))
        except _DamagedError as damage:
            damages.append(f"{path.name}: {damage}")
            log(f"warning: checkpoint {path} is damaged ({damage}); trying the one before")
    if damages:
        raise CheckpointError(
            f"No checkpoint in {folder} can be used ({'; '.join(damages)}). Restore one from a backup, or set "
            "train.resume=restart: that moves the run aside and starts anew."
        )
    return None


def load_weights(checkpoint: Checkpoint, objective: Objective) -> None:
    """Put the weights back, before the engine cuts them into shards."""
    state = load_file(checkpoint.path / _TRAINED)
    if objective.teacher is not None:
        state |= load_file(checkpoint.path / _TEACHER)
    objective.load_state_dict(state)


def load_rest(checkpoint: Checkpoint, objective: Objective, engine: Engine) -> History:
    """Put moments and random generators back; returns the metrics logged until then."""
    with ExitStack() as stack:
        files = {m: stack.enter_context(safe_open(checkpoint.path / f"{m}.safetensors", "pt")) for m in MOMENTS}
        take_moments_over(
            objective, engine, lambda moment, name: files[moment].get_tensor(name), checkpoint.state.update
        )
    _restore_random_states(torch.load(checkpoint.path / _GENERATORS, weights_only=True))
    if engine.env.is_main and (checkpoint.path / _BEST).is_file():
        checkpoint.state.best = load_file(checkpoint.path / _BEST)
    return History.read(checkpoint.path / _HISTORY)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((path / _STATE).read_text())
        checksum = content.pop("checksum")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _DamagedError(f"{_STATE} cannot be read: {error}") from error
    if checksum != _checksum(content):
        raise _DamagedError(f"{_STATE} has another checksum")
    if content["format"] != FORMAT:
        raise _DamagedError(f"format {content['format']}, this version reads {FORMAT}")
    return content


def _check_files(path: Path, files: dict[str, dict[str, Any]], wrong: Callable[[Path, dict[str, Any]], str]) -> None:
    for name, facts in files.items():
        file = path / name
        if not file.is_file():
            raise _DamagedError(f"{name} is missing")
        try:
            problem = wrong(file, facts)
        except OSError as error:
            raise _DamagedError(f"{name} cannot be read: {error}") from error
        if problem:
            raise _DamagedError(f"{name} {problem}")


def _wrong_size(file: Path, facts: dict[str, Any]) -> str:
    size = file.stat().st_size
    return "" if size == facts["bytes"] else f"has {size} bytes instead of {facts['bytes']}"


def _wrong_content(file: Path, facts: dict[str, Any]) -> str:
    return _wrong_size(file, facts) or ("" if _sha256(file) == facts["sha256"] else "has another checksum")


def _verified_state(path: Path) -> RunState:
    content = _read_state(path)
    _check_files(path, content["files"], _wrong_content)
    content["matmul_backend"] = content.get("matmul_backend", content.get("library", "blas"))  # its name before
    known = {name: content[name] for name in RunState.__dataclass_fields__ if name in content}
    return RunState(**known)  # what an earlier version did not know has its default


def _looks_whole(path: Path) -> bool:
    """Like the full check, but sizes only: pruning must not read gigabytes."""
    try:
        _check_files(path, _read_state(path)["files"], _wrong_size)
    except _DamagedError:
        return False
    return True


# ------------------------------------------------------------------------------ random generators


def _random_states() -> dict[str, Any]:
    """The global generators. Training draws from keys alone; probes and code around it may use these."""
    python_version, python_state, python_gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": numpy_state | {"state": {"key": _as_tensor(numpy_state), "pos": numpy_state["state"]["pos"]}},
        "python": [python_version, torch.tensor(python_state), python_gauss],
    }


def _as_tensor(numpy_state: Any) -> torch.Tensor:
    return torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))


def _restore_random_states(states: dict[str, Any]) -> None:
    """Set the generators to what `_random_states` gave."""
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    words = states["numpy"]["state"]["key"].cpu().numpy().astype(np.uint32)
    position = states["numpy"]["state"]["pos"]
    np.random.set_state(states["numpy"] | {"state": {"key": words, "pos": position}})
    python_version, python_state, python_gauss = states["python"]
    random.setstate((python_version, tuple(python_state.tolist()), python_gauss))
