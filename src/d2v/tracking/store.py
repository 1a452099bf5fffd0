"""The SQLite file that runs and models are tracked in: opened by one process at a time, and at home where it lies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlparse

from filelock import FileLock

from d2v.errors import CheckpointError
from d2v.progress import log

SQLITE = "sqlite:///"
# Columns of MLflow's tables that hold folders of artifacts.
_PLACES = (
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


def opening(uri: str) -> AbstractContextManager[None]:
    """Inside, no other process that asks here opens the store. MLflow makes and upgrades its tables when a store is
    first opened, and two that do so at once end in an error of the database."""
    return _alone(uri, "lock")


def registering(uri: str) -> AbstractContextManager[None]:
    """Inside, no other process that asks here registers: two that have the same weights end in one version."""
    return _alone(uri, "registry.lock")


@contextmanager
def _alone(uri: str, suffix: str) -> Iterator[None]:
    """One at a time on this machine, for stores in files."""
    if not uri.startswith(SQLITE):
        yield
        return
    database = Path(uri.removeprefix(SQLITE))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(database.with_name(f"{database.name}.{suffix}"))
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f"the tracking store {database} cannot be written ({error.strerror or error}): set MLFLOW_TRACKING_URI to "
            "a file or a server where it can, such as sqlite:////home/you/mlflow.db"
        ) from error
    try:
        yield
    finally:
        lock.release()


def follow_project(database: Path, experiment: str, artifacts: Path) -> None:
    """Let an experiment write its artifacts where it should now. MLflow keeps absolute folders, so a copy of a project
    would write into the original, and a moved one into a folder that is gone.

    What lies under the new folder is found there from now on; what does not keeps the place that it has.

    Args:
        database: SQLite file of the store; nothing is done where there is none.
        experiment: its name.
        artifacts: where the experiment's artifacts belong, absolute.
    """
    if not database.is_file():
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone():
            return
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name = ?", (experiment,)).fetchone()
        before = _local(found[0]) if found else None
        if before is None or before == artifacts:
            return
        connection.execute(
            "UPDATE experiments SET artifact_location = ? WHERE name = ?", (artifacts.as_uri(), experiment)
        )
        moved, left = _move(connection, before, artifacts)
    line = f"tracking: artifacts of experiment {experiment} go to {artifacts} from now on, not to {before}"
    log(f"{line}; {moved} places of earlier ones are there too" + (f", {left} stay where they were" if left else ""))


def _move(connection: sqlite3.Connection, before: Path, artifacts: Path) -> tuple[int, int]:
    """Let every place below `before` that is below `artifacts` too be the latter; how many, and how many are not."""
    moved = left = 0
    for table, column in _PLACES:
        rows = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
        for row, uri in rows:
            place = _local(uri)
            if place is None or not place.is_relative_to(before):
                continue
            new = artifacts / place.relative_to(before)
            # The folder of a run without artifacts does not exist anywhere.
            if new.exists() or not place.exists():
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new.as_uri(), row))
                moved += 1
            else:
                left += 1
    return moved, left


def _local(uri: str) -> Path | None:
    """The folder that MLflow's `file:///a%20b` or `/a b` means; None for any other scheme."""
    parsed = urlparse(uri)
    if parsed.scheme == "file":
        return Path(unquote(parsed.path))
    return Path(uri) if uri.startswith("/") else None
