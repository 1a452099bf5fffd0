"""`kedro run` with Kedro's own options. An error that a user can mend ends it with one paragraph and an exit status
instead of a traceback; Ctrl-C and SIGTERM end it with the usual status."""

from __future__ import annotations

import difflib
import importlib
import os
import signal
import threading
from collections.abc import Iterable
from copy import copy
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import pipelines as registered

from d2v.errors import ConfigError, known_error
from d2v.imports import collector_at_rest
from d2v.progress import log
from pipelines import console
from pipelines.params_option import parse_params

PROJECT = Path(__file__).resolve().parents[1]


@click.group(context_settings=CONTEXT_SETTINGS, name="d2v")
def cli() -> None:
    """The project's own version of `run`."""


def _run(**options: Any) -> Any:
    if "DVC_STAGE" in os.environ and (elsewhere := os.environ.pop("D2V_DATA", None)):
        log(f"DVC keeps data in {PROJECT / 'data'}: D2V_DATA={elsewhere} is left aside")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        _check_names(options)
        with collector_at_rest():
            importlib.import_module("pipelines.tracking")  # seconds, which a wrong name need not wait for
        console.configure(PROJECT)  # after the import: MLflow and its plugin set up loggers of their own
        return kedro_run.callback(**options)
    except KeyboardInterrupt:
        console.stopped("Ctrl-C")
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        known = known_error(error)
        if known is None:
            raise
        console.explain(known)
        raise SystemExit(known.exit_code) from None


def _exit_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    console.stopped(signal.Signals(number).name)
    raise SystemExit(128 + number)


def _check_names(options: dict[str, Any]) -> None:
    """Raises ConfigError for an environment or a pipeline that does not exist."""
    if options.get("env") and not options.get("conf_source"):
        environments = sorted(path.name for path in (PROJECT / "conf").iterdir() if path.is_dir())
        _check_name("environment", options["env"], environments)
    for name in [options["pipeline"]] if options.get("pipeline") else options.get("pipelines") or []:
        _check_name("pipeline", name, sorted(registered.keys()))


def _check_name(kind: str, name: str, known: Iterable[str]) -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        raise ConfigError(f"there is no {kind} {name!r}; {hint}")


def _params(context: click.Context, option: click.Parameter, given: Any) -> Any:
    try:
        return parse_params(given)
    except ConfigError as error:
        console.explain(error)
        raise SystemExit(error.exit_code) from None


def _options() -> list[click.Parameter]:
    """Kedro's, with our reader of `--params`."""
    options = [copy(option) for option in kedro_run.params]
    for option in options:
        if option.name == "params":
            option.callback = _params
    return options


run = click.Command("run", params=_options(), callback=_run, help=kedro_run.help, context_settings=CONTEXT_SETTINGS)
cli.add_command(run)
