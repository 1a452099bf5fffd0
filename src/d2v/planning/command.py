"""`d2v train`: look, plan, ask, write, run."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2v.config.changes import values_of
from d2v.errors import ConfigError
from d2v.modalities.survey import survey
from d2v.planning.budget import seconds_of
from d2v.planning.environment import check_name, name_of, source_in, write_environment
from d2v.planning.plan import Plan, hardware_here, head, lines, make_plan
from d2v.planning.project import find_project, make_project

Say = Callable[[str], None]
MADE = "d2v_project"
"""Folder of the project that is made where there is none."""


@dataclass(frozen=True)
class Asked:
    """What the command line says.

    Attributes:
        source: a path or an fsspec URL.
        name: of the environment; empty: made from the source.
        modality: of the items; empty: found.
        ingest: `key=value` of the ingest block.
        epochs: of pretraining.
        time: for everything, such as 30m.
        project: folder of the project; None: the nearest one.
        yes: go on without asking.
    """

    source: str
    name: str = ""
    modality: str = ""
    ingest: Sequence[str] = ()
    epochs: float | None = None
    time: str = ""
    project: Path | None = None
    yes: bool = False


def train_source(asked: Asked, say: Say, ask: Callable[[str], bool] | None) -> int:
    """Do it, and return the exit status of the run.

    Args:
        asked: the command line.
        say: prints a line.
        ask: a question -> whether to go on; None where there is no terminal.

    Raises:
        ConfigError: an option does not fit, or there is nobody to ask.
        DataError: there is nothing to train on.
    """
    if asked.epochs is not None and asked.time:
        raise ConfigError("--epochs and --time are two budgets: give one of them")
    if asked.epochs is not None and not asked.epochs > 0:
        raise ConfigError(f"--epochs {asked.epochs:g} trains nothing: give a number above 0")
    time_s = seconds_of(asked.time) if asked.time else None
    source = _whole(asked.source)
    say(f"looking at {source}")
    found = survey(source, asked.modality, values_of(asked.ingest))
    project = _project(asked, say)
    conf = project / "conf"
    name = asked.name or name_of(source)
    if source_in(conf, name, found.modality) == source:
        return _go_on(project, name, asked, say)
    check_name(conf, found.modality, name)
    say(f"timing a few updates on {len(found.sample):,} items")
    plan = make_plan(found, hardware_here(), conf, asked.epochs, time_s)
    for line in lines(plan):
        say(line)
    say(f"recipe      {conf / name}, to edit and to run again: kedro run --env={name}")
    _agreed(asked, ask)
    write_environment(conf, name, found.modality, plan.recipe, plan.reasons, head(plan, _command(asked)), plan.pipeline)
    status = run_environment(project, name)
    if status == 0:
        for line in results(project, name, plan):
            say(line)
    return status


def _whole(source: str) -> str:
    """A local path as an absolute one; URLs and names of data sets as they are."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() or ":" not in source else source


def _project(asked: Asked, say: Say) -> Path:
    """The project that the command works in; a new one where there is none."""
    start = (asked.project or Path()).resolve()
    below = start if asked.project else start / MADE
    found = find_project(start) or find_project(below)
    if found is not None:
        return found
    make_project(below)
    say(f"there is no project of d2v here: made one in {below}")
    return below


def _go_on(project: Path, name: str, asked: Asked, say: Say) -> int:
    """The environment is there and reads this source: run it as it is, edited or not."""
    if asked.epochs is not None or asked.time:
        raise ConfigError(
            f"conf/{name} is there and reads this source: change max_updates in it, remove the folder for a new plan, "
            "or say --name for another one"
        )
    say(f"conf/{name} is there and reads this source: it is run as it is, and goes on where it was")
    return run_environment(project, name)


def _agreed(asked: Asked, ask: Callable[[str], bool] | None) -> None:
    if asked.yes:
        return
    if ask is None:
        raise ConfigError("there is no terminal to ask on whether to go on: say --yes")
    if not ask("Write the recipe and train?"):
        raise ConfigError("nothing was written: --epochs, --time, --modality and --ingest change the plan")


def _command(asked: Asked) -> str:
    said = ["d2v", "train", asked.source]
    for option, value in (("--name", asked.name), ("--modality", asked.modality), ("--time", asked.time)):
        said += [option, value] if value else []
    said += ["--epochs", f"{asked.epochs:g}"] if asked.epochs is not None else []
    for pair in asked.ingest:
        said += ["--ingest", pair]
    return shlex.join(said)


def run_environment(project: Path, name: str) -> int:
    """`kedro run --env=<name>` in the project; returns its exit status. Ctrl-C is the run's to answer."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run(
            [sys.executable, "-m", "kedro", "run", f"--env={name}"],
            cwd=project,
            check=False,
            preexec_fn=lambda: signal.signal(signal.SIGINT, before),
        ).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def results(project: Path, name: str, plan: Plan) -> list[str]:
    """Where the results are, and what to do with them."""
    data, modality = Path(os.environ.get("D2V_DATA", project / "data")), plan.survey.modality
    reports = data / "08_reporting"
    tuned = f"{name}-{name}"
    model = data / "06_models" / (f"{modality}_tuned/{tuned}/model" if plan.tunes else f"{modality}/{name}/encoder")
    found = [f"report      {reports / modality / name / 'report.html'}"]
    if plan.tunes:
        found.append(f"fine-tuned  {reports / f'{modality}_tuned' / tuned / 'report.html'}")
    predict = " --predict" if plan.tunes else ""
    source = shlex.quote(plan.survey.ingest["source"])
    found.append(f"use it      d2v encode {source} --model {model} --out features.parquet{predict}")
    return found
