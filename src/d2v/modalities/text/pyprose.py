"""The embedded corpus `pyprose`: English prose of the Python packages that this project installs.

Documents are files of packages: source code, of which docstrings, other texts and comments count, C headers, of which
comments do, and pages. Nothing is imported. `d2v.modalities.text.prose` makes paragraphs of a file, and of those that
share most of their runs of five words the first one stays. A package is in one split as a whole. One set of versions
gives one corpus (the locked ones: 20 million characters of 93 packages). Python's own documentation is not in it: that
is `pydocs`, so the two can be measured against each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from email import message_from_string
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path, PurePosixPath

from d2v.data import fingerprint
from d2v.data.sources.source import Item, Source
from d2v.errors import DataError
from d2v.modalities.text.duplicates import NearDuplicates
from d2v.modalities.text.prose import SUFFIXES, prose

RULES = 1
"""Raised when the same versions of packages give other paragraphs."""

LICENCES = {
    "Apache-2.0": (
        "databricks-sdk deepspeed diskcache docker dvc google-auth huggingface-hub kedro kedro-datasets "
        "mlflow opentelemetry-api opentelemetry-proto opentelemetry-sdk opentelemetry-semantic-conventions "
        "pyarrow pygtrie requests tokenizers"
    ),
    "Apache-2.0 AND MIT": "aiohttp",
    "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause AND BSD-3-Clause AND BSL-1.0 AND MIT": "torch",
    "Apache-2.0 OR BSD-2-Clause": "packaging",
    "Apache-2.0 OR BSD-3-Clause": "python-dateutil",
    "Apache-2.0 OR GPL-2.0-or-later": "dulwich",
    "BSD-2-Clause": "pyasn1 pygments torchaudio",
    "BSD-3-Clause": (
        "amqp antlr4-python3-runtime av billiard celery click cloudpickle cookiecutter flask fsspec gitpython "
        "httpcore2 httpx2 jinja2 joblib kombu mpmath networkx pandas prompt-toolkit protobuf psutil pycparser "
        "scikit-learn scipy soundfile sympy threadpoolctl tifffile torchvision werkzeug"
    ),
    "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0": "numpy",
    "MIT": (
        "alembic anyio attrs charset-normalizer dynaconf fastapi filelock fonttools graphene graphql-core "
        "gunicorn h11 huey hydra-core mako markdown-it-py more-itertools narwhals pydantic pydantic-core "
        "pydantic-settings pyparsing rich setuptools skops sqlalchemy tabulate tomlkit typer urllib3 wcwidth"
    ),
    "MIT-0": "cffi",
    "MIT-CMU": "pillow",
    "PSF-2.0": "typing-extensions",
    "the Matplotlib licence": "matplotlib",
}
"""Licence, by its SPDX name where it has one -> packages under it that a plain installation has and that hold 13,000
characters of prose or more. Strictly copyleft ones are left out."""
HELD_OUT = {
    "networkx": "test",
    "fonttools": "test",
    "prompt-toolkit": "test",
    "matplotlib": "val",
    "dulwich": "val",
    "pydantic": "val",
    "pydantic-core": "val",
    "pydantic-settings": "val",
}
"""Package -> its split, each about a twentieth of all characters; the others train."""
OTHER_FOLDERS = frozenset({"..", "_vendor", "vendor", "third_party", "licenses", "test", "tests", "testing"})
"""Folders of tests, of other packages and of licences."""


def pyprose_source() -> Source:
    """The prose of all packages of LICENCES that are installed.

    Raises:
        DataError: none of them is.
    """
    installed = {name: found for name in sorted(_licences()) if (found := _find(name))}
    if not installed:
        raise DataError(
            "None of the packages that the corpus pyprose is made of is installed with its list of files: install this "
            "project with pip or uv, or set text.ingest.source to text files of your own"
        )
    versions = {name: found.version for name, found in installed.items()}
    missing = sorted(_licences().keys() - installed.keys())
    remarks = [f"packages of pyprose that are not installed: {', '.join(missing)}"] if missing else []
    return Source(
        f"pyprose ({len(installed)} packages)",
        fingerprint.of_values({"rules": RULES, "versions": versions}),
        None,
        lambda start: islice(_items(installed), start, None),
        remarks=lambda: remarks,
        licence=_licence(installed),
    )


def _licences() -> dict[str, str]:
    """Package -> licence."""
    return {name: licence for licence, names in LICENCES.items() for name in names.split()}


def _licence(installed: Mapping[str, Distribution]) -> str:
    """All licences with their packages and versions, for model cards."""
    by_licence: dict[str, list[str]] = defaultdict(list)
    licences = _licences()
    for name, found in installed.items():
        by_licence[licences[name]].append(f"{name} {found.version}")
    return "; ".join(f"{licence}: {', '.join(names)}" for licence, names in sorted(by_licence.items()))


def _find(name: str) -> Distribution | None:
    """An installed package whose files are known."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found if found.files else None


def _items(installed: Mapping[str, Distribution]) -> Iterator[Item]:
    """One item for each file with prose: its paragraphs, with a blank line between them."""
    duplicates = NearDuplicates()
    for name, found in installed.items():
        for path, content in _files(found):
            new = [paragraph for paragraph in prose(path, content) if duplicates.is_new(paragraph)]
            if new:
                text = "\n\n".join(new)
                yield Item(f"{name}/{path}", text.encode(), split=HELD_OUT.get(name, "train"), group=name)


def _files(found: Distribution) -> Iterator[tuple[str, str]]:
    """(path, content) of the package's description and of its files that may hold prose, by their paths."""
    yield "METADATA", str(message_from_string(found.read_text("METADATA") or "").get_payload())
    for file in sorted(found.files or (), key=str):
        path = PurePosixPath(file)
        is_about = path.parts[0].endswith((".dist-info", ".data"))
        if path.suffix in SUFFIXES and not is_about and not OTHER_FOLDERS.intersection(path.parts):
            place = Path(str(found.locate_file(file)))
            if place.is_file():
                yield str(path), place.read_text(encoding="utf-8", errors="replace")
