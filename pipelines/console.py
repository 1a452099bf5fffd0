"""The console: logging, silenced warnings, and the last lines of a command that failed or was stopped."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
import warnings
from pathlib import Path

import yaml
from kedro import KedroDeprecationWarning
from kedro.framework.project import LOGGING

from d2v.errors import D2vError


def configure(project: Path) -> None:
    """Set up logging from conf/logging.yml, whatever the working folder, and silence what a reader cannot act on."""
    LOGGING.configure(yaml.safe_load((project / "conf" / "logging.yml").read_text()))
    logging.captureWarnings(False)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # The README documents --pipeline, which Kedro 1.7 still takes and 2.0 will not; pyproject.toml pins Kedro 1.
    warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated", category=KedroDeprecationWarning)


def explain(error: D2vError) -> None:
    """Print the error as one paragraph on stderr."""
    sys.stdout.flush()
    print(f"\n{type(error).__name__}: {error}", file=sys.stderr, flush=True)


def stopped(how: str) -> None:
    """Print one line on stderr after Ctrl-C or SIGTERM. Training prints its own."""
    line = f"Stopped by {how}. Finished steps are kept; the same command goes on from there."
    print("\n" + textwrap.fill(line, 120), file=sys.stderr, flush=True)
