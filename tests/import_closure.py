"""The files whose code a step can run: what its nodes import, what those files import, and so on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import grimp
from kedro.pipeline import Pipeline

from tests.conftest import ROOT

REGISTRY = "d2v.modalities.registry"
COMPUTED = {REGISTRY, "d2v", "d2v.moved", "d2v.finetuning.decoding.compiled", "d2v.tracking.further"}
"""Modules that import others by a name that they compute. The registry imports a modality, which is known here. `d2v`
and `d2v.moved` find names for users of the library; the project itself asks them for none. The last two import other
packages, and trackers, which shape no file."""


def closure_of_step(step: Pipeline, modality: str) -> set[PurePosixPath]:
    """Files that the nodes of a step import, directly or not, also inside functions; relative to the project.

    Args:
        step: of one modality. Nodes without outputs are left out: they change the model registry, not files.
        modality: what `registry.get` returns.
    """
    graph = _graph(modality)
    found: set[str] = set()
    for node in step.nodes:
        if node.outputs:
            function = inspect.unwrap(node.func)
            found |= {function.__module__}.union(*(_reached(graph, module) for module in _imports(graph, function)))
    return {file_of(module) for module in found}


def closure_of_module(module: str, modality: str) -> set[PurePosixPath]:
    """The same of a module that asks the registry for no more than a recipe's type."""
    graph = _graph(modality, known=("config",))
    return {file_of(module) for module in _reached(graph, module)}


@functools.cache
def _graph(modality: str, known: tuple[str, ...] = ("config", "modality")) -> grimp.ImportGraph:
    graph = grimp.build_graph("d2v", "pipelines", exclude_type_checking_imports=True, cache_dir=None)
    for module in known:
        graph.add_import(importer=REGISTRY, imported=f"d2v.modalities.{modality}.{module}")
    return graph


def _reached(graph: grimp.ImportGraph, module: str) -> set[str]:
    return {module} | graph.find_upstream_modules(module)


def _imports(graph: grimp.ImportGraph, function: Callable[..., Any]) -> Iterator[str]:
    """What a function imports, and what its module does for all functions."""
    home = inspect.getmodule(function)
    assert home is not None
    functions = [
        other for _, other in inspect.getmembers(home, inspect.isfunction) if other.__module__ == home.__name__
    ]
    elsewhere = [_lines(other) for other in functions if other is not function]
    for imported in graph.find_modules_directly_imported_by(home.__name__):
        lines = [
            detail["line_number"] for detail in graph.get_import_details(importer=home.__name__, imported=imported)
        ]
        if not all(any(line in other for other in elsewhere) for line in lines):
            yield imported


def _lines(function: Callable[..., Any]) -> range:
    lines, first = inspect.getsourcelines(function)
    return range(first, first + len(lines))


def file_of(module: str) -> PurePosixPath:
    """A module's file, relative to the project."""
    path = PurePosixPath("src" if module.partition(".")[0] == "d2v" else "", *module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
