"""docs/how-it-works.md names files and functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "how-it-works.md").read_text()
LIBRARY = ROOT / "src" / "d2v"


def expanded(name: str) -> list[Path]:
    """The files that a name in the page stands for; `<m>` and `<step>` stand for any folder or file."""
    pattern = re.sub(r"<\w+>", "*", name)
    return [path for base in (LIBRARY, ROOT) for path in base.glob(pattern.rstrip("/"))]


def defined(file: Path) -> set[str]:
    """Functions, classes and `Class.method` of a file."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w<>./]+\.py)`", PAGE))))
def test_a_file_exists(name: str) -> None:
    assert expanded(name), f"{name} is not there: correct docs/how-it-works.md"


def rows() -> list[tuple[str, str]]:
    """(functions, files) of each row of the batch table."""
    table = PAGE.split("## The way of a batch")[1].split("## ")[0]
    return [(cells[3], cells[4]) for line in table.splitlines() if (cells := line.split("|"))[1:2] and len(cells) == 6]


@pytest.mark.parametrize(("functions", "files"), [row for row in rows() if "`" in row[0]])
def test_a_step_of_a_batch_is_in_the_file_that_its_row_names(functions: str, files: str) -> None:
    known = {name for file in re.findall(r"`([^`]+)`", files) for path in expanded(file) for name in defined(path)}
    for function in re.findall(r"`([^`]+)`", functions):
        own = function.rpartition(".")[2]
        assert function in known or any(name.endswith(f".{own}") for name in known), f"{function} is not in {files}"
