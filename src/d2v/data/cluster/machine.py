"""What a worker checks before it works for a driver: the same code, the same decoders, the same folder."""

from __future__ import annotations

import functools
import hashlib
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from uuid import uuid4

from d2v.errors import DataError

PACKAGES = (
    *("av", "imagecodecs", "numpy", "pillow", "pyarrow", "scipy", "soundfile", "soxr", "tifffile", "tokenizers"),
    *("torch", "torchaudio", "torchvision", "onnxruntime"),
)
"""Packages that decode, resample, tokenise, compute or write."""
SEEN = "driver.txt"
STOP = "stop"
"""A file of the work folder that ends the tasks of a driver that was interrupted."""


@functools.cache
def versions() -> dict[str, str]:
    """Name -> version of all that can change a byte: Python, this package's code, and the libraries that it calls."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2]), "d2v": code_digest()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def code_digest() -> str:
    """Digest of this package's code, in a few digits."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for file in sorted(package.glob("**/*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return f"code {digest.hexdigest()[:12]}"


def check(driver: Mapping[str, str], folder: Path, token: str) -> None:
    """Refuse to work for a driver of other versions, or one whose folder is not seen here.

    Args:
        driver: its `versions`.
        folder: its work folder.
        token: what it wrote there.

    Raises:
        DataError: with the names of what differs.
    """
    mine = versions()
    if differing := [name for name in driver if mine.get(name) != driver[name]]:
        said = ", ".join(f"{name} is {mine.get(name)} here and {driver[name]} there" for name in differing)
        raise DataError(
            f"The worker on {socket.gethostname()} could write other bytes than the command that it works for: {said}. "
            "Install the same versions on all machines and start the worker again"
        )
    try:
        is_seen = (folder / SEEN).read_text() == token
    except OSError:
        is_seen = False
    if not is_seen:
        raise DataError(
            f"The worker on {socket.gethostname()} does not see the folder {folder} of the command that it works for: "
            "put the data folder (D2V_DATA) on a file system that all machines have at the same path, or set "
            "cluster.exchange to a folder or a bucket that all of them see"
        )


def mark(folder: Path) -> str:
    """Begin to drive the tasks of a work folder; what workers are to find there."""
    token = uuid4().hex
    (folder / SEEN).write_text(token)
    (folder / STOP).unlink(missing_ok=True)
    return token


def is_stopped(folder: Path) -> bool:
    """Whether the driver of this work folder was interrupted, or the folder is gone."""
    return not (folder / SEEN).exists() or (folder / STOP).exists()
