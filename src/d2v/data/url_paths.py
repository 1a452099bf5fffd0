"""Files and folders that may lie behind an fsspec URL, such as in a bucket. A local one is a `Path`, and costs nothing
more; credentials come from the environment."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from d2v.data.disk import sync, write_json
from d2v.errors import ConfigError

INSTALL = "pip install 'd2v[s3]'"


def is_url(given: str | os.PathLike[str]) -> bool:
    """Whether this is an address and not a local path."""
    return "://" in str(given)


def place_of(given: str | os.PathLike[str]) -> Path:
    """A path, or for a URL what has the methods of one.

    Raises:
        ConfigError: a package is missing, or there is no such file system.
    """
    if not is_url(given):
        return Path(given)
    try:
        from upath import UPath
    except ImportError as error:
        raise ConfigError(f"{given} needs the package universal-pathlib: {INSTALL}") from error
    try:
        options = {"use_listings_cache": False} if str(given).startswith("s3") else {}  # others write there, too
        found = UPath(given, **options)
        found.fs  # noqa: B018 (it is opened here, and not in the middle of the work)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{given} cannot be opened ({error}): check the part before ://, and install the package that this file "
            f"system needs (s3fs for s3://, gcsfs for gs://), such as {INSTALL}"
        ) from error
    return cast(Path, found)


def absolute(place: Path) -> Path:
    """A path from the root, or a URL as it is."""
    return place if is_url(place) else place.absolute()


def put_json(place: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is the old one or the new one, whenever the process dies; in a bucket any write is so."""
    if is_url(place):
        place.write_text(json.dumps(content, indent=1) + "\n")
    else:
        write_json(place, content)


@contextmanager
def written_whole(place: Path, temporary: Path) -> Iterator[Path]:
    """A local file to write in the block, which is at its place behind it, or not at all.

    Args:
        place: of the file, in a folder that is there: work that goes on for a folder that was removed makes none anew.
        temporary: where it is until then, on the same disk; not used for a URL.
    """
    if is_url(place):
        with tempfile.TemporaryDirectory(prefix="d2v-") as folder:
            local = Path(folder) / place.name
            yield local
            filesystem, path = cast(Any, place).fs, cast(Any, place).path
            filesystem.put_file(str(local), path)
        return
    try:
        yield temporary
        sync(temporary)
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def local_copy(place: Path) -> Iterator[Path]:
    """A local file with this content for the block, which is the file itself where it lies on this machine."""
    if not is_url(place):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="d2v-") as folder:
        local = Path(folder) / place.name
        bring(place, local)
        yield local


def bring(place: Path, local: Path) -> None:
    """A copy of a file, which may be behind a URL. Raises FileNotFoundError if there is none."""
    if not is_url(place):
        shutil.copyfile(place, local)
        return
    cast(Any, place).fs.get_file(cast(Any, place).path, str(local))


def put(local: Path, place: Path) -> None:
    """Write a copy of a local file, which is there whole or not at all."""
    with written_whole(place, place.with_name(f".{place.name}.tmp")) as temporary:
        shutil.copyfile(local, temporary)


def inside(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name; nothing where there is no folder."""
    try:
        return sorted(folder.iterdir(), key=lambda place: place.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def copy_files(folder: Path, to: Path) -> None:
    """Copy the files of a folder behind a URL to another folder there, without fetching them."""
    to.mkdir(parents=True, exist_ok=True)
    for place in inside(folder):
        cast(Any, place).fs.cp_file(cast(Any, place).path, cast(Any, to / place.name).path)


def remove_folder(place: Path) -> None:
    """Remove a folder with all that is in it."""
    if is_url(place):
        cast(Any, place).fs.rm(cast(Any, place).path, recursive=True)
    else:
        shutil.rmtree(place)
