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
def written_whole(place: Path, temporary_name: str) -> Iterator[Path]:
    """A local file to write in the block, which is at its place behind it, or not at all.

    Args:
        place: of the file.
        temporary_name: its name until then.
    """
    if is_url(place):
        with tempfile.TemporaryDirectory(prefix="d2v-") as folder:
            local = Path(folder) / place.name
            yield local
            filesystem, path = cast(Any, place).fs, cast(Any, place).path
            filesystem.put_file(str(local), path)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    local = place.with_name(temporary_name)
    try:
        yield local
        sync(local)
        local.replace(place)
    finally:
        local.unlink(missing_ok=True)


def remove_folder(place: Path) -> None:
    """Remove a folder with all that is in it."""
    if is_url(place):
        cast(Any, place).fs.rm(cast(Any, place).path, recursive=True)
    else:
        shutil.rmtree(place)
