"""One trial: a step is disturbed, then the same command is given again and must leave what an undisturbed one leaves.

A step runs in a fork of this process, which has imported everything and computed nothing, so a trial takes seconds.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.orm import configure_mappers

from d2v.errors import known_error
from tests.chaos.steps import STEPS, Project, make_store, write_source
from tests.chaos.written import PAGES, SEALS, differences, written

FINISHED, DEFECT, TYPED = 0, 70, 71
"""Exit codes of a step: done; an error without a remedy; one that says what to do."""
LIMIT_S = 300.0
MOST_BYTES = 200_000
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")

Disturb = Callable[[], None]


@dataclass(frozen=True)
class Trial:
    """What is to be tried."""

    modality: str
    step: str
    disturbance: str
    seed: int


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        first: how the disturbed step ended, in words.
        problems: one line for each thing that is not right; none if the trial held.
    """

    trial: Trial
    first: str = ""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Undisturbed:
    """A step as it is without trouble."""

    before: Path  # a copy of the project as the step found it
    expected: dict[str, str]
    again: dict[str, str]  # after a second command, which may say something else, such as that nothing is to be done
    changes: int
    seconds: float


class Bench:
    """The project of a modality, every step of which was run once, and trials on copies of it.

    Args:
        modality: registry name.
        scratch: an empty folder.
        steps: the first of STEPS to be run.
        ranks: of pretraining.
    """

    def __init__(self, modality: str, scratch: Path, steps: list[str], ranks: int = 1) -> None:
        self._scratch, self._ranks = scratch, ranks
        self.undisturbed: dict[str, Undisturbed] = {}
        project = Project(modality, scratch / modality, ranks)
        write_source(modality, project.root / "source")
        self._must(self._start(lambda: make_store(project.root), None))
        for step in steps:
            self.undisturbed[step] = self._undisturbed(project, step)

    def _undisturbed(self, project: Project, step: str) -> Undisturbed:
        """Run a step three times: to import what it imports, to time and count it, and as a second command."""
        before = self._scratch / "before" / step
        imported, counted = self._scratch / "imported", self._scratch / "changes"
        shutil.copytree(project.root, before, symlinks=True)
        self._must(self._start(partial(_run_and_list_modules, project, step, imported), None))
        _import(imported.read_text().split())
        expected = written(project.root)
        shutil.rmtree(project.root)
        shutil.copytree(before, project.root, symlinks=True)
        began_s = time.monotonic()
        self._must(self._start_step(project, step, partial(count_changes, self._scratch, counted)))
        seconds = time.monotonic() - began_s
        if lines := differences(written(project.root), expected):
            raise RuntimeError(f"{step} does not do the same twice: {'; '.join(lines)}")
        after = self._scratch / "after"
        shutil.copytree(project.root, after, symlinks=True)
        self._must(self._start_step(project, step, None))
        again = written(project.root)
        shutil.rmtree(project.root)
        after.rename(project.root)
        changes = len(counted.read_bytes()) if counted.exists() else 0
        counted.unlink(missing_ok=True)
        return Undisturbed(before, expected, again, changes, seconds)

    def try_out(self, trial: Trial) -> Outcome:
        """Disturb a step, run it again, and compare."""
        outcome, as_it_is = Outcome(trial), self.undisturbed[trial.step]
        project = Project(trial.modality, self._scratch / trial.modality, self._ranks)
        shutil.rmtree(project.root)
        shutil.copytree(as_it_is.before, project.root, symlinks=True)
        chance = random.Random(trial.seed)
        outcome.first, problem = DISTURBANCES[trial.disturbance](self, project, trial.step, as_it_is, chance)
        outcome.problems += [problem] if problem else []
        code = self._wait(self._start_step(project, trial.step, None))
        if code != FINISHED:
            outcome.problems.append(f"the same command again: {self._said(code)}")
        left = written(project.root)
        outcome.problems += min((differences(left, one) for one in (as_it_is.expected, as_it_is.again)), key=len)
        return outcome

    # ------------------------------------------------------------------------------------ processes

    def _start_step(self, project: Project, step: str, disturb: Disturb | None) -> int:
        return self._start(lambda: project.run(step), disturb)

    def _start(self, work: Callable[[], None], disturb: Disturb | None) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = DEFECT
        try:
            log = os.open(self._log(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if disturb:
                disturb()
            work()
            code = FINISHED
        except BaseException as error:
            known = known_error(error)
            code = TYPED if known else DEFECT
            print(f"{type(known).__name__}: {known}" if known else traceback.format_exc(), file=sys.stderr, flush=True)
        finally:
            os._exit(code)

    def _log(self, pid: int) -> Path:
        self._last = self._scratch / f"{pid}.log"
        return self._last

    def _wait(self, pid: int, kill_after_s: float | None = None) -> int:
        """Exit code of a step, negative for a signal; it is killed after so long."""
        self._log(pid)
        deadline = time.monotonic() + (LIMIT_S if kill_after_s is None else kill_after_s)
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return -signal.SIGKILL if kill_after_s is not None else DEFECT
            time.sleep(0.003)

    def _said(self, code: int) -> str:
        last = [line for line in self._last.read_text(errors="replace").splitlines() if line.strip()][-1:]
        return f"exit code {code}, {last[0][-300:] if last else 'without a word'}"

    def _must(self, pid: int) -> None:
        code = self._wait(pid)
        if code != FINISHED:
            raise RuntimeError(f"an undisturbed step failed: {self._said(code)}\n{self._last.read_text()[-4000:]}")

    def judged(self, code: int, allowed: tuple[int, ...]) -> tuple[str, str]:
        """(how a step ended in words, what is wrong with that)."""
        words = {FINISHED: "finished", TYPED: "an error that says what to do", -signal.SIGKILL: "killed"}
        return words.get(code, "a defect"), "" if code in allowed else f"the disturbed step: {self._said(code)}"


def _run_and_list_modules(project: Project, step: str, imported: Path) -> None:
    project.run(step)
    imported.write_text("\n".join(sys.modules))


def _import(names: list[str]) -> None:
    """Import what a step imported, so that the forks of this process need not."""
    for name in names:
        with suppress(Exception):  # some stand for others, or import half of themselves
            importlib.import_module(name)
    configure_mappers()
    gc.collect()
    gc.freeze()  # forks share the memory of what is here


# ------------------------------------------------------------------------------------------- disturbances


def changes_below(root: Path, act: Callable[[int, str], None]) -> None:
    """Call `act` with the number and the kind of each change of files, before it is made, in this process from now on.
    Python tells of its own; what C libraries open is not among them."""
    numbers, top = count(1), str(root)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and path.startswith(top) and isinstance(flags, int) and flags & WRITES:
                act(next(numbers), event)
        elif event in CHANGES and isinstance(arguments[0], str | os.PathLike):
            act(next(numbers), event)

    sys.addaudithook(hook)


def count_changes(root: Path, counted: Path) -> None:
    """Leave a byte for each change in a file."""
    handle = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    changes_below(root, lambda number, kind: os.write(handle, b"."))


def _killed_at_a_change(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    at = chance.randint(1, max(as_it_is.changes, 1))

    def disturb() -> None:
        changes_below(project.root, lambda number, _: os.kill(os.getpid(), signal.SIGKILL) if number == at else None)

    return bench.judged(bench._wait(bench._start_step(project, step, disturb)), (-signal.SIGKILL, FINISHED))


def _killed_at_a_time(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    pid = bench._start_step(project, step, None)
    return bench.judged(bench._wait(pid, chance.random() * as_it_is.seconds), (-signal.SIGKILL, FINISHED))


def _full_disk(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    at = chance.randint(1, max(as_it_is.changes, 1))

    def refuse(number: int, kind: str) -> None:
        if number >= at and kind in ("open", "os.mkdir"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pid = bench._start_step(project, step, lambda: changes_below(project.root, refuse))
    return bench.judged(bench._wait(pid), (TYPED, FINISHED))


def _short_files(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    """No file may grow beyond so many bytes, whoever writes it, the tracking store too."""
    most = int(MOST_BYTES * chance.random() ** 2)
    limits = (most, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    pid = bench._start_step(project, step, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))
    return bench.judged(bench._wait(pid), (TYPED, FINISHED))


def _read_only(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    folders = [path for path in (project.root / "data", *(project.root / "data").rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    code = bench._wait(bench._start_step(project, step, drop_capabilities))
    for folder in folders:
        folder.chmod(0o755)
    return bench.judged(code, (TYPED, FINISHED))


def drop_capabilities() -> None:
    """Make modes of files hold for this process, also where it is root's."""
    header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, none)


def _damaged(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    """A byte of one file that is there is another one; the file is put back before the command is given again."""
    files = sorted(_files_that_steps_read(project.root / "data"))
    file = chance.choice(files)
    whole = file.read_bytes()
    place = chance.randrange(len(whole))
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
    found = bench.judged(bench._wait(bench._start_step(project, step, None)), (TYPED, FINISHED))
    file.write_bytes(whole)
    return found


def _files_that_steps_read(folder: Path) -> Iterator[Path]:
    skipped = (*PAGES, ".lock", ".png")
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix not in skipped and path.name not in SEALS and path.stat().st_size:
            yield path


def _two_at_once(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    first = bench._start_step(project, step, None)
    time.sleep(chance.random() * as_it_is.seconds / 2)
    second = bench._start_step(project, step, None)
    found = [bench.judged(bench._wait(pid), (TYPED, FINISHED)) for pid in (first, second)]
    return " and ".join(words for words, _ in found), "; ".join(problem for _, problem in found if problem)


def _rank_killed(
    bench: Bench, project: Project, step: str, as_it_is: Undisturbed, chance: random.Random
) -> tuple[str, str]:
    """One of the processes of a training on several ranks."""
    pid = bench._start_step(project, step, None)
    time.sleep(as_it_is.seconds * chance.uniform(0.3, 0.9))
    ranks = psutil.Process(pid).children(recursive=True)
    if ranks:
        chance.choice(ranks).kill()
    return bench.judged(bench._wait(pid), (TYPED, FINISHED))


DISTURBANCES: dict[str, Callable[..., tuple[str, str]]] = {
    "killed at a change of files": _killed_at_a_change,
    "killed at a random moment": _killed_at_a_time,
    "full disk": _full_disk,
    "files may not grow": _short_files,
    "read-only folder": _read_only,
    "damaged file": _damaged,
    "two at once": _two_at_once,
    "one rank killed": _rank_killed,
}
ROUNDS = {
    "killed at a change of files": 3,
    "killed at a random moment": 2,
    "full disk": 1,
    "files may not grow": 1,
    "read-only folder": 1,
    "damaged file": 1,
    "two at once": 1,
}
"""How often each is tried with each step of each modality."""


def plan(modalities: list[str], steps: list[str], seed: int) -> list[Trial]:
    """Every disturbance with every step of every modality; ingest reads no file that a step wrote."""
    cells = [
        (modality, step, disturbance)
        for disturbance, rounds in ROUNDS.items()
        for modality in modalities
        for step in steps
        for _ in range(rounds)
        if (step, disturbance) != (next(iter(STEPS)), "damaged file")
    ]
    return [Trial(*cell, seed=seed * 100_000 + number) for number, cell in enumerate(cells)]


def plan_of_ranks(modality: str, trials: int, seed: int) -> list[Trial]:
    """Trials of pretraining on two ranks: the whole run is killed, or one rank."""
    kinds = ("killed at a random moment", "one rank killed")
    return [Trial(modality, "pretrain", kinds[n % 2], seed * 100_000 + 50_000 + n) for n in range(trials)]
