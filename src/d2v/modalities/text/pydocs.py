"""The embedded corpus `pydocs`: Python's own documentation, as it ships with the interpreter.

Documents are the topics of `help()` (pydoc_data) and, for every module of the standard library, all its docstrings one
after the other. The modules are parsed, never imported, so nothing runs and the display, the network or optional
libraries do not matter. One version of Python gives one corpus (3.11: 79 topics and 645 modules, 2.25 million
characters).
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from d2v.data.sources.source import Item, Source
from d2v.errors import DataError

OTHER_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "pydoc_data"})
"""Folders of the standard library that are tests, caches or not part of it."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Document(NamedTuple):
    """One document: `key` is topics/<name> or modules/<dotted name>."""

    key: str
    text: str


def pydocs_source() -> Source:
    """All documents, split by their hash and without labels.

    Raises:
        DataError: this Python came without the sources of its standard library.
    """
    documents = _documents()
    digest = hashlib.sha256(f"{sys.version_info[:3]}".encode())
    for document in documents:
        digest.update(f"{document.key}\0{document.text}\0".encode("utf-8", "surrogatepass"))
    total = len(documents)
    name = f"pydocs (Python {sys.version.split()[0]})"
    return Source(name, digest.hexdigest(), total, _items, licence="PSF-2.0")


def _items(start: int) -> Iterator[Item]:
    for document in _documents()[start:]:
        yield Item(document.key, document.text.encode("utf-8", "surrogatepass"))


@functools.lru_cache(maxsize=1)
def _documents() -> tuple[Document, ...]:
    """Topics and modules, by name; 2 seconds."""
    documents = (*_topics(), *_modules(Path(sysconfig.get_path("stdlib"))))
    if not any(document.key.startswith("modules/") for document in documents):
        raise DataError(
            f"This Python has no sources of its standard library in {sysconfig.get_path('stdlib')}, from which the "
            "corpus pydocs is made: use a Python with them, or set text.ingest.source to text files of your own"
        )
    return documents


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics  # half a megabyte that other sources do not need

    for name, text in sorted(topics.items()):
        yield Document(f"topics/{name}", text)


def _modules(root: Path) -> Iterator[Document]:
    for path in _python_files(root):
        text = "\n\n".join(docstrings(path.read_bytes()))
        if text:
            names = path.relative_to(root).with_suffix("").parts
            yield Document("modules/" + ".".join(name for name in names if name != "__init__"), text)


def _python_files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in OTHER_FOLDERS)
        for file in sorted(files):
            if file.endswith(".py"):
                yield Path(folder, file)


def docstrings(source: bytes) -> list[str]:
    """Docstrings of a module, its classes and functions, in their order and each once; none if it does not parse.

    Example:
        >>> docstrings(b'def f():\\n    "Do it."')
        ['Do it.']
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    found = (ast.get_docstring(node) for node in nodes)
    return list(dict.fromkeys(text for text in found if text and text.strip()))
