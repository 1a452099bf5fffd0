"""Code outside `d2v.modalities` names no modality, so that a fourth one is a folder and a few lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from d2v.modalities import registry
from tests.conftest import ROOT

SCANNED = sorted(
    file.relative_to(ROOT).as_posix()
    for folder in ("src/d2v", "pipelines", "benchmarks")
    for file in (ROOT / folder).rglob("*.py")
    if not file.is_relative_to(ROOT / "src/d2v/modalities")
)
ALLOWED = {
    "src/d2v/interchange/fairseq_speech.py": "converts the reference's speech models",
    "src/d2v/interchange/fairseq_text.py": "converts the reference's text models",
    "src/d2v/interchange/fairseq_vision.py": "converts the reference's and BEiT's image models",
    "src/d2v/interchange/huggingface_audio.py": "converts transformers' Data2VecAudio",
    "src/d2v/interchange/huggingface_text.py": "converts transformers' Data2VecText",
    "src/d2v/interchange/huggingface_vision.py": "converts transformers' Data2VecVision",
    "src/d2v/data/sources/side_tables.py": "`text` is a column of LJSpeech's table",
    "benchmarks/papers.py": "data: which published model is of which modality",
    "benchmarks/cluster_run.py": "data: what is ingested",
    "benchmarks/scale.py": "data: what is trained",
    "benchmarks/readme.py": "data: which pictures the README shows",
    "benchmarks/search.py": "data: whose index is measured",
    "benchmarks/sizes.py": "data: noise of the shape of each modality's inputs",
    "benchmarks/encode/material.py": "data: files and models of each modality",
    "benchmarks/encode/ways.py": "data: what each modality is compared with",
    "benchmarks/input/cases.py": "data: what each case reads",
    "benchmarks/input/peers.py": "data: what each modality is compared with",
}
"""File -> why it may name one."""


def mentions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of strings in code that are a modality's name, and of imports out of a modality's folder."""
    documents = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in registry.MODALITIES and id(node) not in documents:
            yield node.lineno, repr(node.value)
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith(tuple(f"d2v.modalities.{modality}" for modality in registry.MODALITIES)):
                yield node.lineno, name


@pytest.mark.parametrize("name", SCANNED)
def test_a_file_names_no_modality(name: str) -> None:
    found = [f"{name}:{line} {what}" for line, what in mentions(ast.parse((ROOT / name).read_text()))]
    if name in ALLOWED:
        assert found, f"{name} is allowed to name a modality and does not any more: take it off the list"
    else:
        assert not found, "ask the modality instead (d2v.modalities.base.Modality)"


def test_the_scan_finds_names_and_imports() -> None:
    text = '"""vision"""\nif modality == "speech":\n    from d2v.modalities.text.config import TextConfig\n'
    assert sorted(mentions(ast.parse(text))) == [(2, "'speech'"), (3, "d2v.modalities.text.config")]


def test_allowed_files_are_scanned_and_branch_on_no_name() -> None:
    """What may name a modality is data there: no comparison with a name."""
    assert ALLOWED.keys() <= set(SCANNED)
    for name in ALLOWED:
        compared = [node for node in ast.walk(ast.parse((ROOT / name).read_text())) if isinstance(node, ast.Compare)]
        assert not [line for node in compared for line, _ in mentions(node)], name
