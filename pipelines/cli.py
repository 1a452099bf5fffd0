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
import yaml
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.cli.utils import CONTEXT_SETTINGS
from kedro.framework.project import pipelines as registered
from kedro.utils import find_kedro_project

from d2v.errors import ConfigError, known_error
from d2v.imports import collector_at_rest
from d2v.progress import log
from pipelines import console
from pipelines.params_option import parse_params


def project() -> Path:
    """The project that the command was called in, as Kedro finds it: a checkout, or a folder that `d2v train` made."""
    return find_kedro_project(Path.cwd()) or Path(__file__).resolve().parents[1]


@click.group(context_settings=CONTEXT_SETTINGS, name="d2v")
def cli() -> None:
    """The project's own version of `run`."""


def _run(**options: Any) -> Any:
    if "DVC_STAGE" in os.environ and (elsewhere := os.environ.pop("D2V_DATA", None)):
        log(f"DVC keeps data in {project() / 'data'}: D2V_DATA={elsewhere} is left aside")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        _check_names(options)
        _take_own_pipeline(options)
        with collector_at_rest():
            importlib.import_module("pipelines.tracking")  # seconds, which a wrong name need not wait for
        console.configure(project())  # after the import: MLflow and its plugin set up loggers of their own
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
        environments = sorted(path.name for path in (project() / "conf").iterdir() if path.is_dir())
        _check_name("environment", options["env"], environments, f" (looked in {project() / 'conf'})")
    for name in [options["pipeline"]] if options.get("pipeline") else options.get("pipelines") or []:
        _check_name("pipeline", name, sorted(registered.keys()))


def _take_own_pipeline(options: dict[str, Any]) -> None:
    """An environment may name the pipeline that it is for: `pipeline` in its globals.yml. Without one it is the default
    of all environments, which runs every modality."""
    if not options.get("env") or options.get("pipeline") or options.get("pipelines"):
        return
    file = Path(options.get("conf_source") or project() / "conf") / options["env"] / "globals.yml"
    own = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("pipeline") if file.is_file() else None
    if own:
        options["pipelines"] = [own]
        _check_names(options)
        log(f"conf/{options['env']} is for the pipeline {own}")


def _check_name(kind: str, name: str, known: Iterable[str], place: str = "") -> None:
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
        raise ConfigError(f"there is no {kind} {name!r}; {hint}{place}")


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
