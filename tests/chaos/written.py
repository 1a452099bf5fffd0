"""What the steps wrote, as digests that times, ids of runs and memory do not change."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

VARYING = re.compile(
    r"seconds|peak_memory_mb|perf/.*|.*_ms|.*_s|.*run_id.*|.*latency.*|git_commit|sha256|bytes|checksum|.*\.(md|html)"
)
"""Keys and columns of times and ids of runs, and digests of files that hold such; what these say of other files, the
files themselves say too."""
SEALS = ("digests.json",)
"""Digests of the very files that are compared: only their names are."""
PAGES = (".html", ".md")
"""For people: they say how long things took. Only that they are there is compared."""
NOT_COMPARED = (".lock", ".log")
"""Locks, and what ranks other than the first print."""


def written(root: Path) -> dict[str, str]:
    """File below `root/data`, or row of the registry -> digest of its content."""
    found = {str(path.relative_to(root)): _digest(path) for path in sorted(_files(root / "data"))}
    return found | dict(_registry(root / "mlflow.db"))


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """One line for each file or row that is not as in an undisturbed run."""
    lines = [f"missing {name}" for name in expected.keys() - found.keys()]
    lines += [f"left over {name}" for name in found.keys() - expected.keys()]
    return sorted(
        lines + [f"different {name}" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.suffix not in NOT_COMPARED)


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.name in SEALS:
        content: object = sorted(json.loads(data))
    elif path.suffix == ".json":
        content = _steady(json.loads(data))
    elif path.name == "history.csv":
        content = [_steady(row) for row in csv.DictReader(io.StringIO(data.decode()))]
    elif path.suffix in PAGES:
        content = bool(data)
    elif path.suffix == ".safetensors":
        content = sorted(
            (name, hashlib.sha256(value.numpy().tobytes()).hexdigest()) for name, value in load(data).items()
        )
    elif path.suffix == ".pt":
        content = repr(torch.load(path, weights_only=False)["torch"])  # others begin anywhere, and nothing asks them
    else:
        content = hashlib.sha256(data).hexdigest()
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _steady(content: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(content, dict):
        return {key: _steady(value) for key, value in content.items() if not VARYING.fullmatch(key)}
    if isinstance(content, list):
        return [_steady(value) for value in content]
    return content


def _registry(database: Path) -> Iterator[tuple[str, str]]:
    """Versions with their tags and aliases, and how runs ended, straight from the tables."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        for name, version in connection.execute("select name, version from model_versions"):
            where = (name, version)
            tags = connection.execute("select key, value from model_version_tags where name = ? and version = ?", where)
            steady = sorted((key, _number(value)) for key, value in tags if not VARYING.fullmatch(key))
            yield f"registry {name} version {version}", json.dumps(steady)
        for name, alias, version in connection.execute("select name, alias, version from registered_model_aliases"):
            yield f"registry {name}@{alias}", str(version)
    finally:
        connection.close()


def _number(value: str) -> str:
    return re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]):.6g}", value)
