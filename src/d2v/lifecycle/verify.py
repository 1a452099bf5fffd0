"""Whether what lies on the disk is what was written: corpora, prepared data, models, the registry, DVC's cache."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from d2v.alignment.space import HEADS
from d2v.data import digests
from d2v.data.digests import DIGESTS
from d2v.data.ingest import one_line
from d2v.errors import CheckpointError
from d2v.model_folder import ENCODER
from d2v.progress import Progress
from d2v.tracking import versions
from d2v.tracking.registry import ALIGNED_DIGEST, FINETUNED_DIGEST, digest_of, finetuned_files

CACHES = (".dvc/cache/files/md5", ".dvc/cache")
"""Where DVC keeps files by their MD5, of version 3 and before."""
IN_REGISTRY = "restore the artifact store, register the weights again, or go back with d2v rollback"
_MD5 = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(\.dir)?")


@dataclass(frozen=True)
class Verified:
    """What was found in one folder.

    Attributes:
        place: the folder, or the registered version.
        files: that were checked.
        changed: names of those that are not as they were written, or gone.
        remedy: what to do about them.
    """

    place: str
    files: int
    changed: tuple[str, ...] = ()
    remedy: str = "restore it, or run the step that wrote it again"


def verify_folders(folders: Iterable[Path]) -> list[Verified]:
    """Check every folder below the given ones that was sealed when it was written."""
    sealed = [file.parent for folder in folders for file in sorted(folder.rglob(DIGESTS))]
    found = []
    with Progress("verify", len(sealed), 0) as progress:
        for folder in sealed:
            found.append(Verified(str(folder), len(digests.read(folder)), tuple(digests.changed(folder))))
            progress.advance(1, str(folder))
    return found


def verify_registry() -> list[Verified]:
    """Check the weights of every registered version against the digest that it was registered with.

    Raises:
        CheckpointError: the registry does not answer.
    """
    found = []
    for version in versions.all_versions():
        files: tuple[str, ...] = (HEADS,) if ALIGNED_DIGEST in version.tags else (ENCODER,)
        with tempfile.TemporaryDirectory(prefix="d2v-verify-") as scratch:
            try:
                model = versions.fetch(version, Path(scratch)).model
                files = finetuned_files(model) if FINETUNED_DIGEST in version.tags else files
                changed = () if digest_of(model, files) == version.digest else files
            except (CheckpointError, OSError) as error:
                changed = (one_line(str(error)),)
        found.append(Verified(str(version), len(files), changed, IN_REGISTRY))
    return found


def verify_dvc_cache(project: Path) -> list[Verified]:
    """Check every file of DVC's cache against its name, which is its MD5; empty without a cache."""
    for cache in (project / name for name in CACHES):
        if cache.is_dir():
            files = [file for file in sorted(cache.rglob("*")) if _MD5.fullmatch(file.relative_to(cache).as_posix())]
            changed = tuple(str(file.relative_to(cache)) for file in files if not _is_named_rightly(file))
            remedy = "remove these files; dvc pull or dvc repro brings them back"
            return [Verified(str(cache), len(files), changed, remedy)]
    return []


def _is_named_rightly(file: Path) -> bool:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "md5").hexdigest()
    return digest == file.parent.name + file.name.removesuffix(".dir")


def lines(found: Iterable[Verified]) -> Iterator[str]:
    """One line for every place with something wrong, and one for the whole."""
    files = places = 0
    for one in found:
        files, places = files + one.files, places + 1
        if one.changed:
            yield f"CHANGED {one.place}: {', '.join(one.changed)}: {one.remedy}"
    yield f"{files:,} files in {places:,} places were checked"
