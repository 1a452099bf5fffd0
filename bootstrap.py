#!/usr/bin/env python3
"""Set this project up, then run a command in it: `python3 bootstrap.py <command> [arguments]`.

Needs Python 3.11 to 3.13 with pip, nothing else. The first call makes `.venv` and installs the versions of
requirements.lock; later calls see that nothing changed and start the command at once. Without a command it only
sets up.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
OLDEST, NEWEST = (3, 11), (3, 13)
NEEDED_BYTES = 9 * 10**9
UV = "uv>=0.7,<1"


class SetupError(Exception):
    """Set-up cannot go on; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Set up, then become the command. Returns an exit status only where there is no command or it failed."""
    try:
        check_machine(sys.version_info[:2], os.name)
        if not is_current(ROOT):
            with only_one(ROOT / ".bootstrap.lock"):
                if not is_current(ROOT):
                    set_up(ROOT)
        if arguments:
            become(arguments, ROOT / ".venv")
    except SetupError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bootstrap: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print("bootstrap: ready. Give a command, for example: python3 bootstrap.py kedro run --pipeline=pretrain_vision")
    return 0


def check_machine(version: tuple[int, ...], system: str) -> None:
    """Refuse what cannot work, with what would. Raises SetupError."""
    if not OLDEST <= version[:2] <= NEWEST:
        have, oldest, newest = (".".join(map(str, v)) for v in (version[:2], OLDEST, NEWEST))
        raise SetupError(
            f"this is Python {have}, and d2v needs {oldest} to {newest}. Start it with another interpreter, "
            f"for example: python{oldest} bootstrap.py ..."
        )
    if system != "posix":
        raise SetupError("d2v runs on Linux and macOS. On Windows run the same command inside WSL.")


def is_current(root: Path) -> bool:
    """True when `.venv` was completed by this script for these files at this place."""
    stamp = root / ".venv" / "bootstrap-stamp"
    return stamp.is_file() and stamp.read_text() == fingerprint(root) and python_of(root / ".venv").exists()


def fingerprint(root: Path) -> str:
    """What an environment was made from: the lock, the project's declaration, its place and the interpreter."""
    parts = [(root / name).read_bytes() for name in ("requirements.lock", "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*parts, os.fsencode(root), sys.version.encode()])).hexdigest()


def python_of(venv: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / "bin" / "python"


@contextlib.contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Let one process at a time set up; the others wait. The system frees the lock of a killed process."""
    import fcntl

    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another bootstrap is setting up; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def set_up(root: Path) -> None:
    """Environment, uv, locked packages, the project itself; the stamp comes last. Packages are compiled here, a minute
    of a core: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every command would compile them anew.

    Raises:
        SetupError: see the message.
    """
    venv = root / ".venv"
    stamp = venv / "bootstrap-stamp"
    stamp.unlink(missing_ok=True)
    if not works(venv):
        check_disk(shutil.disk_usage(root).free)
        make_venv(venv)
    uv = [str(python_of(venv)), "-m", "uv"]
    target = ["--python", str(python_of(venv)), *([] if sys.stderr.isatty() else ["--quiet"])]
    if not succeeds([*uv, "--version"]):
        install_uv(venv)
    say("installing the locked packages (a few GB the first time)")
    check(
        [*uv, "pip", "sync", *target, "--compile-bytecode", str(root / "requirements.lock")],
        "the locked packages did not install",
    )
    check([*uv, "pip", "install", *target, "--no-deps", "-e", str(root)], "the project itself did not install")
    stamp.write_text(fingerprint(root))


def works(venv: Path) -> bool:
    """True when the environment's interpreter runs and has this interpreter's version."""
    test = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return python_of(venv).exists() and succeeds([str(python_of(venv)), "-c", test])


def check_disk(free_bytes: int) -> None:
    """Raises SetupError when the packages would not fit."""
    if free_bytes < NEEDED_BYTES:
        raise SetupError(
            f"the packages need about {NEEDED_BYTES / 1e9:.0f} GB and {free_bytes / 1e9:.1f} GB are free on the disk "
            f"of {ROOT}. Free some space, or move the project to a larger disk."
        )


def make_venv(venv: Path) -> None:
    """A fresh environment with the running interpreter. Some Linux distributions ship Python without ensurepip;
    there the environment is made without pip, and the outer pip installs into it."""
    say(f"making {venv.name}")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(venv)
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    if not succeeds([interpreter, "-m", "venv", str(venv)]):
        check(
            [interpreter, "-m", "venv", "--clear", "--without-pip", str(venv)],
            "this Python cannot make virtual environments; install its venv module (Debian and Ubuntu: "
            "apt install python3-venv)",
        )


def install_uv(venv: Path) -> None:
    """uv, which installs by hash and in parallel. Raises SetupError where no pip is found."""
    inner = [str(python_of(venv)), "-m", "pip"]
    outer = [sys.executable, "-m", "pip", "--python", str(python_of(venv))]
    pip = next((pip for pip in (inner, outer) if succeeds([*pip, "--version"])), None)
    if pip is None:
        raise SetupError("no pip was found; install it (Debian and Ubuntu: apt install python3-pip)")
    check([*pip, "install", "--quiet", "--disable-pip-version-check", UV], "uv did not install")


def succeeds(command: list[str]) -> bool:
    """Run silently; True on status 0."""
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def check(command: list[str], otherwise: str) -> None:
    """Run with its output shown. Raises SetupError(otherwise) on failure."""
    environment = {"UV_HTTP_TIMEOUT": "600", **os.environ}
    status = subprocess.run(command, stdout=sys.stderr, env=environment, check=False).returncode
    if status:
        raise SetupError(f"{otherwise}: the lines above say why. Mend that, and the same command goes on from here.")


def environment_of(venv: Path, inherited: dict[str, str]) -> dict[str, str]:
    """The environment variables of an activated virtual environment."""
    environment = {name: value for name, value in inherited.items() if name != "PYTHONHOME"}
    environment["VIRTUAL_ENV"] = str(venv)
    environment["PATH"] = os.pathsep.join([str(venv / "bin"), inherited.get("PATH", os.defpath)])
    return environment


def become(arguments: list[str], venv: Path) -> NoReturn:
    """Replace this process by the command, run inside the environment. Raises SetupError for an unknown command."""
    environment = environment_of(venv, dict(os.environ))
    try:
        os.execvpe(arguments[0], arguments, environment)
    except FileNotFoundError:
        raise SetupError(f"there is no command {arguments[0]!r} in .venv or on the PATH") from None


def say(line: str) -> None:
    """One line of progress."""
    print(f"bootstrap: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
