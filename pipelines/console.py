"""The console: logging, silenced warnings, and the last lines of a command that failed or was stopped."""

from __future__ import annotations

import errno
import logging
import os
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import yaml
from kedro import KedroDeprecationWarning
from kedro.framework.project import LOGGING

from d2v.errors import D2vError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def configure(project: Path) -> None:
    """Set up logging from conf/logging.yml, whatever the working folder, and silence what a reader cannot act on."""
    LOGGING.configure(yaml.safe_load((project / "conf" / "logging.yml").read_text()))
    logging.captureWarnings(False)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The README documents --pipeline, which Kedro 1.7 still takes and 2.0 will not; pyproject.toml pins Kedro 1.
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated", category=KedroDeprecationWarning)


def known_error(error: BaseException) -> D2vError | None:
    """The error in the chain of `error` that a user can mend, however deep Kedro wrapped it; None for a defect."""
    for link in _chain(error):
        if isinstance(link, D2vError):
            return link
    if any(_is_disk_full(link) for link in _chain(error)):
        full = D2vError(
            "the disk is full. What was finished before is kept: free some space, and the same command goes on"
        )
        full.exit_code = 3
        return full
    return None


def explain(error: D2vError) -> None:
    """Print the error as one paragraph on stderr."""
    sys.stdout.flush()
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def stopped(how: str) -> None:
    """Print one line on stderr after Ctrl-C or SIGTERM. Training prints its own."""
    line = f"Stopped by {how}. Finished steps are kept; the same command goes on from there."
    print("\n" + textwrap.fill(line, 120), file=sys.stderr, flush=True)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno in DISK_FULL) or "database or disk is full" in str(error)
