"""Checkpoints that are whole or not there.

A checkpoint is a folder `update-00000500`, written under a temporary name, synced and renamed:

    model.safetensors   student, teacher and decoder in fp32
    optimizer.pt        optimiser state and random generators (loaded with weights_only)
    history.csv         the metrics logged so far
    state.json          update, recipe, data fingerprint, versions; size and SHA-256 of every file above
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from d2v import __version__
from d2v.data.disk import sync
from d2v.errors import CheckpointError
from d2v.objectives.base import Objective
from d2v.progress import say
from d2v.training.engine import Engine
from d2v.training.history import History

FORMAT = 1
_STATE, _MODEL, _OPTIMIZER, _HISTORY = "state.json", "model.safetensors", "optimizer.pt", "history.csv"


@dataclass
class RunState:
    """What a run is besides its weights.

    Attributes:
        update: updates done.
        recipe: the recipe's parts that shape the result.
        data_fingerprint: of the prepared store.
        precision: format that the run's products are in, so that a resumed one keeps it.
        window: figures logged in part.
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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were compared."""

    path: Path
    state: RunState


# ------------------------------------------------------------------------------------------- writing


def save(folder: Path, state: RunState, objective: Objective, engine: Engine, history: History, keep: int) -> Path:
    """Write the checkpoint of `state.update` and remove those beyond the newest `keep`.

    Raises:
        CheckpointError: the disk is full or failed; earlier checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"update-{state.update:08d}"
    temporary = folder / f".{target.name}.tmp"
    # copied, because safetensors takes no tensors that share memory
    tensors = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in objective.state_dict().items()}
    optimizer = {"optimizer": engine.state_dict(), "generators": _generators()}
    needed = sum(t.nbytes for t in tensors.values()) + _bytes_of(engine.state_dict())
    try:
        _refuse_if_full(folder, needed)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(tensors, temporary / _MODEL)
        with (temporary / _OPTIMIZER).open("wb") as file:
            torch.save(optimizer, file)
        history.write(temporary / _HISTORY)
        _write_state(temporary, state)
        for path in temporary.iterdir():
            sync(path)
        sync(temporary)
        shutil.rmtree(target, ignore_errors=True)  # only a damaged one can be there
        temporary.rename(target)
        sync(folder)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        free = shutil.disk_usage(folder).free
        raise CheckpointError(
            f"The checkpoint of update {state.update} could not be written to {folder}: {error}. It needs about "
            f"{_megabytes(needed)}, and {_megabytes(free)} are free there. Earlier checkpoints are whole. Free some "
            "space (or lower train.checkpoint.keep) and run the same command: it resumes."
        ) from error
    _prune(folder, keep)
    return target


def _refuse_if_full(folder: Path, needed_bytes: int) -> None:
    if shutil.disk_usage(folder).free < needed_bytes:
        raise OSError("no space left on device")


def _write_state(folder: Path, state: RunState) -> None:
    files = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(folder.iterdir())}
    versions = {name: version(name) for name in ("torch", "deepspeed", "numpy")}
    versions |= {"d2v": __version__, "python": platform.python_version()}
    content = {"format": FORMAT, "files": files, "versions": versions}
    content |= asdict(state)
    (folder / _STATE).write_text(json.dumps(content | {"checksum": _checksum(content)}, indent=1))


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes_of(value: Any) -> int:
    """Bytes of all tensors in nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes_of, value.values()))
    return sum(map(_bytes_of, value)) if isinstance(value, list | tuple) else 0


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` whole checkpoints. Damaged ones do not count as kept."""
    whole = [path for path in _paths(folder) if _looks_whole(path)]
    for path in whole[keep:]:
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
            say(f"warning: checkpoint {path} is damaged ({damage}); trying the one before")
    if damages:
        raise CheckpointError(
            f"No checkpoint in {folder} can be used ({'; '.join(damages)}). Restore one from a backup, or set "
            "train.resume=restart: that moves the run aside and starts anew."
        )
    return None


def load(checkpoint: Checkpoint, objective: Objective, engine: Engine) -> History:
    """Put weights, optimiser and random generators back; returns the metrics logged until then."""
    device = engine.place.device
    objective.load_state_dict(load_file(checkpoint.path / _MODEL, device=str(device)))
    stored = torch.load(checkpoint.path / _OPTIMIZER, map_location=device, weights_only=True)
    engine.load_state_dict(stored["optimizer"])
    _set_generators(stored["generators"])
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
        if problem := wrong(file, facts):
            raise _DamagedError(f"{name} {problem}")


def _wrong_size(file: Path, facts: dict[str, Any]) -> str:
    size = file.stat().st_size
    return "" if size == facts["bytes"] else f"has {size} bytes instead of {facts['bytes']}"


def _wrong_content(file: Path, facts: dict[str, Any]) -> str:
    return _wrong_size(file, facts) or ("" if _sha256(file) == facts["sha256"] else "has another checksum")


def _verified_state(path: Path) -> RunState:
    content = _read_state(path)
    _check_files(path, content["files"], _wrong_content)
    return RunState(**{name: content[name] for name in RunState.__dataclass_fields__})


def _looks_whole(path: Path) -> bool:
    """Like the full check, but sizes only: pruning must not read gigabytes."""
    try:
        _check_files(path, _read_state(path)["files"], _wrong_size)
    except _DamagedError:
        return False
    return True


# ---------------------------------------------------------------------------------------- generators


def _generators() -> dict[str, Any]:
    """States of the global generators as tensors and numbers. Training draws from keys alone; probes and
    code around it may use these."""
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


def _set_generators(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    words = states["numpy"]["state"]["key"].cpu().numpy().astype(np.uint32)
    position = states["numpy"]["state"]["pos"]
    np.random.set_state(states["numpy"] | {"state": {"key": words, "pos": position}})
    python_version, python_state, python_gauss = states["python"]
    random.setstate((python_version, tuple(python_state.tolist()), python_gauss))
